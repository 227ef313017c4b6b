"""The example pipelines: their script against a real API, as a service account that may not do everything."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.vcctl.harness import Ended, Vcctl
from tests.vcctl.test_apply import network
from tests.vcctl.test_login_access import Scene, binding, scene  # noqa: F401 - a fixture
from vcstack.vcctl.errors import ExitCode

FOLDER = Path(__file__).parents[2] / "examples" / "pipelines"
SCRIPT = FOLDER / "vcstack.sh"


class Pipeline:
    """Runs the script in a checkout whose manifests are in ``cloud/``, with nothing but what it asks for."""

    def __init__(self, vcctl: Vcctl, key: str) -> None:
        self._vcctl = vcctl
        self._key = key
        self.folder = vcctl.folder / "checkout"
        self.scratch = vcctl.folder / "scratch"
        self.scratch.mkdir()
        self.comment = self.folder / "comment.md"
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.scratch),
            "TMPDIR": str(self.scratch),
            "VCSTACK_API_URL": vcctl.api.url,
            "VCSTACK_CA": vcctl.api.installation.ca_cert.read_text(),
            "VCSTACK_API_KEY": key,
            "VCSTACK_PROJECT": "demo",
            "VCSTACK_SET": "shop",
            **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}),
        }

    async def __call__(self, *words: str, **environ: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", str(SCRIPT), *words,
            cwd=self.folder, env=self.environ | environ, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        ended = Ended(process.returncode, out.decode(), err.decode())
        assert self._key not in ended.out + ended.err
        assert [path.name for path in self.scratch.iterdir()] == []
        return ended

    async def review(self, **environ: str) -> tuple[int, str]:
        """Return how it ended, and the comment."""
        self.comment.unlink(missing_ok=True)
        ended = await self("review", "comment.md", **environ)
        text = self.comment.read_text()
        assert "log says why" in text or text == ended.out
        return ended.code, text

    def write(self, *documents: dict[str, Any]) -> None:
        self._vcctl.write("checkout/cloud/below/a.yaml", *documents)


@pytest.fixture
async def pipeline(scene: Scene) -> Pipeline:  # noqa: F811
    await scene.apply(binding("ci", "ServiceAccount:ci", "member", "demo"))
    words = ("auth", "key", "create", "ci", "--service-account", "ci", "-p", "demo")
    found = Pipeline(scene.vcctl, (await scene.ok("admin", *words)).strip())
    found.write(network("web", mtuBytes=1400), network("old"))
    return found


async def test_a_pipeline_shows_what_would_change_and_makes_it_so(pipeline: Pipeline, vcctl: Vcctl) -> None:
    code, comment = await pipeline.review()
    assert (code, "2 to be created; 0 unchanged." in comment) == (0, True), comment
    assert (await vcctl("get", "network", "web")).code == ExitCode.NOT_FOUND
    done = await pipeline("deploy")
    assert (done.code, "network/web created" in done.out) == (0, True), done

    code, comment = await pipeline.review()
    assert (code, "Nothing; 2 unchanged." in comment) == (0, True), comment
    assert (await pipeline("deploy")).code == 0

    pipeline.write(network("web", mtuBytes=1300))
    code, comment = await pipeline.review()
    assert (code, "1 to be changed, 1 to be deleted; 0 unchanged." in comment) == (0, True), comment
    done = await pipeline("deploy")
    assert (done.code, "network/old pruned" in done.out) == (0, True), done
    assert (await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec.mtuBytes}")).strip() == "1300"


async def test_what_would_be_refused_fails_the_review_and_of_its_deployment_nothing_is_done(
    pipeline: Pipeline, vcctl: Vcctl
) -> None:
    foreign = network("theirs")
    foreign["metadata"]["project"] = "other"
    pipeline.write(network("web"), foreign)
    code, comment = await pipeline.review()
    assert code > 1
    assert "1 to be created, 1 refused" in comment
    assert "### Network `theirs` in project `other` **would be refused**" in comment
    done = await pipeline("deploy")
    assert (done.code, "network/theirs (project other) would be refused" in done.out) == (ExitCode.REFUSED, True)
    assert (await vcctl("get", "network", "web")).code == ExitCode.NOT_FOUND


async def test_a_review_that_finds_nothing_out_fails_and_says_so_in_the_comment(pipeline: Pipeline) -> None:
    code, comment = await pipeline.review(VCSTACK_API_KEY="key:wrong")
    assert code > 1
    assert "could not be found out" in comment
    ended = await pipeline("review", "comment.md", VCSTACK_SET="")
    assert (ended.code > 0, "VCSTACK_SET" in ended.err) == (True, True)
    assert (await pipeline("review")).code == 2


def test_the_pipelines_run_the_script_with_all_that_it_asks_for() -> None:
    needed = set(re.findall(r'"\$\{(VCSTACK_\w+):\?\}"', SCRIPT.read_text()))
    assert len(needed) == 5
    github: dict[str, Any] = yaml.safe_load((FOLDER / "github.yml").read_text())
    for job, words in (("review", "review comment.md"), ("deploy", "deploy")):
        steps = [step for step in github["jobs"][job]["steps"] if step.get("run") == f"sh ci/vcstack.sh {words}"]
        assert len(steps) == 1
        assert needed <= {*github["env"], *steps[0]["env"]}
        assert github["jobs"][job]["permissions"] == {"contents": "read"}
    assert "VCSTACK_API_KEY" not in str(github["env"]) + str(github["jobs"]["comment"])
    text = (FOLDER / "gitlab.yml").read_text()
    gitlab: dict[str, Any] = yaml.safe_load(text)
    assert gitlab["review"]["script"] == ["sh ci/vcstack.sh review comment.md"]
    assert gitlab["deploy"]["script"] == ["sh ci/vcstack.sh deploy"]
    given_in_the_project = set(re.findall(r"VCSTACK_\w+", text.partition("variables:\n")[0]))
    assert needed <= {*gitlab["variables"], *given_in_the_project}
