"""``/api/v1/stream``: all watches of a page over one websocket, for browsers open few connections to a server.

A watch here is what it is over REST: the same rights, looked at before all that is sent and each second, the same
limits, the same lines in the audit trail. What goes wrong with one watch ends that one with an ERROR; what goes wrong
with the caller ends the socket.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
import structlog
from pydantic import Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiserver import metrics
from vcstack.apiserver.audit.entry import CURRENT, begin, note_identity
from vcstack.apiserver.authz import RECHECK_SECONDS, Action, Authorizer, Permit, Verb
from vcstack.apiserver.identity import SUBJECT_KEY, Authenticator, Identity, Role
from vcstack.apiserver.limits.gate import Gate, Pass
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.racing import first_of
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.targets import parse_target
from vcstack.apiserver.watching import BATCH_LINES, SEND_SECONDS, watch_seconds
from vcstack.specs.errors import ApiError, BadRequest, RateLimited, Unauthorized, Unavailable
from vcstack.specs.model import Model
from vcstack.store.stream import WatchStream

logger = structlog.get_logger(__name__)

ROOT: Final = "/api/v1/"
PROTOCOL: Final = "vcstack.v1"
BEARER: Final = "vcstack.bearer."
"""Before the access token, among the subprotocols: a page cannot give a websocket any other header."""
WATCHES: Final = 64
"""Most of one socket."""
CLOSE_NOT_UNDERSTOOD: Final = 4400
CLOSE_UNAUTHORIZED: Final = 4401
CLOSE_NO_TEXT: Final = 1003
CLOSE_GOING_AWAY: Final = 1001
CLOSE_FAULT: Final = 1011
CLOSE_ANEW: Final = 1012
CLOSE_TOO_SLOW: Final = 1013
REASON_BYTES: Final = 120
ALIVE: Final = '{"type":"ALIVE"}'


class Op(StrEnum):
    """What a page asks for."""

    WATCH = "watch"
    UNWATCH = "unwatch"
    TOKEN = "token"  # noqa: S105 (the name of an operation)


class Frame(Model):
    """What a page sends."""

    op: Op
    """What it asks for."""
    id: Annotated[int, Field(ge=0, le=2**53)] = 0
    """The watch, as the page names it."""
    path: Annotated[str, Field(max_length=512)] = ""
    """The collection: /api/v1/projects/demo/instances."""
    resource_version: Annotated[str, Field(pattern=r"^[0-9]{0,18}$")] | None = None
    """The version to go on from; without one what is there comes first."""
    label_selector: Annotated[str, Field(max_length=4096)] = ""
    """As in lists."""
    field_selector: Annotated[str, Field(max_length=4096)] = ""
    """As in lists."""
    token: Annotated[str, Field(max_length=8192)] = ""
    """A fresh access token."""


class Closing(Exception):
    """The socket ends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:REASON_BYTES].decode("utf-8", "ignore")


class LiveStreams:
    """Serves the sockets of pages."""

    def __init__(
        self, parts: ApiParts, authenticator: Authenticator, authorizer: Authorizer, gate: Gate, drain: Drain
    ) -> None:
        self.store = parts.store
        self.settings = parts.settings
        self.clock = parts.clock
        self.trail = parts.audit
        self.authenticator = authenticator
        self.authorizer = authorizer
        self.gate = gate
        self.drain = drain

    async def serve(self, socket: WebSocket) -> None:
        """Serve one socket to its end. Raises ApiError before it is accepted."""
        scope = socket.scope
        token = find_token(scope)
        if token is not None:
            scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + token.encode("latin-1"))]
        identity = await self.authenticator.authenticate(scope)
        note_identity(identity)
        scope[SUBJECT_KEY] = identity.subject
        if identity.role is Role.ANONYMOUS:
            self.gate.admit_unknown(scope)
            raise Unauthorized(f"say who you are: subprotocols {PROTOCOL} and {BEARER}ACCESS-TOKEN")
        Query.parse(scope["query_string"]).only(NONE)
        if PROTOCOL not in scope["subprotocols"]:
            raise BadRequest(f"ask for the subprotocol {PROTOCOL}")
        passed = self.gate.admit(identity, None, scope)
        live = LiveSocket(self, socket, identity, passed)
        try:
            await socket.accept(PROTOCOL)
            await live.run()
        finally:
            live.leave()


