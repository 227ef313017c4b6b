"""A terminal in a guest, for vcctl and other programs."""

import contextlib
from collections.abc import AsyncIterator

from pydantic import ValidationError

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.shellmessages import ShellNotice, TerminalChange, TerminalSize
from vcstack.apiclient.websocket import ByteSocket, open_socket
from vcstack.specs.errors import Unavailable, from_status


class ShellSocket:
    """A connected shell."""

    def __init__(self, socket: ByteSocket) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send what is typed. Raises Unavailable when the connection is gone."""
        await self._socket.send(data)

    async def resize(self, size: TerminalSize) -> None:
        """Say how large the terminal is now. Raises Unavailable when the connection is gone."""
        await self._socket.send_text(TerminalChange(resize=size).to_json().decode())

    async def end_input(self) -> None:
        """Say that nothing more will be sent. Raises Unavailable when the connection is gone."""
        await self._socket.send_text(TerminalChange(eof=True).to_json().decode())

    async def receive(self) -> bytes | ShellNotice | None:
        """Return what is to be shown, or what is said beside it; None when it is over.

        Raises:
            ApiError: there is no shell, or no more; the error says why.
        """
        message = await self._socket.receive_any()
        if not isinstance(message, str):
            return message
        try:
            notice = ShellNotice.from_wire(message)
        except ValidationError as error:
            raise Unavailable("the server's message cannot be read; does it run another version?") from error
        if notice.error is not None:
            raise from_status(notice.error)
        return notice


@contextlib.asynccontextmanager
async def open_shell(
    connection: Connection,
    name: str,
    *,
    project: str,
    user: str | None = None,
    size: TerminalSize | None = None,
    command: str | None = None,
    ticket: str | None = None,
) -> AsyncIterator[ShellSocket]:
    """Yield a shell in the instance, by a ticket or as who is logged in.

    Args:
        connection: to the API.
        name: the instance.
        project: its project.
        user: the name in the guest; default root.
        size: the terminal's; without one a shell has 80 columns of 24 rows, and a command no terminal.
        command: what runs instead of a login shell.
        ticket: says who asks instead of a credential.
    """
    params = {"user": user, "command": command, "ticket": ticket}
    params |= {"columns": str(size.columns), "rows": str(size.rows)} if size is not None else {}
    async with open_socket(connection, f"{API_ROOT}/projects/{project}/instances/{name}/shell", params) as socket:
        yield ShellSocket(socket)
