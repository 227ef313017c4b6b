"""ssh: a shell in an instance, or a command, without a key or a way into its network."""

import asyncio
import contextlib
import os
import sys
from contextlib import aclosing
from typing import Annotated

import typer

from vcstack.apiclient.shell import ShellSocket, open_shell
from vcstack.apiclient.shellmessages import SIZE_LIMIT, TerminalSize
from vcstack.applying.sets import project_in
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import INSTANCES, InstanceName
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.reading import get_object
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session
from vcstack.vcctl.terminal import TildeEscape, on_resize, raw_terminal, read_keys, write_raw

RECORDED = "All that the terminal shows is recorded."
LEFT = 255
"""What ssh ends with when it did not end by what ran there."""


@command(
    "ssh",
    panel=INSTANCES,
    examples="""
    vcctl ssh web-1
    vcctl ssh web-1 --user debian
    vcctl ssh web-1 -- uptime
    vcctl ssh web-1 -- cat /var/log/syslog > syslog
    vcctl ssh web-1 -t -- top
    """,
)
async def ssh(
    session: Session,
    name: InstanceName,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="Default a shell.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="LOGIN", help="The login name there; default root.")
    ] = None,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="A terminal for the command too.")] = False,
) -> int:
    """Log in to an instance by SSH. Return, then ~. leaves.

    The API logs in for you, with a certificate that is good for this once, through the host's tunnel: no key and no way
    into the instance's network is needed. The guest has to run an SSH server that trusts the project's authority, as
    guests do that cloud-init or the tiny image sets up. What is shown may be recorded, which is said at the beginning.

    Ends with the exit status of what ran there; with 255 when a signal ended it.
    """
    [plain] = parse_objects([name], Instance.KIND)
    wire = await get_object(session, get_kind(Instance.KIND), plain)
    wanted, at_terminal = " ".join(words or []) or None, sys.stdin.isatty()
    if wanted is None and not at_terminal:
        raise CommandError("a shell needs a terminal", hint=f"Name a command: vcctl ssh {plain} -- sh -s < SCRIPT")
    size = _size() if at_terminal and (tty or wanted is None) else None
    opening = open_shell(
        session.client.connection, plain, project=project_in(wire) or "", user=user, command=wanted, size=size
    )
    async with opening as shell:
        with raw_terminal() if size is not None else contextlib.nullcontext():
            return await _Talk(shell, is_terminal=size is not None).run()


class _Talk:
    """One shell, from its first word to its last."""

    def __init__(self, shell: ShellSocket, *, is_terminal: bool) -> None:
        self._shell = shell
        self._is_terminal = is_terminal
        self._left = asyncio.Event()
        self._resized = asyncio.Event()

    async def run(self) -> int:
        """Carry bytes both ways; return the exit status. Raises ApiError: why there is no shell, or no more."""
        listening = asyncio.create_task(self._listen())
        leaving = asyncio.create_task(self._left.wait())
        others = [leaving, asyncio.create_task(self._speak()), asyncio.create_task(self._tell_sizes())]
        try:
            with on_resize(self._resized.set) if self._is_terminal else contextlib.nullcontext():
                await asyncio.wait({listening, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return listening.result() if listening.done() else LEFT
        finally:
            for task in (listening, *others):
                task.cancel()
            await asyncio.gather(listening, *others, return_exceptions=True)

    async def _listen(self) -> int:
        while (message := await self._shell.receive()) is not None:
            if isinstance(message, bytes):
                write_raw(message)
            elif message.recording:
                self._say(RECORDED)
            elif message.stderr is not None:
                sys.stderr.write(message.stderr)
                sys.stderr.flush()
            elif message.exit is not None:
                return message.exit.status
        raise Unavailable("the connection ended before the shell did")

    def _say(self, sentence: str) -> None:
        sys.stderr.write(sentence + ("\r\n" if self._is_terminal else "\n"))
        sys.stderr.flush()

    async def _speak(self) -> None:
        escape = TildeEscape()
        with contextlib.suppress(Unavailable):  # the one who listens hears why
            async with aclosing(read_keys(None)) as keys:
                async for data in keys:
                    sent, leaves = escape.take(data) if self._is_terminal else (data, False)
                    if sent:
                        await self._shell.send(sent)
                    if leaves:
                        self._left.set()
                        return
            await self._shell.end_input()

    async def _tell_sizes(self) -> None:
        while True:
            await self._resized.wait()
            self._resized.clear()
            await self._shell.resize(_size())


def _size() -> TerminalSize:
    """Return how large the terminal is; one that does not know is as large as they all once were."""
    columns, rows = os.get_terminal_size(sys.stdin.fileno())
    return TerminalSize(columns=min(columns or 80, SIZE_LIMIT), rows=min(rows or 24, SIZE_LIMIT))
