"""screenshot, top and vnc, through the tunnel of a host."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.scene import set_scene
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import TunnelStream
from vcstack.apiclient.instancemessages import DiskMetrics, InstanceMetrics
from vcstack.apiclient.tunnel import HostTunnel
from vcstack.specs.errors import Conflict
from vcstack.specs.kinds.instance import Instance
from vcstack.vcctl.errors import ExitCode

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100_000)


class Machine:
    """The host's end: a picture, figures that grow, and a screen that echoes in capitals."""

    def __init__(self) -> None:
        self.runs = True
        self.looks = 0

    async def answer(self, stream: TunnelStream) -> None:
        if not self.runs:
            raise Conflict("the machine does not run; start it first")
        if stream.request.service == "screenshot":
            await stream.send(PICTURE)
        elif stream.request.service == "metrics":
            self.looks += 1
            await stream.send(self._measure().to_json())
        else:
            while data := await stream.receive():
                await stream.send(data.upper())

    def _measure(self) -> InstanceMetrics:
        disk = DiskMetrics(
            device="vda", read_bytes=self.looks * 2**30, written_bytes=0, read_requests=0, write_requests=0
        )
        return InstanceMetrics(
            observed_at=datetime.now(UTC),
            machine="1",
            vcpus=2,
            cpu_nanoseconds=self.looks * 10**9,
            memory_bytes=512 * 2**20,
            resident_bytes=300 * 2**20,
            usable_bytes=400 * 2**20,
            disks=[disk],
        )


@pytest.fixture
async def machine(vcctl: Vcctl, hands: Hands) -> AsyncIterator[Machine]:
    """The instance is bound to host h1, whose tunnel is up."""
    await set_scene(vcctl, hands)
    settings = await vcctl.api.register("h1")
    await hands.client.patch_status(await hands.get(Instance, "web-1"), {"host": "h1"})
    found = Machine()
    tunnel = HostTunnel(Connection(settings), "h1", found.answer)
    task = asyncio.create_task(tunnel.run())
    await tunnel.connected.wait()
    yield found
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_screenshot_is_kept_where_it_is_asked_for(vcctl: Vcctl, machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    ended = await vcctl("screenshot", "web-1", "--file", str(file))
    assert ended.code == 0, ended.err
    assert file.read_bytes() == PICTURE
    machine.runs = False
    refused = await vcctl("screenshot", "web-1", "--file", str(tmp_path / "none.png"))
    assert refused.code == ExitCode.REFUSED
    assert "start it first" in refused.err
    assert not (tmp_path / "none.png").exists()


async def test_top_shows_what_happens_between_two_looks(vcctl: Vcctl, machine: Machine) -> None:
    ended = await vcctl("top", "web-1")
    assert ended.code == 0, ended.err
    heading, row = (line.split() for line in ended.lines)
    found = dict(zip(heading, row, strict=True))
    assert machine.looks == 2
    assert (found["NAME"], found["VCPUS"], found["MEMORY_MIB"]) == ("web-1", "2", "112")
    assert 0 < int(found["CPU"].rstrip("%")) <= 100
    assert 0 < float(found["READ_KIB/S"]) <= 2**20
    assert found["SENT_KIB/S"] == "0.0"
    machine.runs = False
    refused = await vcctl("top", "web-1")
    assert refused.code == ExitCode.REFUSED
    assert "does not run" in refused.err


async def test_vnc_carries_viewers_of_this_machine_to_the_screen(vcctl: Vcctl, machine: Machine) -> None:
    environ = {**os.environ, "VCCTL_CONFIG": str(vcctl.config), "COLUMNS": "200"}
    code = "from vcstack.vcctl.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, "vnc", "web-1", env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(150):
            told = (await process.stderr.readline()).decode()
        where = re.search(r"127\.0\.0\.1:(\d+)", told)
        assert where, told
        for _ in range(2):
            async with asyncio.timeout(150):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(where[1]))
                writer.write(b"rfb")
                assert await reader.readexactly(3) == b"RFB"
                writer.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
