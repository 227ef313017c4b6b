"""The HTTP side of the trail: ``/api/v1/audit...``, and of one project ``/api/v1/projects/NAME/audit``.

    GET audit            records, newest first, by who, what, when: a page
    GET audit/export     records as they were written, JSON lines, each chain's in order
    GET audit/verify     what is wrong with the trail (who audits the whole cloud)
    GET audit/anchors    the ends of chains as noted outside the database, JSON lines (the same)

A record is there for queries a second or two after its request; while PostgreSQL is away, once it is back.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vcstack.apiserver.audit.scope import WHOLE_CLOUD, Scope, find_beginning, find_scope
from vcstack.apiserver.audit.shipper import Archive, RecordPlace
from vcstack.apiserver.audit.trail import Trail
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.queries import NONE, Query, refuse
from vcstack.apiserver.replies import json_reply, model_reply
from vcstack.specs.audit import AuditFilter, Verifier, format_instant
from vcstack.specs.errors import Forbidden, MethodNotAllowed, NotFound
from vcstack.store.cache import WatchCache
from vcstack.store.draft import not_found

PATH: Final = "/api/v1/audit"
JSON_LINES: Final = "application/jsonl"
PAGE: Final = 100
MOST: Final = 1000
CHUNK_BYTES: Final = 64 * 1024
FIELDS: Final = {
    "subject": "subject",
    "kind": "kind",
    "project": "project",
    "domain": "domain",
    "name": "name",
    "verb": "verb",
    "outcome": "outcome",
    "requestId": "request_id",
    "chain": "chain",
}
"""Query parameters and what of the filter they are."""
OUTCOMES: Final = ("Allowed", "Denied", "Failed")
FILTERS: Final = frozenset({*FIELDS, "since", "until"})
PAGING: Final = frozenset({"limit", "continue"})
Handler = Callable[[Query, Scope], Awaitable[Response]]


def is_audit(path: str) -> bool:
    """Return whether the path is one of these."""
    return path == PATH or path.startswith(PATH + "/")


class AuditRoutes:
    """Answers ``/api/v1/audit...`` and the subresource ``audit`` of projects."""

    def __init__(self, trail: Trail | None, authorizer: Authorizer, cache: WatchCache) -> None:
        self._trail = trail
        self._authorizer = authorizer
        self._cache = cache
        self._routes: dict[str, Handler] = {
            PATH: self.list,
            PATH + "/export": self.export,
            PATH + "/verify": self.verify,
            PATH + "/anchors": self.anchors,
        }

    async def answer(self, request: Request, identity: Identity) -> Response:
        """Return the answer. Raises ApiError."""
        if identity.account is not None:
            await self._cache.fresh()  # what gives the right may have been written a moment ago
        scope = find_scope(self._authorizer, self._cache, identity)
        handler = self._routes.get(request.scope["path"])
        if handler is None:
            raise NotFound(f"there is no route {request.scope['path'][:200]!r}; see /api/docs")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("the audit trail is only read")
        if handler in (self.verify, self.anchors) and scope is not WHOLE_CLOUD:
            raise Forbidden(f"{identity.subject} may not audit the whole cloud, which alone can be verified")
        return await handler(Query.parse(request.scope["query_string"]), scope)

    async def of_project(self, call: Call) -> Response:
        """Return a page of a project's records."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("the audit trail is only read")
        query, name = call.query.only((FILTERS | PAGING) - {"project", "domain"}), call.target.name
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        since = find_beginning(self._cache, name)
        if since is None:
            raise not_found(call.target.definition, None, name)
        return await self.list(query, Scope({name: since}))

    async def list(self, query: Query, scope: Scope) -> Response:
        """Return a page of records, the newest first."""
        wanted = scope.narrow(_read_filter(query.only(FILTERS | PAGING)))
        limit = query.count("limit", least=1, most=MOST) or PAGE
        rows = await self._archive.select(wanted, limit=limit + 1, before=_read_place(query))
        metadata = {}
        if len(rows) > limit:
            rows = rows[:limit]
            metadata["continue"] = base64.urlsafe_b64encode(orjson.dumps(rows[-1][0])).decode()
        head = orjson.dumps({"kind": "AuditRecordList", "metadata": metadata})
        return json_reply(b'%b,"items":[%b]}' % (head[:-1], b",".join(record.encode() for _, record in rows)))

    async def export(self, query: Query, scope: Scope) -> Response:
        """Stream records as they were written."""
        lines = self._archive.scan(scope.narrow(_read_filter(query.only(FILTERS))))
        first = await anext(lines, None)  # an archive that does not answer is said so by a proper error

        async def chunks() -> AsyncIterator[bytes]:
            chunk = bytearray() if first is None else bytearray(first.encode() + b"\n")
            async for line in lines:
                chunk += line.encode() + b"\n"
                if len(chunk) >= CHUNK_BYTES:
                    yield bytes(chunk)
                    chunk.clear()
            yield bytes(chunk)

        return StreamingResponse(chunks(), media_type=JSON_LINES)

    async def verify(self, query: Query, scope: Scope) -> Response:
        """Go through all records and say what is wrong with them."""
        query.only(NONE)
        archive = self._archive
        verifier = Verifier(await self._own.read_anchors())
        async for line in archive.scan(AuditFilter()):
            verifier.add(line.encode())
        return model_reply(verifier.finish())

    async def anchors(self, query: Query, scope: Scope) -> Response:
        """Return the anchors that this server has noted."""
        query.only(NONE)
        lines = b"".join(anchor.to_json() + b"\n" for anchor in await self._own.read_anchors())
        return Response(lines, media_type=JSON_LINES)

    @property
    def _own(self) -> Trail:
        if self._trail is None:
            raise NotFound("no audit trail is kept here: it is switched off in the settings")
        return self._trail

    @property
    def _archive(self) -> Archive:
        archive = self._own.archive
        if archive is None:
            message = "records are in files only, for no PostgreSQL is configured; see 'vcctl audit verify FILE'"
            raise NotFound(message)
        return archive


def _read_filter(query: Query) -> AuditFilter:
    values: dict[str, Any] = {field: query.text(name) or "" for name, field in FIELDS.items()}
    for name, field in FIELDS.items():
        if not values[field].isprintable():
            raise refuse(name, "has control characters")
    if values["outcome"] not in ("", *OUTCOMES):
        raise refuse("outcome", f"is {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}")
    for name in ("since", "until"):
        values[name] = _read_time(name, query.text(name))
    return AuditFilter(**values)


def _read_time(name: str, text: str | None) -> str:
    if text is None:
        return ""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return format_instant(time)
    except (ValueError, OverflowError) as error:
        raise refuse(name, "must be a time as in RFC 3339, e.g. 2026-11-22T08:00:00Z") from error


def _read_place(query: Query) -> RecordPlace | None:
    token = query.text("continue")
    if token is None:
        return None
    try:
        time, chain, seq = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        if not (isinstance(time, str) and isinstance(chain, str) and type(seq) is int) or "\0" in time + chain:
            raise ValueError
        if not 0 <= seq < 2**63:
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise refuse("continue", "is no token of an earlier page") from error
    return time, chain, seq
