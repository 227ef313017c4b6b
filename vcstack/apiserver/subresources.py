"""The subresources that all kinds have: status, finalize, history."""

from starlette.responses import Response

from vcstack.apiserver import bodies, queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import Role
from vcstack.apiserver.ownpast import find_own_past
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.replies import json_reply, value_reply
from vcstack.specs.errors import Cause, Forbidden, Invalid, MethodNotAllowed, NotFound
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition
from vcstack.store.draft import not_found

HISTORY_LIMIT = 500


class FinalizeRequest(Model):
    """Which finalizers are done."""

    remove: list[str]
    """The finalizers to remove; absent ones are no error."""
    uid: str | None = None
    """Given, the object must have it."""
    resource_version: str | None = None
    """Given, the object must have it."""


class CommonSubresources:
    """Answers requests for status, finalize and history."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._history = parts.history
        self._authorizer = authorizer

    async def status(self, call: Call) -> Response:
        """Return the object (GET), or write its status: PUT replaces, PATCH merges (conditions by type)."""
        if call.method in ("GET", "HEAD"):
            call.query.only(queries.NONE)
            await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
            return json_reply((await self._store.get(*_place(call))).json)
        if call.method not in ("PUT", "PATCH"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET, PUT, PATCH")
        query = call.query.only(queries.WRITE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        replace = call.method == "PUT"
        wire = await bodies.read_object(call.request, bodies.OBJECT_TYPES if replace else (bodies.MERGE_PATCH,))
        status = _status_of(wire)
        write = self._store.replace_status if replace else self._store.patch_status
        metadata = wire.get("metadata") or {}
        stored = await write(
            *_place(call),
            status,
            uid=metadata.get("uid"),
            resource_version=metadata.get("resourceVersion"),
            actor=call.actor(),
            dry_run=query.dry_run(),
        )
        return json_reply(stored.json)

    async def finalize(self, call: Call) -> Response:
        """Remove finalizers; 204 when the object is gone with its last one."""
        _only(call, "POST")
        call.query.only(queries.NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        asked = await bodies.read_model(call.request, FinalizeRequest)
        own = call.target.definition.node_finalizer
        if call.identity.role is Role.HOST and set(asked.remove) - {own}:
            raise Forbidden(f"{call.identity.subject} may remove only the finalizer {own}")
        stored = await self._store.finalize(
            *_place(call),
            asked.remove,
            uid=asked.uid,
            resource_version=asked.resource_version,
            actor=call.actor(),
        )
        return Response(status_code=204) if stored is None else json_reply(stored.json)

    async def history(self, call: Call) -> Response:
        """Return the object's revisions, newest first."""
        _only(call, "GET")
        query = call.query.only(queries.HISTORY)
        action = Action(Verb.GET, call.target)
        await self._authorizer.authorize(call.identity, action)
        if self._history is None:
            raise NotFound("no history is kept here: no PostgreSQL is configured")
        limit = query.count("limit", least=1, most=HISTORY_LIMIT) or 100
        await self._store.cache.fresh()
        own = find_own_past(self._authorizer, self._store.cache, call.identity, action)
        if own is None:
            raise not_found(*_place(call))
        ref, before = call.target.ref, query.count("before")
        revisions = await self._history.list_revisions(ref, limit=limit, before=before, since=own.since, uid=own.uid)
        reach = await self._history.find_reach(ref, since=own.since, uid=own.uid)
        if reach is not None and reach.lacks and before is not None and before <= reach.revision:
            raise reach.refuse(ref, "before")
        metadata = {} if reach is None else {"reach": {"revision": str(reach.revision)}}
        return value_reply({"kind": "History", "metadata": metadata, "items": [r.to_wire() for r in revisions]})


def _place(call: Call) -> tuple[KindDefinition, str | None, str]:
    return call.target.definition, call.target.project, call.target.name


def _status_of(wire: bodies.Wire) -> bodies.Wire:
    extra = set(wire) - {"apiVersion", "kind", "metadata", "spec", "status"}
    status = wire.get("status")
    field = next(iter(sorted(extra)), "status")
    if extra or not isinstance(status, dict):
        raise _forbidden_field(field, "is not known here" if extra else "must be an object with the status")
    if not isinstance(wire.get("metadata") or {}, dict):
        raise _forbidden_field("metadata", "must be an object")
    return status


def _forbidden_field(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason="FieldValueInvalid", message=message)])


def _only(call: Call, method: str) -> None:
    if call.method != method:
        raise MethodNotAllowed(f"{call.method} is not possible here; there is {method}")
