"""The ASGI application: finds the handler, says who asks, turns errors into answers, logs and counts.

Thin on purpose: what holds for all requests stands here once, everything about resources comes from the
registry.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiserver import docs, kindroutes, metrics
from vcstack.apiserver.audit.entry import begin
from vcstack.apiserver.audit.routes import AuditRoutes, is_audit
from vcstack.apiserver.audit.settings import AccessLog
from vcstack.apiserver.audit.sockets import Recording
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.auth.failurenotes import FailureNotes
from vcstack.apiserver.auth.reviews import OPERATIONS
from vcstack.apiserver.auth.reviews import PREFIX as REVIEWS
from vcstack.apiserver.auth.routes import PREFIX as AUTH
from vcstack.apiserver.auth.subresources import IdentitySubresources
from vcstack.apiserver.authz import Authorizer
from vcstack.apiserver.bodies import LIMIT_KEY
from vcstack.apiserver.consolefiles import ConsoleFiles, is_console
from vcstack.apiserver.context import Call
from vcstack.apiserver.edges import Origins, dress, pick, program_of, request_id_of
from vcstack.apiserver.explaining import ExplainRoutes
from vcstack.apiserver.handshakes import Handshake
from vcstack.apiserver.hosts import HostRoutes
from vcstack.apiserver.identity import ANONYMOUS, Authenticator, Identity
from vcstack.apiserver.images.routes import ContentRoutes
from vcstack.apiserver.keyoperations import KeyOperations
from vcstack.apiserver.limits import unread
from vcstack.apiserver.limits.gate import FREE, Gate, address_of
from vcstack.apiserver.limits.routes import EXEMPT, is_login
from vcstack.apiserver.livestream import LiveStreams
from vcstack.apiserver.operations import OperationRoutes
from vcstack.apiserver.ownfields import HOST_LIMIT
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.plans import PlanRoutes
from vcstack.apiserver.policies import Policies
from vcstack.apiserver.proxies import Proxies
from vcstack.apiserver.queries import Query, is_watch
from vcstack.apiserver.quotas import QuotaRoutes
from vcstack.apiserver.replicas import ReplicaDirectory
from vcstack.apiserver.replies import error_reply
from vcstack.apiserver.resources import ResourceRoutes
from vcstack.apiserver.secretvalues import SecretRoutes
from vcstack.apiserver.settings import EFFECTIVE, SettingRoutes
from vcstack.apiserver.shell.authorities import SshAuthorityRoutes
from vcstack.apiserver.shell.recordings import Recordings
from vcstack.apiserver.shell.sessions import ShellRoutes
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.sockets import SocketRoutes
from vcstack.apiserver.streams import StreamRoutes
from vcstack.apiserver.subresources import CommonSubresources
from vcstack.apiserver.targets import PLAN, QUOTA_CHECK, STREAM, Target, parse_target
from vcstack.apiserver.tickets import Tickets
from vcstack.apiserver.timelines import TimelineRoutes
from vcstack.apiserver.tunnels import Tunnels
from vcstack.apiserver.webhooks import WebhookRoutes, is_webhook
from vcstack.policy.sandbox import Sandbox
from vcstack.specs.errors import ApiError, InternalError, MethodNotAllowed, RateLimited, Unauthorized
from vcstack.store.shellkeys import ShellKeyRecords

logger = structlog.get_logger("vcstack.apiserver.access")

ROOT = "/api/v1"
Handler = Callable[[Call], Awaitable[Response]]


class Application:
    """The API server as an ASGI application. ``run`` keeps its notes in the store; cancel it at the end."""

    def __init__(self, parts: ApiParts, peer_settings: ConnectionSettings | None = None) -> None:
        self.drain = Drain()
        self.auth = parts.auth
        self.audit = parts.audit
        self.origins = Origins(parts.settings.cors_origins, parts.auth.tokens.settings.issuer)
        self.access_log = parts.settings.access_log
        bearers = Bearers(parts.store.cache, parts.clock)
        index = AccessIndex(parts.store.cache, parts.clock)
        self.gate = Gate(parts.store.cache, parts.etcd, index, parts.clock, parts.settings.limits)
        self._failures = FailureNotes(parts.auth.throttle, parts.etcd, parts.clock, parts.settings.limits.worker)
        self._proxies = Proxies(parts.settings.trusted_proxies) if parts.settings.trusted_proxies else None
        self._authenticator = Authenticator(parts.admin_token, parts.clock, parts.auth.tokens, bearers, self.gate)
        self._sandbox = Sandbox()
        self._policies = Policies(parts.store.cache, self._sandbox)
        self._authorizer = Authorizer(parts.store, index, bearers)
        self._replicas = ReplicaDirectory(parts.etcd, parts.settings.peer_url)
        self.tunnels = Tunnels(self._replicas, peer_settings, self.drain)
        self._resources = ResourceRoutes(parts, self._authorizer, self.drain)
        self._operations = OperationRoutes(parts, self._authorizer, index, self.drain)
        self._audit_routes = AuditRoutes(parts.audit, self._authorizer, parts.store.cache)
        self._hosts = HostRoutes(parts, self._authorizer)
        streams = StreamRoutes(parts, self._authorizer, self.tunnels, self.drain)
        tickets = Tickets(parts, self._authorizer, bearers)
        live = LiveStreams(parts, self._authenticator, self._authorizer, self.gate, self.drain)
        shell_keys = ShellKeyRecords(parts.etcd, parts.auth.credentials, parts.store.cache)
        self._recordings = Recordings(parts, self._authorizer, shell_keys)
        shells = ShellRoutes(parts, shell_keys, self._recordings, self.tunnels, self.drain)
        self._sockets = SocketRoutes(
            self._authenticator, self._authorizer, self.tunnels, streams, self.drain, self.gate, tickets, live, shells
        )
        self._plans = PlanRoutes(parts.store, self._authorizer, self._policies)
        identities = IdentitySubresources(parts.auth, self._authorizer)
        self._quotas = QuotaRoutes(parts, self._authorizer)
        self._settings = SettingRoutes(parts.store, self._authorizer)
        self._webhooks = WebhookRoutes(parts)
        common, content = CommonSubresources(parts, self._authorizer), ContentRoutes(parts, self._authorizer)
        keys = KeyOperations(parts, self._authorizer)
        explaining = ExplainRoutes(parts.store, self._authorizer)
        self.console = ConsoleFiles(parts.settings.console_dir)
        self._subresources: dict[str, Handler] = {
            "status": common.status,
            "finalize": common.finalize,
            "history": common.history,
            "timeline": TimelineRoutes(parts, self._authorizer).answer,
            "recordings": self._recordings.answer,
            "sshauthority": SshAuthorityRoutes(shell_keys, self._authorizer).answer,
            "why": explaining.why,
            "related": explaining.related,
            "content": content.answer,
            "log": streams.log,
            "heartbeat": self._hosts.answer,
            "jointoken": self._hosts.answer,
            "certificate": self._hosts.answer,
            "encrypt": keys.encrypt,
            "decrypt": keys.decrypt,
            "reencrypt": keys.reencrypt,
            "datakey": keys.data_key,
            "sign": keys.sign,
            "verify": keys.verify,
            "value": SecretRoutes(parts, self._authorizer).value,
            "usage": self._quotas.usage,
            "audit": self._audit_routes.of_project,
            "initialsecret": identities.initial_secret,
            "mfa": identities.mfa,
            "secret": identities.secret,
            "screenshot": streams.screenshot,
            "metrics": streams.metrics,
            "tickets": tickets.create,
            "console": _only_websocket,
            "vnc": _only_websocket,
            "shell": _only_websocket,
            "tunnel": _only_websocket,
        }

    async def run(self) -> None:
        """Keep what other replicas need to know, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._replicas.run())
                group.create_task(self.gate.run())
                group.create_task(self._recordings.run())
                group.create_task(self._failures.run())
        finally:
            await self._sandbox.close()
            await self._replicas.aclose()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request or serve one websocket."""
        if self._proxies is not None:
            scope["client"] = self._proxies.find_client(scope)
        if scope["type"] == "http":
            await Exchange(self, scope, receive, send).run()
        elif scope["type"] == "websocket":
            handshake = Handshake(self.origins, scope)
            recording = Recording(self.audit, scope, handshake.sending(send), handshake.request_id)
            try:
                await self._sockets.serve(WebSocket(scope, receive, recording.send), handshake.demand_own_site)
            finally:
                recording.end()

    async def authenticate(self, scope: Any) -> Identity:
        """Return who asks. Raises Unauthorized for a wrong credential."""
        return await self._authenticator.authenticate(scope)

    async def answer(self, request: Request, identity: Identity, target: Target | None) -> Response:
        """Return the answer to an HTTP request. Raises ApiError."""
        if target is None:
            if request.scope["path"].startswith(AUTH):
                return await self.auth.routes.answer(request)
            if is_webhook(request.scope["path"]):
                return await self._webhooks.answer(request)
            if is_audit(request.scope["path"]):
                return await self._audit_routes.answer(request, identity)
            if request.scope["path"] == QUOTA_CHECK:
                return await self._quotas.check(request, identity)
            if request.scope["path"] == EFFECTIVE:
                return await self._settings.effective(request, identity)
            if request.scope["path"] == PLAN:
                return await self._plans.answer(request, identity)
            if request.scope["path"] == STREAM:
                raise MethodNotAllowed("stream is a websocket: ask for an upgrade")
            if kindroutes.is_of_kinds(request.scope["path"]):
                return kindroutes.answer(request)
            return await self._operations.answer(request, identity, self._hosts.join)
        query = Query.parse(request.scope["query_string"])
        writes = request.method in WRITES and not target.subresource
        admission = self._policies.admission_of(identity) if writes else None
        guard, premise = self._authorizer.guard_of(identity), self._authorizer.premise_of(identity)
        call = Call(request, identity, target, query, guard, admission, premise)
        if admission is not None:
            return admission.with_warnings(await self._resources.answer(call))
        handler = self._subresources[target.subresource] if target.subresource else self._resources.answer
        if premise is None:
            return await handler(call)
        request.scope[LIMIT_KEY] = HOST_LIMIT
        try:
            return await handler(call)
        finally:
            self.gate.charge(identity, target, premise.bytes)


class Exchange:
    """One HTTP request and its answer."""

    def __init__(self, application: Application, scope: Any, receive: Any, send: Any) -> None:
        self._application = application
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.monotonic()
        self._headers = pick(scope)
        self._id = request_id_of(self._headers)
        self._status = 0
        self._identity = ANONYMOUS
        self._target: Target | None = None
        self._audit = begin(application.audit, scope, self._id)
        self._pass = FREE
        self._limited = False

    async def run(self) -> None:
        """Answer, whatever happens, and log."""
        structlog.contextvars.bind_contextvars(request_id=self._id)
        try:
            await self._answer()
        except ApiError as error:
            await self._fail(error)
        except Exception:
            logger.exception("request failed")
            await self._fail(InternalError(f"a fault of the server; its log has the request's id {self._id}"))
        finally:
            self._pass.leave()
            self._note()

    async def _answer(self) -> None:
        path: str = self._scope["path"]
        origins = self._application.origins
        origins.demand_own_site(self._scope, self._headers)
        if (preflight := origins.preflight(self._scope, self._headers)) is not None:
            await preflight(self._scope, self._receive, self._mark)
            return
        if is_console(path):
            response = await self._application.console.answer(Request(self._scope))
            await response(self._scope, self._receive, self._mark)
            return
        if path not in EXEMPT:
            await self._let_in(path)
        receive = self._audit.admit(self._receive)
        request = Request(self._scope, receive)
        response = await self._application.answer(request, self._identity, self._target)
        await response(self._scope, receive, self._mark)

    async def _let_in(self, path: str) -> None:
        """Find out who asks for what, and let the request in as far as the limits go."""
        gate, scope = self._application.gate, self._scope
        refusal: Unauthorized | None = None
        try:
            self._identity = self._audit.identity = await self._application.authenticate(scope)
        except Unauthorized as error:
            refusal = error
        public = path in PUBLIC or path.startswith(AUTH) or is_webhook(path)  # those look at their own credentials
        if refusal is not None and not public:
            raise refusal
        if is_login(path):
            self._pass = gate.admit_login(scope)
        elif self._identity is ANONYMOUS:
            gate.admit_unknown(scope)
            if not public:
                raise Unauthorized("say who you are: a bearer token or a client certificate")
        else:
            try:
                if path.startswith(ROOT + "/") and not public and not _names_no_resource(path):
                    self._target = self._audit.target = parse_target(path.removeprefix(ROOT + "/"))
            finally:
                self._pass = gate.admit(self._identity, self._target, scope)
        if self._pass.must_wait:
            await self._pass.enter()

    async def _fail(self, error: ApiError) -> None:
        """Send the error, or break the connection when the answer has begun: it must not look complete."""
        if self._status:
            logger.warning("answer broke off", error=error.message)
            raise error
        self._audit.error = error
        if isinstance(error, RateLimited):
            self._limited = True
            known = self._identity is not ANONYMOUS
            self._application.gate.tell(self._identity.subject if known else address_of(self._scope), error)
        await error_reply(error)(self._scope, self._receive, self._mark)

    async def _mark(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._audit.finish(message["status"])
            self._pass.leave_seat()
            self._status = message["status"]
            message["headers"] = [*message["headers"], *self._pass.headers()]
            dress(message, self._id)
        elif len(message.get("body", b"")) > unread.PART_BYTES:
            sender = self._identity.sender if self._identity is not ANONYMOUS else address_of(self._scope)
            send = partial(self._application.origins.send, self._scope, send=self._send)
            await self._application.gate.unread.send(sender, message, send)
            return
        await self._application.origins.send(self._scope, message, self._send)

    def _note(self) -> None:
        """Log and count. Neither headers, bodies nor query values are logged: they may hold secrets."""
        seconds = time.monotonic() - self._began
        method, target = self._scope["method"], self._target
        kind = target.definition.kind if target else ""
        verb = method if method in METHODS else "other"
        metrics.requests_of(verb, kind, self._status).inc()
        if not _is_stream(self._scope):
            metrics.seconds_of(verb, kind).observe(seconds)
        log = logger.info if self._is_for_the_log() else logger.debug
        log(
            "request",
            method=method,
            path=self._scope["path"][:512],
            status=self._status,
            subject=self._identity.subject,
            milliseconds=round(seconds * 1000, 1),
            client=(self._scope.get("client") or ("",))[0],
            program=program_of(self._headers),
        )

    def _is_for_the_log(self) -> bool:
        if self._limited:
            return False  # of requests that limits refuse the gate tells, once for many
        wanted = self._application.access_log
        if self._status >= 400 or wanted is AccessLog.ALL:
            return True
        return self._scope["method"] not in READS and (wanted is AccessLog.CHANGES or not self._audit.recorded)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
READS = frozenset({"GET", "HEAD"})
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PUBLIC = frozenset({"/healthz", "/readyz", "/version", "/ca", "/openapi.json", f"{ROOT}/join", *docs.PATHS})
"""What needs no credential: the API's shape is no secret, and joining brings its own token."""
NO_RESOURCES = frozenset(
    {f"{ROOT}/me", f"{ROOT}/encryption", QUOTA_CHECK, EFFECTIVE, PLAN, STREAM, *(REVIEWS + name for name in OPERATIONS)}
)
"""Paths below the root that name no kind."""


def _names_no_resource(path: str) -> bool:
    return path in NO_RESOURCES or is_audit(path) or kindroutes.is_of_kinds(path)


def _is_stream(scope: Any) -> bool:
    return is_watch(scope["query_string"]) or scope["path"].endswith(("/log", "/content"))


async def _only_websocket(call: Call) -> Response:
    raise MethodNotAllowed(f"{call.target.subresource} is a websocket: ask for an upgrade")
