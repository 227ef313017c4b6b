"""What is not about resources: health, readiness, metrics, version, discovery, OpenAPI and its page."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vcstack.apiclient.encryption import EncryptionStatus, NeededVersion
from vcstack.apiserver import docs
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.reviews import PREFIX as REVIEWS
from vcstack.apiserver.auth.reviews import AccessReviews
from vcstack.apiserver.authz import Authorizer
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.me import describe
from vcstack.apiserver.openapi import build_openapi
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.replies import json_reply, model_reply, value_reply
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.targets import subresources_of
from vcstack.specs.errors import ApiError, MethodNotAllowed, NotFound, Unavailable
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition, load_kinds
from vcstack.store.rewrap import Rewrapper

READY_SECONDS = 3.0

Join = Callable[[Request], Awaitable[Response]]


class OperationRoutes:
    """Answers requests outside of the resources."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer, index: AccessIndex, drain: Drain) -> None:
        self._index = index
        self._reviews = AccessReviews(authorizer, index, parts.store.cache)
        self._store = parts.store
        self._authority = parts.authority
        self._envelopes = parts.auth.credentials.envelopes
        self._rewrapper = Rewrapper(parts.etcd, parts.auth.credentials, parts.clock)
        self._authorizer = authorizer
        self._drain = drain
        self._openapi = b""

    async def answer(self, request: Request, identity: Identity, join: Join) -> Response:
        """Return the answer. Raises NotFound when there is no such route."""
        path = request.scope["path"]
        if path == "/api/v1/join":
            _demand_method(request, "POST")
            Query.parse(request.scope["query_string"]).only(NONE)
            return await join(request)
        routes: dict[str, Callable[[], Awaitable[Response]]] = {
            "/healthz": self.health,
            "/readyz": self.readiness,
            "/version": self.version,
            "/ca": self.authorities,
            "/openapi.json": self.openapi,
            "/api/v1": self.discover,
        }
        if path.startswith(REVIEWS):
            return await self._reviews.answer(request, identity)
        if path == "/api/v1/me":
            Query.parse(request.scope["query_string"]).only(NONE)
            _demand_method(request, "GET", "HEAD")
            return describe(self._index, self._store.cache.setting_book, identity)
        if path == "/metrics":
            self._authorizer.demand_reader_of_all(identity)
            routes[path] = self.metrics
        if path == "/api/v1/encryption":
            self._authorizer.demand_admin(identity)
            routes[path] = self.encryption
        if path not in routes and path not in docs.PATHS:
            raise NotFound(f"there is no route {path[:200]!r}; see {docs.PAGE}")
        _demand_method(request, "GET", "HEAD")
        if path in docs.PATHS:
            return docs.answer(path)
        return await routes[path]()

    async def health(self) -> Response:
        """Return ok while the process answers."""
        return PlainTextResponse("ok\n")

    async def readiness(self) -> Response:
        """Return ok when the store answers and the cache is fresh. Raises Unavailable."""
        if self._drain.started.is_set():
            raise Unavailable("the server is stopping")
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._store.cache.fresh()
        except TimeoutError as error:
            raise Unavailable("the store does not answer") from error
        except ApiError as error:
            raise Unavailable(f"not ready: {error.message}") from error
        return PlainTextResponse("ok\n")

    async def version(self) -> Response:
        """Return our version."""
        return value_reply({"version": version("vcstack"), "apiVersion": API_VERSION})

    async def authorities(self) -> Response:
        """Return whom to trust; certificates are no secret."""
        return PlainTextResponse(self._authority.current.bundle)

    async def metrics(self) -> Response:
        """Return the figures of this process."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def encryption(self) -> Response:
        """Return which master key versions the store still needs."""
        found = await self._rewrapper.count()
        needed = [NeededVersion(version=version, envelopes=count) for version, count in found.needed.items()]
        reply = EncryptionStatus(
            active_version=found.active,
            active_key=self._envelopes.active_id,
            needed=needed,
            unreadable=found.unreadable,
        )
        return model_reply(reply)

    async def discover(self) -> Response:
        """Return the kinds."""
        kinds = [_describe(d) for d in load_kinds().values()]
        return value_reply({"kind": "KindList", "apiVersion": API_VERSION, "items": kinds})

    async def openapi(self) -> Response:
        """Return the OpenAPI document."""
        if not self._openapi:
            self._openapi = await asyncio.to_thread(lambda: orjson.dumps(build_openapi()))
        return json_reply(self._openapi)


def _demand_method(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(f"{request.method} is not possible here; there is {', '.join(methods)}")


def _describe(definition: KindDefinition) -> dict[str, object]:
    return {
        "kind": definition.kind,
        "plural": definition.plural,
        "singular": definition.singular,
        "shortNames": list(definition.short_names),
        "scope": definition.scope.value,
        "category": definition.category,
        "subresources": sorted(subresources_of(definition)),
    }
