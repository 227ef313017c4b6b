"""What the controller of Git sources needs of Git: the real one on a real server, and the one in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.git import Files, MemoryGit
from tests.fixtures.git_server import GitRepository, GitServer
from tests.kinds.test_gitsource import loopback, network
from vcstack.controllers.backends.git import GitError, GitRepositories, Remote

Push = Callable[[Files, str], str]


@pytest.fixture(params=["real", "memory"])
def git(request: pytest.FixtureRequest, git_server: GitServer, tmp_path: Path) -> Iterator[tuple[Any, Remote, Push]]:
    if request.param == "memory":
        memory = MemoryGit()
        yield memory, Remote(url="http://git.example.com/x", ref="refs/heads/main"), memory.commit
        return
    repository, outbound = git_server.repository(), loopback(git_server.port)
    real = GitRepositories(tmp_path / "real", outbound)
    yield real, Remote(url=git_server.url(), ref="refs/heads/main"), _pushing(repository)
    real.close()
    outbound.close()


def _pushing(repository: GitRepository) -> Push:
    def push(files: Files, subject: str) -> str:
        for old in [p for p in repository.work.rglob("*") if p.is_file() and ".git" not in p.parts]:
            old.unlink()
        for path, text in files.items():
            repository.write(path, text)
        return repository.commit(subject)

    return push


async def test_the_newest_commit_is_fetched_and_its_manifests_are_read(git: tuple[Any, Remote, Push]) -> None:
    repositories, remote, push = git
    first = push({"cloud/a.yaml": network("a")}, "One")
    found = await repositories.fetch("u", remote)
    assert (found.name, found.subject) == (first, "One")
    second = push({"cloud/a.yaml": network("a"), "cloud/b.yaml": network("b"), "note.txt": "-"}, "Two")
    found = await repositories.fetch("u", remote)
    assert (found.name, found.subject) == (second, "Two")
    assert found.time > 0
    (folder,) = (await repositories.read("u", second, ["cloud"]))["folders"]
    assert [where for _, where in folder] == ["cloud/a.yaml, object 1", "cloud/b.yaml, object 1"]
    assert [document["metadata"]["name"] for document, _ in folder] == ["a", "b"]
    for name, here in ((first, True), (second, True), ("0" * 40, False)):
        assert await repositories.has("u", name) == here
    assert await repositories.is_ancestor("u", first, second)
    assert not await repositories.is_ancestor("u", second, first)
    assert not await repositories.is_ancestor("u", "0" * 40, second)


async def test_what_cannot_be_fetched_or_read_has_a_reason(git: tuple[Any, Remote, Push]) -> None:
    repositories, remote, push = git
    commit = push({"cloud/a.yaml": "kind: [", "empty/note.txt": "-"}, "Bad")
    with pytest.raises(GitError) as none:
        await repositories.fetch("u", Remote(url=remote.url, ref="refs/heads/nowhere"))
    assert none.value.reason == "RefNotFound"
    await repositories.fetch("u", remote)
    for folder, reason in (("cloud", "BadManifest"), ("nowhere", "PathNotFound"), ("empty", "NoManifests")):
        assert (await repositories.read("u", commit, [folder]))["reason"] == reason
    with pytest.raises(GitError):
        await repositories.fetch("u", Remote(url=remote.url, ref="refs/heads/nowhere"))
    assert (await repositories.read("u", commit, ["cloud"]))["reason"] == "BadManifest", "what was here is here still"
    repositories.remove("u")
    await repositories.fetch("u", remote)
