"""logs and console, through the tunnel of a host."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator

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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words,
        env={**os.environ, **vcctl.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    return process.returncode, out, err


@pytest.mark.usefixtures("on_host")
async def test_the_serial_log_is_shown_as_it_is(vcctl: Vcctl) -> None:
    assert await run(vcctl, "logs", "web-1") == (0, b"booting\nlogin: \n", b"")
    assert (await run(vcctl, "logs", "instance/web-1", "--tail", "1"))[1] == b"login: \n"


@pytest.mark.usefixtures("on_host")
async def test_the_console_carries_bytes_both_ways(vcctl: Vcctl) -> None:
    code, out, err = await run(vcctl, "console", "web-1", stdin=b"hello quit\n")
    assert (code, out) == (0, b"HELLO QUIT\n")
    assert b"Ctrl-]" in err


async def test_the_log_of_an_instance_without_a_host_is_refused_with_the_reason(vcctl: Vcctl) -> None:
    await set_scene(vcctl)
    ended = await vcctl("logs", "web-1")
    assert ended.code == ExitCode.REFUSED
    assert "host" in ended.err