@dataclass(eq=False, slots=True)
class _Watch:
    """One watch of a socket."""

    id: int
    task: "asyncio.Task[None] | None" = None
    permit: Permit | None = None
    passed: Pass | None = None
    """A stream of the caller's, as any other watch."""

    def leave(self) -> None:
        """Give back what counts in limits. Again is nothing."""
        if self.passed is not None:
            self.passed.leave()


class LiveSocket:
    """One page's socket: a task that listens, one for each watch, and one that looks whether they may go on."""

    def __init__(self, streams: LiveStreams, socket: WebSocket, identity: Identity, passed: Pass) -> None:
        self._streams = streams
        self._socket = socket
        self._identity = identity
        self._passed = passed
        self._watches: dict[int, _Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent_at = self._now()
        entry = CURRENT.get()
        self._request_id = entry.request_id if streams.trail is not None and entry is not None else ""

    async def run(self) -> None:
        """Serve until the page goes, may not stay or the server stops."""
        seconds = watch_seconds(None, self._streams.settings)
        code, reason = CLOSE_ANEW, "connect again and go on from the last versions"
        try:
            async with asyncio.timeout(seconds):
                await first_of(self._listen(), self._look(), self._ended, self._streams.drain.started.wait())
            code, reason = CLOSE_GOING_AWAY, "the server stops"
        except TimeoutError:
            pass  # so that pages spread over replicas again
        except WebSocketDisconnect:
            return
        except Closing as closing:
            code, reason = closing.code, closing.reason
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # the page was faster, or is dead
            async with asyncio.timeout(RECHECK_SECONDS):
                await self._socket.close(code, reason)

    def leave(self) -> None:
        """Give back what counts in limits."""
        self._passed.leave()

    # What the page asks for.

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or CLOSE_GOING_AWAY)
            text = message.get("text")
            if text is None:
                raise Closing(CLOSE_NO_TEXT, "frames are text")
            frame = _read(text)
            if frame.op is Op.TOKEN:
                await self._renew(frame.token)
            elif frame.op is Op.UNWATCH:
                self._drop(frame.id)
            else:
                self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        if frame.id in self._watches:
            raise Closing(CLOSE_NOT_UNDERSTOOD, f"there is a watch {frame.id} already")
        if len(self._tasks) >= 2 * WATCHES:
            raise Closing(CLOSE_TOO_SLOW, "the page does not read what it asks for")
        watch = self._watches[frame.id] = _Watch(frame.id)
        task = watch.task = asyncio.create_task(self._serve(watch, frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drop(self, id_: int) -> None:
        watch = self._watches.pop(id_, None)
        if watch is not None and watch.task is not None:
            watch.task.cancel()
            watch.leave()

    async def _renew(self, token: str) -> None:
        """Take a fresh token of the same session. Raises Closing."""
        scope = {**self._socket.scope, "headers": [(b"authorization", b"Bearer " + token.encode("latin-1", "replace"))]}
        try:
            identity = await self._streams.authenticator.authenticate(scope)
        except ApiError as error:
            raise Closing(CLOSE_UNAUTHORIZED, error.message) from error
        if _holder(identity) != _holder(self._identity):
            raise Closing(CLOSE_UNAUTHORIZED, "the token is of another session; open another connection")
        self._identity = identity

    # Watches.

    async def _serve(self, watch: _Watch, frame: Frame) -> None:
        """Serve one watch to its end, and say why it ends."""
        try:
            try:
                items = await self._open(watch, frame)
                metrics.WATCHES.inc()
                try:
                    await self._copy(watch, items)
                finally:
                    metrics.WATCHES.dec()
                    await items.aclose()
            except ApiError as error:
                watch.leave()  # before the page hears that it may begin another one
                await self._tell(watch, error)
        except Closing as closing:
            self._end(closing)
        except Exception:
            logger.exception("watch failed", path=frame.path)
            self._end(Closing(CLOSE_FAULT, "a fault of the server; its log has more"))
        finally:
            watch.leave()
            if self._watches.get(watch.id) is watch:
                del self._watches[watch.id]

    async def _open(self, watch: _Watch, frame: Frame) -> WatchStream:
        """Return what the caller may watch; it is recorded as any watch is."""
        streams, identity, scope = self._streams, self._identity, self._socket.scope
        asked = {**scope, "type": "http", "method": "GET", "path": frame.path, "query_string": b"watch=true"}
        entry = begin(streams.trail, asked, self._request_id)
        entry.identity = identity
        try:
            if len(self._watches) > WATCHES:
                raise RateLimited(f"a connection has at most {WATCHES} watches; end some, or open another connection")
            if not frame.path.startswith(ROOT):
                raise BadRequest(f"path: must be that of a collection, {ROOT}...")
            target = entry.target = parse_target(frame.path.removeprefix(ROOT))
            if target.name:
                raise BadRequest("path: collections are watched, here are no objects; use a fieldSelector")
            watch.passed = streams.gate.admit(identity, target, asked)
            action = Action(Verb.WATCH, target, frame.field_selector)
            await streams.authorizer.authorize(identity, action)
            watch.permit = streams.authorizer.permit(identity, action)
            items = await streams.store.watch(
                target.definition,
                target.project,
                since=int(frame.resource_version) if frame.resource_version else None,
                label_selector=frame.label_selector,
                field_selector=frame.field_selector,
                visible=streams.authorizer.visibility(identity, action),
            )
        except ApiError as error:
            entry.error = error
            entry.finish(error.CODE)
            raise
        entry.finish(200)
        return items

    async def _copy(self, watch: _Watch, items: WatchStream) -> None:
        head = b'{"id":%d,' % watch.id
        seconds = self._streams.settings.keep_alive_seconds
        while True:
            try:
                found = await items.read(seconds, most=BATCH_LINES)
            except StopAsyncIteration:
                message = "the watch ended, for changes came faster than they were read; go on from the last version"
                raise Unavailable(message) from None
            loss = watch.permit.find_loss() if watch.permit is not None else None
            if loss is not None:
                raise loss
            for item in found:
                await self._send((head + item.line[1:-1]).decode())

    async def _tell(self, watch: _Watch, error: ApiError) -> None:
        """Say why a watch is over; without a session everything is."""
        if isinstance(error, Unauthorized):
            raise Closing(CLOSE_UNAUTHORIZED, error.message)
        if self._watches.get(watch.id) is watch:
            del self._watches[watch.id]  # the page may use the number again as soon as it hears
        status = orjson.dumps(error.to_status().to_wire()).decode()
        await self._send(f'{{"id":{watch.id},"type":"ERROR","status":{status}}}')

    # The socket as a whole.

    async def _look(self) -> None:
        """Look each second whether the caller and each watch may go on. Raises Closing."""
        streams = self._streams
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            access = self._identity.access
            if access is not None and access.expires <= streams.clock.now().timestamp():
                raise Closing(CLOSE_UNAUTHORIZED, "the access token has ended; send a fresh one in time")
            if not streams.authenticator.still_holds(self._identity):
                raise Closing(CLOSE_UNAUTHORIZED, "you are not logged in any more")
            for watch in list(self._watches.values()):
                loss = watch.permit.find_loss() if watch.permit is not None else None
                if loss is not None and self._watches.get(watch.id) is watch:
                    self._drop(watch.id)
                    await self._tell(watch, loss)
            if self._now() - self._sent_at >= streams.settings.keep_alive_seconds:
                await self._send(ALIVE)

    async def _send(self, text: str) -> None:
        """Send a frame. Raises Closing when the page does not read."""
        try:
            async with asyncio.timeout(SEND_SECONDS), self._turn:
                await self._socket.send_text(text)
        except TimeoutError as error:
            raise Closing(CLOSE_TOO_SLOW, "the page does not read") from error
        except (RuntimeError, WebSocketDisconnect) as error:
            raise Closing(CLOSE_GOING_AWAY, "the page is gone") from error
        self._sent_at = self._now()

    def _end(self, closing: Closing) -> None:
        if not self._ended.done():
            self._ended.set_exception(closing)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def find_token(scope: Any) -> str | None:
    """Return the access token among the subprotocols, if nobody said in a header who it is."""
    if any(name == b"authorization" for name, _ in scope["headers"]):
        return None
    return next((p.removeprefix(BEARER) for p in scope["subprotocols"] if p.startswith(BEARER)), None)


def _read(text: str) -> Frame:
    try:
        return Frame.from_wire(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in problem["loc"]) or "frame"
        raise Closing(CLOSE_NOT_UNDERSTOOD, f"{where}: {problem['msg']}") from error


def _holder(identity: Identity) -> tuple[object, ...]:
    """Return whose it is: the account, and the session or key that it came by."""
    access = identity.access
    return (identity.role, identity.host, identity.account, access and (access.session, access.key))
