"""Contexts, connection errors, versions, completion: what a new user meets first."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.vcctl.harness import Vcctl
from tests.vcctl.scene import set_scene
from vcstack.vcctl.contexts import locate
from vcstack.vcctl.errors import ExitCode


def test_the_context_file_is_looked_for_in_the_documented_order(tmp_path: Path) -> None:
    prefix, home = tmp_path / "checkout" / ".venv", tmp_path / "home"
    own = home / ".config" / "vcstack" / "config.yaml"
    local = tmp_path / "checkout" / "var" / "vcctl.yaml"
    assert locate({}, prefix=prefix, home=home) == own
    local.parent.mkdir(parents=True)
    local.touch()
    assert locate({}, prefix=prefix, home=home) == local
    assert locate({"VCSTACK_STATE": "/s"}, prefix=prefix, home=home) == Path("/s/vcctl.yaml")
    own.parent.mkdir(parents=True)
    own.touch()
    assert locate({"VCSTACK_STATE": "/s"}, prefix=prefix, home=home) == own
    assert locate({"VCCTL_CONFIG": "/c"}, prefix=prefix, home=home) == Path("/c")


async def test_without_any_context_the_fix_is_named(vcctl: Vcctl) -> None:
    ended = await vcctl("get", "instances", VCCTL_CONFIG=str(vcctl.folder / "nothing.yaml"))
    assert ended.code == ExitCode.LOCAL
    assert "set-context" in ended.err


async def test_contexts_are_set_listed_used_and_deleted(vcctl: Vcctl) -> None:
    await vcctl.ok("config", "set-context", "other", "--api-url", "https://10.0.0.1:8443/", "-p", "shop")
    assert stat.S_IMODE(vcctl.config.stat().st_mode) == 0o600
    assert "https://10.0.0.1:8443 " in await vcctl.ok("config", "get-contexts")
    await vcctl.ok("config", "use-context", "other")
    assert yaml.safe_load(vcctl.config.read_text())["currentContext"] == "other"
    assert "shop" in await vcctl.ok("config", "view")
    assert (await vcctl("config", "use-context", "nope")).code == ExitCode.LOCAL
    await vcctl.ok("config", "set-context", "other", "--api-key-file", str(vcctl.folder / "ci.key"))
    assert f"apiKeyFile: {vcctl.folder / 'ci.key'}" in await vcctl.ok("config", "view")
    assert (await vcctl("config", "set-context", "third")).code == ExitCode.USAGE
    assert (await vcctl("config", "set-context", "third", "--api-url", "http://x")).code == ExitCode.USAGE
    await vcctl.ok("config", "delete-context", "other")
    assert "other" not in vcctl.config.read_text()


async def test_use_project_sets_the_project_that_is_meant(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("config", "use-project", "elsewhere")
    assert ended.code == 0
    assert "does not exist yet" in ended.err
    assert (await vcctl("get", "instances")).out == ""
    await vcctl.ok("config", "use-project", "demo")
    assert "web-1" in await vcctl.ok("get", "instances")


async def test_a_kind_of_a_project_needs_one(vcctl: Vcctl) -> None:
    vcctl.context.pop("project")
    vcctl.config.write_text(yaml.safe_dump({"currentContext": "test", "contexts": [vcctl.context]}))
    ended = await vcctl("get", "instances")
    assert ended.code == ExitCode.USAGE
    assert "use-project" in ended.err


@pytest.mark.parametrize(
    ("text", "says"), [("a: [", "config.yaml"), ("contexts: 3", "contexts"), ("nonsense: 1", "nonsense")]
)
async def test_a_broken_context_file_is_named_with_its_fault(vcctl: Vcctl, text: str, says: str) -> None:
    vcctl.config = vcctl.folder / "config.yaml"
    vcctl.config.write_text(text)
    ended = await vcctl("get", "hosts", VCCTL_CONFIG=str(vcctl.config))
    assert ended.code == ExitCode.LOCAL
    assert says in ended.err


async def test_an_api_that_is_not_there_is_said_with_its_url(vcctl: Vcctl) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
        await vcctl.ok("config", "set-context", "test", "--api-url", url)
        ended = await vcctl("get", "hosts")
    assert ended.code == ExitCode.UNREACHABLE
    assert url in ended.err
    assert "Traceback" not in ended.err


async def test_a_certificate_that_is_not_trusted_is_said_so(vcctl: Vcctl) -> None:
    vcctl.context.pop("caFile")
    vcctl.config.write_text(yaml.safe_dump({"currentContext": "test", "contexts": [vcctl.context]}))
    ended = await vcctl("get", "hosts")
    assert ended.code == ExitCode.UNREACHABLE
    assert "not trusted" in ended.err
    assert "caFile" in ended.err


async def test_a_wrong_token_and_a_missing_one_are_said_so(vcctl: Vcctl) -> None:
    (vcctl.folder / "token").write_text("wrong")
    ended = await vcctl("get", "hosts")
    assert ended.code == ExitCode.REFUSED
    assert "vcctl config view" in ended.err
    (vcctl.folder / "token").unlink()
    ended = await vcctl("get", "hosts")
    assert ended.code == ExitCode.LOCAL
    assert "token" in ended.err


async def test_version_is_shown_even_when_the_api_is_away(vcctl: Vcctl) -> None:
    assert "server" in await vcctl.ok("version")
    await vcctl.ok("config", "set-context", "test", "--api-url", "https://127.0.0.1:1")
    ended = await vcctl("version")
    assert ended.code == ExitCode.UNREACHABLE
    assert "client" in ended.out
    assert "cannot reach https://127.0.0.1:1/version: Connection refused" in ended.err
    assert (await vcctl("version", "--client")).code == ExitCode.OK


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from vcstack.vcctl.main import main; main()"
    env = {**os.environ, **environ}
    return subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_VCCTL_COMPLETE" in done.stdout


def test_an_unknown_shell_or_command_is_a_usage_error() -> None:
    assert run("completion", "tcsh").returncode == ExitCode.USAGE
    done = run("gte")
    assert done.returncode == ExitCode.USAGE
    assert "get" in done.stderr


async def test_kinds_and_names_are_completed(vcctl: Vcctl) -> None:
    await set_scene(vcctl)

    async def complete(line: str) -> list[str]:
        """Press Tab until there is a proposal: of an API that does not answer at once there is none."""
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_VCCTL_COMPLETE": "complete_bash"}
        async with asyncio.timeout(150):
            while not (proposed := (await asyncio.to_thread(run, **vcctl.environ, **words)).stdout.split()):
                pass
        return proposed

    assert "instances" in await complete("vcctl get inst")
    assert await complete("vcctl get instance we") == ["web-1"]
    assert await complete("vcctl get instance/we") == ["instance/web-1"]
    assert await complete("vcctl stop d") == ["db-1"]
    assert await complete("vcctl get vm -p de") == ["demo"]


def test_every_command_has_a_help_with_examples() -> None:
    from vcstack.vcctl.application import app
    from vcstack.vcctl.main import load_commands

    load_commands()
    groups = [g.typer_instance for g in app.registered_groups if g.typer_instance is not None]
    registered = [c for each in (app, *groups) for c in each.registered_commands]
    assert len(registered) > 30
    for command in registered:
        assert "Examples:" in str(command.help), command.name


def test_help_says_of_a_flag_what_it_does_and_wraps_as_the_terminal() -> None:
    done = run("apply", "--help", COLUMNS="80")
    assert "<bool>" not in done.stdout
    assert "FILE|DIR|-" in done.stdout
    text = "Fields that you" + done.stdout.partition("Fields that you")[2].partition("Examples:")[0]
    lines = [line.strip() for line in text.strip().splitlines()]
    # But for the last, a line is full: the next one's first word would not have had room.
    assert all(len(line) + 1 + len(after.split()[0]) > 78 for line, after in pairwise(lines))
