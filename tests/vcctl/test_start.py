"""A start of vcctl loads what the command line needs, and nothing is missing for it."""

import json
import subprocess
import sys

import pytest

from vcstack.vcctl.application import app
from vcstack.vcctl.main import load_commands, modules_of

LOAD = (
    "import sys, json, vcstack.vcctl.main as m; m.load_commands(sys.argv[1:]); print(json.dumps(sorted(sys.modules)))"
)
HEAVY = ("structlog", "jsonpath_ng", "rich.progress", "rich.traceback", "wsproto", "cryptography")


def modules_after(*words: str) -> set[str]:
    """Return what a fresh process has imported once the commands for these words are loaded."""
    done = subprocess.run([sys.executable, "-c", LOAD, *words], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_every_command_is_found_by_its_own_name() -> None:
    load_commands()
    names = [c.name or "" for c in app.registered_commands]
    assert len(names) > 25
    assert [n for n in names if len(modules_of([n])) != 1] == []


@pytest.mark.parametrize("words", [["version"], ["apply", "-f", "x"], ["get", "instances"], ["-p", "web", "delete"]])
def test_a_start_leaves_out_what_other_commands_need(words: list[str]) -> None:
    loaded = modules_after(*words)
    assert not {h for h in HEAVY if h in loaded}
    assert "vcstack.vcctl.commands.serial" not in loaded


def test_without_a_command_all_are_there_for_the_help() -> None:
    assert {"vcstack.vcctl.commands.serial", "vcstack.vcctl.commands.apply"} <= modules_after("--help")
