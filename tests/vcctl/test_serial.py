"""logs and console, through the tunnel of a host."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import TunnelStream
from vcstack.apiclient.tunnel import HostTunnel
from vcstack.specs.kinds.instance import Instance
from vcstack.vcctl.errors import ExitCode

LINES = [b"booting\n", b"login: \n"]


async def answer(stream: TunnelStream) -> None:
    """The host's end: a log of two lines, and a console that echoes in capitals until told to quit."""
    if stream.request.service == "log":
        for line in LINES[-(stream.request.tail_lines or len(LINES)) :]:
            await stream.send(line)
        return
    while data := await stream.receive():
        await stream.send(data.upper())
        if b"quit" in data:
            return


@pytest.fixture
async def on_host(vcctl: Vcctl, hands: Hands) -> AsyncIterator[None]:
    """The instance is bound to host h1, whose tunnel is up."""
    await set_scene(vcctl, hands)
    settings = await vcctl.api.register("h1")
    await hands.client.patch_status(await hands.get(Instance, "web-1"), {"host": "h1"})
    tunnel = HostTunnel(Connection(settings), "h1", answer)
    task = asyncio.create_task(tunnel.run())
    await tunnel.connected.wait()
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def run(vcctl: Vcctl, *words: str, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
    process = await begin(vcctl, *words)
    out, err = await process.communicate(stdin)
    return process.returncode, out, err


async def begin(vcctl: Vcctl, *words: str) -> Any:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words,
        env={**os.environ, **vcctl.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.usefixtures("on_host")
async def test_the_serial_log_is_shown_as_it_is(vcctl: Vcctl) -> None:
    assert await run(vcctl, "logs", "web-1") == (0, b"booting\nlogin: \n", b"")
    assert (await run(vcctl, "logs", "instance/web-1", "--tail", "1"))[1] == b"login: \n"


@pytest.mark.usefixtures("on_host")
async def test_the_console_carries_bytes_both_ways_until_the_other_side_ends_it(vcctl: Vcctl) -> None:
    process = await begin(vcctl, "console", "web-1")
    process.stdin.write(b"hello quit\n")
    # Its input stays open: at the end of it only a moment is given to what is still to come.
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    assert (await process.wait(), out) == (0, b"HELLO QUIT\n")
    assert b"Ctrl-]" in err
    assert b"closed by the other side" in err


@pytest.mark.usefixtures("on_host")
async def test_the_console_is_left_at_the_end_of_what_is_piped_into_it(vcctl: Vcctl) -> None:
    process = await begin(vcctl, "console", "web-1")
    process.stdin.write(b"hello\n")
    assert await process.stdout.readline() == b"HELLO\n"
    out, err = await process.communicate(b"")  # the end of it
    assert (process.returncode, out) == (0, b"")
    assert b"Left." in err


async def test_the_log_of_an_instance_without_a_host_is_refused_with_the_reason(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("logs", "web-1")
    assert ended.code == ExitCode.REFUSED
    assert "host" in ended.err
