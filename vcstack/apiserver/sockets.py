"""Websockets: a host's tunnel, streams of other replicas through it, consoles, screens and shells."""

from collections.abc import Callable

import structlog
from pydantic import ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiclient.frames import StreamRequest
from vcstack.apiclient.instancemessages import InstanceStream
from vcstack.apiserver.audit.entry import note_error, note_identity, note_on_behalf_of, note_target
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import SUBJECT_KEY, Authenticator, Identity, Role
from vcstack.apiserver.limits.gate import Gate
from vcstack.apiserver.livestream import LiveStreams
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.replies import error_reply
from vcstack.apiserver.shell.sessions import SUBRESOURCE as SHELL
from vcstack.apiserver.shell.sessions import ShellRoutes
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.streams import StreamRoutes, bridge
from vcstack.apiserver.targets import STREAM, Target, parse_target
from vcstack.apiserver.tickets import Tickets
from vcstack.apiserver.tunnels import Tunnels
from vcstack.specs.errors import ApiError, BadRequest, InternalError, NotFound, Unauthorized, Unavailable

logger = structlog.get_logger(__name__)

ROOT = "/api/v1/"
CLOSE_ERROR = 1011
STREAMS = frozenset(stream.subresource for stream in InstanceStream)
TICKET = frozenset({"ticket"})
BY_TICKET = "vcstack.ticket"
"""In the scope: it was opened by a ticket that was good."""


class SocketRoutes:
    """Serves websockets. Until they are accepted, errors are proper HTTP answers, but for pages with a ticket."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        tunnels: Tunnels,
        streams: StreamRoutes,
        drain: Drain,
        gate: Gate,
        tickets: Tickets,
        live: LiveStreams,
        shells: ShellRoutes,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._tunnels = tunnels
        self._streams = streams
        self._drain = drain
        self._gate = gate
        self._tickets = tickets
        self._live = live
        self._shells = shells

    async def serve(self, socket: WebSocket, admit: Callable[[], None]) -> None:
        """Serve one websocket to its end, if ``admit`` does not raise."""
        try:
            admit()
            await self._serve(socket)
        except WebSocketDisconnect:
            return
        except ApiError as error:
            note_error(error)
            await _refuse(socket, error)
        except Exception:
            logger.exception("websocket failed", path=socket.url.path)
            await _refuse(socket, InternalError("a fault of the server; its log has more"))

    async def _serve(self, socket: WebSocket) -> None:
        path: str = socket.scope["path"]
        if path == STREAM:
            await self._live.serve(socket)
            return
        identity, uid = await self._authenticator.authenticate(socket.scope), ""
        if identity.role is Role.ANONYMOUS and path.startswith(ROOT) and b"ticket=" in socket.scope["query_string"]:
            identity, uid = await self._by_ticket(socket)
        note_identity(identity)
        socket.scope[SUBJECT_KEY] = identity.subject
        if identity.role is Role.ANONYMOUS:
            self._gate.admit_unknown(socket.scope)
            raise Unauthorized("say who you are: a bearer token or a client certificate")
        if not path.startswith(ROOT):
            raise NotFound(f"there is no websocket {path[:200]!r}")
        target = parse_target(path.removeprefix(ROOT))
        note_target(target)
        passed = self._gate.admit(identity, target, socket.scope)
        try:
            await self._serve_target(identity, target, socket, uid)
        finally:
            passed.leave()

    async def _by_ticket(self, socket: WebSocket) -> tuple[Identity, str]:
        """Return who asked for the ticket, which is used up, and the uid of the instance that it is for."""
        scope = socket.scope
        target = parse_target(scope["path"].removeprefix(ROOT))
        note_target(target)
        ticket = Query.parse(scope["query_string"]).text("ticket") or ""
        self._gate.demand_attempt(scope)
        try:
            found = await self._tickets.redeem(ticket, target, (scope.get("client") or ("",))[0])
        except Unauthorized:
            self._gate.note_refused(scope)
            raise
        scope[BY_TICKET] = True
        return found

    async def _serve_target(self, identity: Identity, target: Target, socket: WebSocket, uid: str) -> None:
        query = Query.parse(socket.scope["query_string"])
        if target.subresource in STREAMS:
            action = Action(Verb.UPDATE, target)
            await self._authorizer.authorize(identity, action)
            permit = self._authorizer.permit(identity, action)
            if target.subresource == SHELL:
                await self._shells.connect(identity, target, query, socket, permit, uid)
                return
            query.only(TICKET if uid else NONE)
            await self._streams.connect(target, socket, permit, uid)
        elif target.subresource == "tunnel":
            await self._tunnel(identity, target, query, socket)
        else:
            raise NotFound(f"{socket.scope['path'][:200]!r} is no websocket")

    async def _tunnel(self, identity: Identity, target: Target, query: Query, socket: WebSocket) -> None:
        asked = query.only(frozenset({"open"})).text("open")
        if asked is None:
            action = Action(Verb.GET, target)
            await self._authorizer.authorize(identity, action)
            await self._tunnels.serve(target.name, socket, self._authorizer.permit(identity, action))
            return
        self._authorizer.demand_admin(identity)
        if not self._tunnels.has(target.name):
            raise Unavailable(f"host {target.name} is not connected to this replica any more; try again")
        wanted = _read_request(asked)
        note_on_behalf_of(wanted.on_behalf_of)
        async with self._tunnels.open(target.name, wanted) as stream:
            await socket.accept()
            await bridge(socket, stream, self._drain)


def _read_request(text: str) -> StreamRequest:
    try:
        return StreamRequest.from_wire(text)
    except ValidationError as error:
        raise BadRequest("query parameter 'open' is no stream request") from error


async def _refuse(socket: WebSocket, error: ApiError) -> None:
    """Answer the handshake with the error, or close what is open already.

    A browser shows a page nothing of a handshake that was refused. Whose ticket was good hears why in a websocket.
    """
    if socket.scope.get(BY_TICKET) and "origin" in socket.headers and socket.application_state.name == "CONNECTING":
        await socket.accept()
    if socket.application_state.name == "CONNECTING":
        reply: Response = error_reply(error)
        reply.headers["connection"] = "close"  # uvicorn closes what began as an upgrade
        await socket.send_denial_response(reply)
    elif socket.application_state.name == "CONNECTED":
        await socket.close(CLOSE_ERROR, error.message.encode()[:120].decode("utf-8", "ignore"))
