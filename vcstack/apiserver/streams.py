"""The serial log, console, screen and figures of instances: streams to the host that runs them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiclient.frames import StreamRequest
from vcstack.apiclient.instancemessages import InstanceMetrics
from vcstack.apiserver import queries
from vcstack.apiserver.authz import Action, Authorizer, Permit, Verb, until_lost
from vcstack.apiserver.context import Call
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.racing import first_of
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.targets import Target
from vcstack.apiserver.tunnels import HostStream, Tunnels
from vcstack.specs.errors import ApiError, Conflict, MethodNotAllowed, Unauthorized, Unavailable
from vcstack.specs.kinds.instance import Instance
from vcstack.store.store import Store

TAIL_LIMIT = 1_000_000
FIRST_SECONDS = 2.0
"""How long a log's beginning is waited for before the answer begins: errors until then are proper answers."""
CLOSE_REASON_BYTES = 120
"""RFC 6455 section 5.5: a close frame has at most 125 bytes, 2 of them the code."""
ANSWER_SECONDS = 15.0
"""How long a host may take for what is no stream."""
SCREENSHOT_LIMIT = 32 * 1024 * 1024
METRICS_LIMIT = 256 * 1024
CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_ERROR = 1000, 1001, 1011

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class StreamRoutes:
    """Answers requests for /log, /screenshot, /metrics, /console and /vnc."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer, tunnels: Tunnels, drain: Drain) -> None:
        self._store = parts.store
        self._authorizer = authorizer
        self._tunnels = tunnels
        self._drain = drain

    async def log(self, call: Call) -> Response:
        """Stream the serial log."""
        if call.method != "GET":
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        query = call.query.only(queries.LOG)
        action = Action(Verb.GET, call.target)
        await self._authorizer.authorize(call.identity, action)
        permit = self._authorizer.permit(call.identity, action)
        host, request = await find_host(self._store, call.target, "log")
        request.tail_lines = query.count("tail", most=TAIL_LIMIT)
        request.follow = query.flag("follow")
        return LogResponse(self._tunnels, host, request, self._drain, permit)

    async def screenshot(self, call: Call) -> Response:
        """Return a picture of the screen."""
        picture = await self._read(call, "screenshot", SCREENSHOT_LIMIT)
        return Response(picture, media_type="image/png")

    async def metrics(self, call: Call) -> Response:
        """Return what the running machine has used."""
        try:
            return model_reply(InstanceMetrics.from_wire(await self._read(call, "metrics", METRICS_LIMIT)))
        except ValidationError as error:
            raise Unavailable("the host's answer cannot be read; does its vc-compute run the same version?") from error

    async def _read(self, call: Call, service: str, limit: int) -> bytes:
        """Return all that the host says."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        call.query.only(queries.NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        host, request = await find_host(self._store, call.target, service)
        found = bytearray()
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._tunnels.open(host, request) as stream:
                while chunk := await stream.receive():
                    found += chunk
                    if len(found) > limit:
                        raise Unavailable(f"the host's {service} is longer than {limit} bytes")
        except TimeoutError as error:
            raise Unavailable(f"host {host} did not answer within {ANSWER_SECONDS:g} s; try again") from error
        return bytes(found)

    async def connect(self, target: Target, socket: WebSocket, permit: Permit | None, uid: str = "") -> None:
        """Connect a websocket with the console or screen; the caller has been authorized, for that uid if given."""
        host, request = await find_host(self._store, target, target.subresource)
        if uid and request.uid != uid:
            raise Unauthorized("the ticket is for an instance that was deleted; ask for a new one")
        async with self._tunnels.open(host, request) as stream:
            await socket.accept()
            await bridge(socket, stream, self._drain, permit)


class LogResponse(Response):
    """Streams a log as plain text."""

    media_type = "text/plain"

    def __init__(
        self, tunnels: Tunnels, host: str, request: StreamRequest, drain: Drain, permit: Permit | None = None
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._tunnels, self._host, self._request = tunnels, host, request
        self._drain = drain
        self._permit = permit

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send the stream; an error before its beginning is raised."""
        async with self._tunnels.open(self._host, self._request) as stream:
            first = asyncio.create_task(stream.receive())
            await asyncio.wait({first}, timeout=FIRST_SECONDS)
            try:
                if first.done():
                    first.result()
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._race(first, stream, receive, send)
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _race(self, first: "asyncio.Task[bytes]", stream: HostStream, receive: Receive, send: Send) -> None:
        async def copy() -> None:
            data = await first
            while data:
                demand(self._permit)
                await send({"type": "http.response.body", "body": data, "more_body": True})
                data = await stream.receive()

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await first_of(copy(), gone(), self._drain.started.wait(), until_lost(self._permit))


def demand(permit: Permit | None) -> None:
    """Return when the stream may go on. Raises Unauthorized, Forbidden."""
    loss = permit.find_loss() if permit is not None else None
    if loss is not None:
        raise loss


async def find_host(store: Store, target: Target, service: str) -> tuple[str, StreamRequest]:
    """Return the instance's host and what to ask it for. Raises NotFound; Conflict while it has no host."""
    stored = await store.get(target.definition, target.project, target.name)
    instance = Instance.from_wire(stored.json)
    if instance.status.host is None:
        raise Conflict(f"{instance.ref} is on no host yet, so it has no {service}; see 'vcctl why'")
    request = StreamRequest(
        service=service, project=instance.metadata.project or "", name=instance.metadata.name, uid=instance.uid
    )
    return instance.status.host, request


async def bridge(socket: WebSocket, stream: HostStream, drain: Drain, permit: Permit | None = None) -> None:
    """Copy both ways until one side ends or the server stops, and say why in the close frame."""
    code, reason = CLOSE_NORMAL, ""
    try:
        copying = (_to_host(socket, stream, permit), _to_client(socket, stream, permit))
        await first_of(*copying, drain.started.wait(), until_lost(permit))
        if drain.started.is_set():
            code, reason = CLOSE_GOING_AWAY, "the server stops"
    except WebSocketDisconnect:
        return
    except ApiError as error:
        code, reason = CLOSE_ERROR, error.message
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
        await socket.close(code, reason.encode()[:CLOSE_REASON_BYTES].decode("utf-8", "ignore"))


async def _to_host(socket: WebSocket, stream: HostStream, permit: Permit | None) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes") or (message.get("text") or "").encode()
        if data:
            demand(permit)
            await stream.send(data)


async def _to_client(socket: WebSocket, stream: HostStream, permit: Permit | None) -> None:
    while data := await stream.receive():
        demand(permit)
        await socket.send_bytes(data)
