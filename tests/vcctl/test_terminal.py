"""The console at a real terminal: raw while it lasts, left by Ctrl-], put back afterwards."""

import asyncio
import contextlib
import os
import pty
import subprocess
import sys
import termios

import pytest

from tests.vcctl.harness import Vcctl
from tests.vcctl.test_serial import on_host  # noqa: F401 - a fixture


async def read_until(descriptor: int, word: bytes) -> bytes:
    seen = b""
    while word not in seen:
        seen += await asyncio.to_thread(os.read, descriptor, 1024)
    return seen


@pytest.mark.usefixtures("on_host")
async def test_control_bracket_leaves_and_the_terminal_is_as_before(vcctl: Vcctl) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", "console", "web-1",
        env={**os.environ, **vcctl.environ}, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    await process.stderr.readline()
    while termios.tcgetattr(theirs)[3] & termios.ICANON:
        await asyncio.sleep(0.02)
    os.write(ours, b"ab\x03")
    assert b"AB\x03" in await read_until(ours, b"\x03")
    os.write(ours, b"\x1d")
    assert await process.wait() == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


async def run_at_a_terminal(vcctl: Vcctl, *words: str) -> str:
    """Run a command whose output is a terminal, and return what it gets."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words,
        env={**os.environ, **vcctl.environ}, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while data := await asyncio.to_thread(os.read, ours, 1024):
            seen += data
    await process.wait()
    os.close(ours)
    return seen.decode()


HOSTILE = "\x1b[2J\x1b]0;mine\x07\x9b2J\u202ereversed"


@pytest.mark.parametrize(
    "words",
    [
        ("describe", "network", "web"),
        ("get", "network", "web", "-o", "yaml"),
        ("get", "network", "web", "-o", "jsonpath={.metadata.annotations.note}"),
        ("diff", "-f", "changed.yaml"),
        ("label", "network", "web", f"{HOSTILE}=x"),
    ],
)
async def test_what_a_tenant_wrote_is_shown_on_a_terminal_and_not_obeyed_by_it(
    vcctl: Vcctl, words: tuple[str, ...]
) -> None:
    network = {"kind": "Network", "metadata": {"name": "web", "annotations": {"note": f"10:on:20 {HOSTILE}"}}}
    project = {"kind": "Project", "metadata": {"name": "demo"}, "spec": {}}
    await vcctl.ok("apply", "-f", vcctl.write("both.yaml", project, {**network, "spec": {}}))
    network["metadata"] = {"name": "web", "annotations": {"note": f"other {HOSTILE}"}}
    vcctl.write("changed.yaml", {**network, "spec": {}})
    shown = await run_at_a_terminal(
        vcctl, *(word.replace("changed.yaml", f"{vcctl.folder}/changed.yaml") for word in words)
    )
    assert "reversed" in shown
    for command in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\u202e"):
        assert command not in shown
    if words[0] != "label":
        assert "10:on:20" in shown
