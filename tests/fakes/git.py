"""Git in memory: one repository on one server, for worlds that time is played in. It outlives every program."""

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Any, Self

from vcstack.applying.manifests import SUFFIXES, BadManifest, load_text
from vcstack.controllers.backends.git import Commit, GitError, Remote, Signers

Files = Mapping[str, str]


class MemoryGit:
    """Passes the contract tests of ``GitRepositories``; whatever is fetched is the one repository there is."""

    def __init__(self) -> None:
        self.commits: tuple[tuple[Commit, Files], ...] = ()
        """Of branch main, the newest last."""

    def copy(self) -> Self:
        """Return another one with the same history."""
        other = type(self)()
        other.commits = self.commits
        return other

    def commit(self, files: Files, subject: str = "Change") -> str:
        """Push a commit that has these files, and return its name."""
        before = self.commits[-1][0].name if self.commits else ""
        name = sha1(repr((before, subject, sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
        self.commits += ((Commit(name, 1_700_000_000 + len(self.commits), subject), dict(files)),)
        return name

    async def fetch(self, uid: str, remote: Remote) -> Commit:
        if remote.ref != "refs/heads/main" or not self.commits:
            raise GitError("RefNotFound", f"the repository has no {remote.ref}", final=True)
        return self.commits[-1][0]

    async def has(self, uid: str, commit: str) -> bool:
        return any(found.name == commit for found, _ in self.commits)

    async def is_ancestor(self, uid: str, old: str, new: str) -> bool:
        names = [commit.name for commit, _ in self.commits]
        return old in names and new in names and names.index(old) <= names.index(new)

    async def verify(self, uid: str, commit: str, signers: Signers) -> str:
        raise GitError("NotSigned", f"the commit {commit[:10]} is not signed", final=True)

    async def read(
        self, uid: str, commit: str, folders: Sequence[str], identities: Sequence[str] = ()
    ) -> dict[str, Any]:
        files = next(files for found, files in self.commits if found.name == commit)
        read = []
        for folder in folders:
            inside = sorted(p for p in files if not folder or p.startswith(f"{folder}/"))
            if not inside:
                return {"reason": "PathNotFound", "message": f"there is no folder {folder} in the commit"}
            documents: list[tuple[Any, str]] = []
            try:
                for path in (p for p in inside if p.endswith(SUFFIXES)):
                    loaded = load_text(files[path].encode(), path)
                    documents += [(document, f"{path}, object {n + 1}") for n, document in enumerate(loaded)]
            except BadManifest as error:
                return {"reason": "BadManifest", "message": error.message}
            if not documents:
                return {"reason": "NoManifests", "message": "there is no object"}
            read.append(documents)
        return {"folders": read}

    def remove(self, uid: str) -> None:
        """Keep nothing of it; there is nothing."""
