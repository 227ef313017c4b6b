"""logs and console: an instance's serial port."""

import asyncio
from contextlib import aclosing
from typing import Annotated

import typer

from vcstack.apiclient.tunnel import open_console
from vcstack.apiclient.websocket import ByteSocket
from vcstack.applying.sets import project_in
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import INSTANCES, InstanceName
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import raw_terminal, read_keys, write_raw

QUIET_SECONDS = 2.0
"""With piped input the console is left when the guest has said nothing for that long after the input's end."""


@command(
    "logs",
    panel=INSTANCES,
    examples="""
    vcctl logs web-1
    vcctl logs web-1 -f --tail 20
    """,
)
async def logs(
    session: Session,
    name: InstanceName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what the guest writes.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, metavar="LINES", help="Only the last lines.")] = None,
) -> None:
    """Show what an instance wrote to its serial port: its boot messages and its console."""
    [plain] = parse_objects([name], Instance.KIND)
    wire = await get_object(session, get_kind(Instance.KIND), plain)
    project = project_in(wire) or ""
    async for chunk in session.client.follow_log(plain, project=project, tail=tail, follow=follow):
        write_raw(chunk)


@command("console", panel=INSTANCES, examples="vcctl console web-1")
async def console(session: Session, name: InstanceName) -> None:
    """Sit at an instance's serial console. Ctrl-] leaves; press Return if nothing shows."""
    [plain] = parse_objects([name], Instance.KIND)
    wire = await get_object(session, get_kind(Instance.KIND), plain)
    async with open_console(session.client.connection, plain, project=project_in(wire) or "") as socket:
        session.err.print(f"Connected to {plain}. Ctrl-] leaves.", soft_wrap=True)
        with raw_terminal() as at_terminal:
            ended_there = await _talk(socket, at_terminal=at_terminal)
    session.err.print("\nThe console was closed by the other side." if ended_there else "\nLeft.")


async def _talk(socket: ByteSocket, *, at_terminal: bool) -> bool:
    """Carry bytes both ways; return whether the other side ended it."""
    heard = asyncio.Event()

    async def listen() -> None:
        while (data := await socket.receive()) is not None:
            heard.set()
            write_raw(data)

    async def speak() -> None:
        async with aclosing(read_keys()) as keys:
            async for data in keys:
                await socket.send(data)
        while not at_terminal:
            heard.clear()
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await heard.wait()
            except TimeoutError:
                return

    listening, speaking = asyncio.create_task(listen()), asyncio.create_task(speak())
    done, pending = await asyncio.wait({listening, speaking}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
    return listening in done
