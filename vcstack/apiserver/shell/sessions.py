"""``.../instances/NAME/shell``: a websocket with a terminal in the guest.

Binary messages are the terminal's bytes, both ways. Text messages are JSON: from the client that the terminal has
another size or that nothing more will be typed, to the client how the shell ended, or why there is none. A command
has a terminal where its size is given; else its standard error is told as text.
"""

import asyncio
import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiclient.shellmessages import SIZE_LIMIT, ShellEnd, ShellNotice, TerminalChange
from vcstack.apiserver.audit.entry import note_login
from vcstack.apiserver.authz import Permit
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.racing import first_of
from vcstack.apiserver.shell.client import Login, Size, Terminal, open_terminal
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.streams import (
    CLOSE_ERROR,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_REASON_BYTES,
    demand,
    find_host,
    until_lost,
)
from vcstack.apiserver.targets import Target
from vcstack.apiserver.tunnels import Tunnels
from vcstack.specs.errors import ApiError, BadRequest, Unauthorized
from vcstack.store.shellkeys import ShellKeyRecords

SUBRESOURCE: Final = "shell"
PARAMETERS: Final = frozenset({"ticket", "user", "columns", "rows", "command"})
DEFAULT_LOGIN: Final = "root"
DEFAULT_SIZE: Final = Size(80, 24)
COMMAND_LIMIT: Final = 8192
CHANGES: Final = 'a text message must be {"resize": {"columns": 80, "rows": 24}} or {"eof": true}'
GONE: Final = (RuntimeError, WebSocketDisconnect)
"""What is raised when the client was faster."""
_LOGIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    login: str
    size: Size | None
    """The terminal's; None: there is none."""
    command: str | None
    """None: a login shell."""

    @classmethod
    def parse(cls, query: Query) -> "Wanted":
        """Return what the query says. Raises BadRequest."""
        query.only(PARAMETERS)
        login, command = query.text("user") or DEFAULT_LOGIN, query.text("command")
        if not _LOGIN.fullmatch(login):
            raise refuse("user", "must be a login name: up to 64 letters, digits, '_', '.', '@' and '-'")
        if command is not None and (len(command) > COMMAND_LIMIT or "\0" in command):
            raise refuse("command", f"must be at most {COMMAND_LIMIT} characters")
        columns = query.count("columns", least=1, most=SIZE_LIMIT)
        rows = query.count("rows", least=1, most=SIZE_LIMIT)
        if command is not None and columns is None and rows is None:
            return cls(login, None, command)
        return cls(login, Size(columns or DEFAULT_SIZE.columns, rows or DEFAULT_SIZE.rows), command)


class ShellRoutes:
    """Serves the websockets."""

    def __init__(self, parts: ApiParts, keys: ShellKeyRecords, tunnels: Tunnels, drain: Drain) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._keys = keys
        self._tunnels = tunnels
        self._drain = drain

    async def connect(
        self, identity: Identity, target: Target, query: Query, socket: WebSocket, permit: Permit | None, uid: str = ""
    ) -> None:
        """Connect a websocket with a terminal; the caller has been authorized, for that uid if given.

        Until there is a way to the host, errors are answers to the handshake; then they are told in the websocket,
        for browsers show nothing else.
        """
        wanted = Wanted.parse(query)
        host, request = await find_host(self._store, target, "ssh")
        if uid and request.uid != uid:
            raise Unauthorized("the ticket is for an instance that was deleted; ask for a new one")
        keys = await self._keys.ensure(target.project or "")
        note_login(wanted.login)
        login = Login(wanted.login, _key_id(identity), keys.authority)
        async with self._tunnels.open(host, request) as stream:
            await socket.accept()
            code, reason = CLOSE_NORMAL, ""
            try:
                now = self._clock.now()
                async with open_terminal(stream, login, wanted.size, wanted.command, now) as terminal:
                    await Session(socket, terminal, permit).run(self._drain)
                if self._drain.started.is_set():
                    code, reason = CLOSE_GOING_AWAY, "the server stops"
            except WebSocketDisconnect:
                return
            except ApiError as error:
                code, reason = CLOSE_ERROR, error.message
                with contextlib.suppress(*GONE):
                    await socket.send_text(ShellNotice(error=error.to_status()).to_json().decode())
            with contextlib.suppress(*GONE):
                await socket.close(code, reason.encode()[:CLOSE_REASON_BYTES].decode("utf-8", "ignore"))


class Session:
    """One shell that somebody is connected with."""

    def __init__(self, socket: WebSocket, terminal: Terminal, permit: Permit | None) -> None:
        self._socket = socket
        self._terminal = terminal
        self._permit = permit

    async def run(self, drain: Drain) -> None:
        """Copy both ways until one side ends or the server stops.

        Raises:
            Unauthorized, Forbidden: the right or the session is lost.
            Unavailable: the connection to the guest broke.
        """
        copying = (self._to_guest(), self._to_client())
        await first_of(*copying, drain.started.wait(), until_lost(self._permit))

    async def _to_guest(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            demand(self._permit)
            if data := message.get("bytes"):
                await self._terminal.write(data)
            elif text := message.get("text"):
                self._change(text)

    def _change(self, text: str) -> None:
        try:
            change = TerminalChange.from_wire(text)
        except ValidationError as error:
            raise BadRequest(CHANGES) from error
        if change.resize is not None:
            self._terminal.resize(Size(change.resize.columns, change.resize.rows))
        elif change.eof:
            self._terminal.end_input()
        else:
            raise BadRequest(CHANGES)

    async def _to_client(self) -> None:
        telling = asyncio.create_task(self._tell_errors(), name="shell-stderr")
        try:
            while data := await self._terminal.read():
                demand(self._permit)
                await self._socket.send_bytes(data)
            await telling
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        ended = await self._terminal.end()
        said = ShellNotice(exit=ShellEnd(status=ended.status, signal=ended.signal))
        await self._socket.send_text(said.to_json().decode())

    async def _tell_errors(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := await self._terminal.read_stderr():
            demand(self._permit)
            if text := decoder.decode(data):
                await self._socket.send_text(ShellNotice(stderr=text).to_json().decode())


def _key_id(identity: Identity) -> str:
    """Return what stands in the guest's log: who it is, and where the audit trail has it."""
    return f"{identity.subject} {structlog.contextvars.get_contextvars().get('request_id', '')}"
