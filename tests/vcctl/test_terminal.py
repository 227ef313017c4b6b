"""The console at a real terminal: raw while it lasts, left by Ctrl-], put back afterwards."""

import asyncio
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
