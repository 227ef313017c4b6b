"""screenshot, vnc and top: what is on an instance's screen, and what it uses."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.apiclient.instancemessages import InstanceMetrics, InstanceStream
from vcstack.apiclient.instances import InstanceViews
from vcstack.apiclient.websocket import ByteSocket
from vcstack.applying.concurrency import gather
from vcstack.applying.sets import project_in
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import INSTANCES, InstanceName, InstanceNames
from vcstack.vcctl.errors import exit_code_of, show_error
from vcstack.vcctl.printing import Table
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session

CHUNK_BYTES = 32 * 1024
LOOK_SECONDS = 1.0
"""Between the two observations that rates are made of."""
MIB = 2**20
LOOPBACK = "127.0.0.1"


@command("screenshot", panel=INSTANCES, examples="vcctl screenshot web-1 --file web-1.png")
async def screenshot(
    session: Session,
    name: InstanceName,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Default INSTANCE.png.")] = None,
) -> None:
    """Keep a picture of what is on an instance's screen, as PNG."""
    plain, views = await _views_of(session, name)
    picture = await views.take_screenshot(plain)
    target = file or Path(f"{plain}.png")
    await asyncio.to_thread(target.write_bytes, picture)
    session.out.print(f"{escape(str(target))} written, {len(picture)} bytes", soft_wrap=True)


@command(
    "top",
    panel=INSTANCES,
    examples="""
    vcctl top web-1
    vcctl top web-1 web-2
    """,
)
async def top(session: Session, names: InstanceNames) -> int:
    """Show what running instances use: CPU, memory, disks and network, over one second."""
    found = [await _views_of(session, name) for name in names]
    before = await gather(partial(views.measure, name) for name, views in found)
    await asyncio.sleep(LOOK_SECONDS)
    after = await gather(partial(views.measure, name) for name, views in found)
    table = Table(("NAME", "VCPUS", "CPU", "MEMORY_MIB", "READ_KIB/S", "WRITTEN_KIB/S", "RECEIVED_KIB/S", "SENT_KIB/S"))
    failures: list[Exception] = []
    for (name, _), first, second in zip(found, before, after, strict=True):
        if isinstance(first, Exception) or isinstance(second, Exception):
            failures += [each for each in (first, second) if isinstance(each, Exception)][:1]
        else:
            table.add([name, *_cells(first, second)])
    table.print(session.out)
    for error in failures:
        show_error(session.err, error)
    return exit_code_of(failures[0]) if failures else 0


@command("vnc", panel=INSTANCES, examples="vcctl vnc web-1 --port 5901")
async def vnc(
    session: Session,
    name: InstanceName,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of 127.0.0.1; default a free one.")] = 0,
) -> None:
    """Let VNC viewers on this machine see an instance's screen, until Ctrl-C.

    Whoever can connect to the port here sits at the screen: anybody on this machine.
    """
    plain, views = await _views_of(session, name)
    async with views.open(plain, InstanceStream.VNC):
        pass  # what is refused is said now, not to a viewer that shows nothing

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with views.open(plain, InstanceStream.VNC) as screen:
                await _carry(screen, reader, writer)
        except ApiError as error:
            show_error(session.err, error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, port)
    address = server.sockets[0].getsockname()
    session.err.print(f"The screen of {escape(plain)} is at {address[0]}:{address[1]}. Ctrl-C ends.", soft_wrap=True)
    async with server:
        await server.serve_forever()


async def _carry(screen: ByteSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy both ways until one side ends."""

    async def show() -> None:
        while (data := await screen.receive()) is not None:
            writer.write(data)
            await writer.drain()

    async def give() -> None:
        while data := await reader.read(CHUNK_BYTES):
            await screen.send(data)

    tasks = [asyncio.ensure_future(show()), asyncio.ensure_future(give())]
    with contextlib.suppress(ConnectionError):
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()


async def _views_of(session: Session, name: str) -> tuple[str, InstanceViews]:
    """Return the instance's plain name and what shows it."""
    [plain] = parse_objects([name], Instance.KIND)
    wire = await get_object(session, get_kind(Instance.KIND), plain)
    return plain, InstanceViews(session.client.connection, project_in(wire) or "")


def _cells(before: InstanceMetrics, after: InstanceMetrics) -> list[str]:
    """Return what happened between two observations; of different runs there is nothing to tell."""
    seconds = (after.observed_at - before.observed_at).total_seconds()
    if before.machine != after.machine or seconds <= 0:
        return [str(after.vcpus), "-", str(after.memory_bytes // MIB), *["-"] * 4]

    def rate(pick: Callable[[InstanceMetrics], int]) -> str:
        return f"{(pick(after) - pick(before)) / seconds / 1024:.1f}"

    cpu = (after.cpu_nanoseconds - before.cpu_nanoseconds) / seconds / 1e7
    return [
        str(after.vcpus),
        f"{cpu:.0f}%",
        str(_used(after) // MIB),
        rate(lambda m: sum(d.read_bytes for d in m.disks)),
        rate(lambda m: sum(d.written_bytes for d in m.disks)),
        rate(lambda m: sum(i.received_bytes for i in m.network_interfaces)),
        rate(lambda m: sum(i.sent_bytes for i in m.network_interfaces)),
    ]


def _used(metrics: InstanceMetrics) -> int:
    """Return what the guest says that it uses, else what it takes of its host."""
    usable = metrics.usable_bytes
    return metrics.resident_bytes if usable is None else max(0, metrics.memory_bytes - usable)
