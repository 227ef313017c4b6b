"""``.../instances/NAME/shell``: a websocket with a terminal in the guest.

Binary messages are the terminal's bytes, both ways. Text messages are JSON: from the client that the terminal has
another size or that nothing more will be typed, to the client how the shell ended, or why there is none. A command
has a terminal where its size is given; else its standard error is told as text.
"""

import asyncio
import codecs
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiclient.shellmessages import SIZE_LIMIT, ShellEnd, ShellNotice, TerminalChange
from vcstack.apiserver.audit.entry import note_login, note_recording
from vcstack.apiserver.authz import RECHECK_SECONDS, Permit, until_lost
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.racing import first_of
from vcstack.apiserver.shell.client import Login, Size, Terminal, open_terminal
from vcstack.apiserver.shell.recorder import Recorder
from vcstack.apiserver.shell.recordings import Recordings
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.streams import (
    CLOSE_ERROR,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_REASON_BYTES,
    demand,
    find_host,
)
from vcstack.apiserver.targets import Target
from vcstack.apiserver.tunnels import HostStream, Tunnels
from vcstack.specs.errors import ApiError, BadRequest, Conflict, Unauthorized
from vcstack.store.shellkeys import ShellKeyRecords

logger = structlog.get_logger(__name__)

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

    def __init__(
        self, parts: ApiParts, keys: ShellKeyRecords, recordings: Recordings, tunnels: Tunnels, drain: Drain
    ) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._keys = keys
        self._recordings = recordings
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
        size = wanted.size or DEFAULT_SIZE
        recorder = await self._recordings.begin(target, request.uid, identity.subject, wanted.login, size, keys)
        if recorder is not None:
            note_recording(recorder.id)
        try:
            async with self._tunnels.open(host, request) as stream:
                await socket.accept()
                session = Session(socket, permit, recorder, lambda: self._recordings.are_demanded(target.project or ""))
                code, reason = await session.run(stream, login, wanted, self._clock.now(), self._drain)
                await _end(recorder)
                with contextlib.suppress(*GONE):
                    await socket.close(code, reason)
        finally:
            await _end(recorder)


async def _end(recorder: Recorder | None) -> None:
    """End the recording, once."""
    if recorder is not None and not recorder.ended:
        try:
            await recorder.end()
        except ApiError as error:
            logger.warning("a recording of a shell broke off", recording=recorder.id, error=error.message)


class Session:
    """One shell that somebody is connected with."""

    def __init__(
        self, socket: WebSocket, permit: Permit | None, recorder: Recorder | None, demands: Callable[[], bool]
    ) -> None:
        """``demands`` says whether shells are to be recorded now."""
        self._socket = socket
        self._permit = permit
        self._recorder = recorder
        self._demands = demands

    async def run(
        self, stream: HostStream, login: Login, wanted: Wanted, now: datetime, drain: Drain
    ) -> tuple[int, str]:
        """Log in and serve the shell to its end; return with what the websocket is to be closed."""
        try:
            if self._recorder is not None:
                await self._say(ShellNotice(recording=True))
            async with open_terminal(stream, login, wanted.size, wanted.command, now) as terminal:
                copying = self._to_guest(terminal), self._to_client(terminal)
                waiting = drain.started.wait(), until_lost(self._permit)
                await first_of(*copying, *waiting, self._recording())
            return (CLOSE_GOING_AWAY, "the server stops") if drain.started.is_set() else (CLOSE_NORMAL, "")
        except WebSocketDisconnect:
            return CLOSE_NORMAL, ""
        except ApiError as error:
            with contextlib.suppress(*GONE):
                await self._say(ShellNotice(error=error.to_status()))
            return CLOSE_ERROR, error.message.encode()[:CLOSE_REASON_BYTES].decode("utf-8", "ignore")

    async def _recording(self) -> None:
        """Write the recording, if there is one; else wait until there has to be.

        Raises:
            Unavailable: it cannot be written.
            Conflict: shells are recorded from now on.
        """
        if self._recorder is not None:
            await self._recorder.run()
        while not self._demands():  # noqa: ASYNC110 (settings are looked up, nothing tells of them)
            await asyncio.sleep(RECHECK_SECONDS)
        raise Conflict("shells are recorded here from now on; connect again")

    async def _to_guest(self, terminal: Terminal) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            demand(self._permit)
            if data := message.get("bytes"):
                await terminal.write(data)
            elif text := message.get("text"):
                await self._change(terminal, text)

    async def _change(self, terminal: Terminal, text: str) -> None:
        try:
            change = TerminalChange.from_wire(text)
        except ValidationError as error:
            raise BadRequest(CHANGES) from error
        if change.resize is not None:
            size = Size(change.resize.columns, change.resize.rows)
            if self._recorder is not None:
                await self._recorder.resize(size)
            terminal.resize(size)
        elif change.eof:
            terminal.end_input()
        else:
            raise BadRequest(CHANGES)

    async def _to_client(self, terminal: Terminal) -> None:
        copying = [asyncio.create_task(each) for each in (self._show(terminal), self._tell_errors(terminal))]
        try:
            await asyncio.gather(*copying)  # a failure of either ends the shell
        finally:
            for task in copying:
                task.cancel()
            await asyncio.gather(*copying, return_exceptions=True)
        ended = await terminal.end()
        await self._say(ShellNotice(exit=ShellEnd(status=ended.status, signal=ended.signal)))

    async def _show(self, terminal: Terminal) -> None:
        while data := await terminal.read():
            demand(self._permit)
            if self._recorder is not None:
                await self._recorder.show(data)
            await self._socket.send_bytes(data)

    async def _tell_errors(self, terminal: Terminal) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := await terminal.read_stderr():
            demand(self._permit)
            if self._recorder is not None:
                await self._recorder.show(data)
            if text := decoder.decode(data):
                await self._say(ShellNotice(stderr=text))

    async def _say(self, notice: ShellNotice) -> None:
        await self._socket.send_text(notice.to_json().decode())


def _key_id(identity: Identity) -> str:
    """Return what stands in the guest's log: who it is, and where the audit trail has it."""
    return f"{identity.subject} {structlog.contextvars.get_contextvars().get('request_id', '')}"
