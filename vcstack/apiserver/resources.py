"""The verbs on objects and collections of any kind."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

from vcstack.apiserver import bodies, queries
from vcstack.apiserver.audit.entry import note_object
from vcstack.apiserver.authz import Action, Authorizer, Permit, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.lentwatch import LentWatch
from vcstack.apiserver.ownpast import find_own_past
from vcstack.apiserver.parts import ApiParts, HistoryReader
from vcstack.apiserver.pastevents import PastEventRoutes
from vcstack.apiserver.replies import json_reply, value_reply
from vcstack.apiserver.shutdown import Drain
from vcstack.apiserver.watching import Changes, WatchResponse, watch_seconds
from vcstack.specs.access import Propagation
from vcstack.specs.errors import BadRequest, Cause, Invalid, MethodNotAllowed, NotFound, Unavailable
from vcstack.specs.kinds.event import Event
from vcstack.specs.meta import API_VERSION
from vcstack.specs.patch import merge_patch
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.store.draft import not_found
from vcstack.store.lending import iter_lent
from vcstack.store.records import ListPage, Stored

HISTORY_SECONDS = 5.0
"""How long a reader of the past waits for history to come that far; it is behind by moments."""
HISTORY_LOOK_SECONDS = 0.05
PROPAGATIONS = tuple(p.value for p in Propagation)
Handler = Callable[[Call], Awaitable[Response]]
LentView = Callable[[Mapping[str, Any]], dict[str, Any]]


class ResourceRoutes:
    """Answers requests for objects and collections. Each handler authorizes before it reads anything."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer, drain: Drain) -> None:
        self._store = parts.store
        self._history = parts.history
        self._clock = parts.clock
        self._settings = parts.settings
        self._authorizer = authorizer
        self._drain = drain
        self._past_events = PastEventRoutes(parts, authorizer)
        self._object: dict[str, Handler] = {
            "GET": self.get,
            "PUT": self.replace,
            "PATCH": self.patch,
            "DELETE": self.delete,
        }
        self._collection: dict[str, Handler] = {"GET": self.list_or_watch, "POST": self.create}

    async def answer(self, call: Call) -> Response:
        """Return the answer to a request for an object or a collection."""
        table = self._object if call.target.name else self._collection
        handler = table.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            raise MethodNotAllowed(f"{call.method} is not possible here; there is {', '.join(table)}")
        return await handler(call)

    async def get(self, call: Call) -> Response:
        """Return the object, as it is or as it was at a revision."""
        query = call.query.only(queries.GET)
        revision = query.count("atRevision")
        action, view = Action(Verb.GET, call.target), call.target.definition.lent_view
        if view is not None and revision is None and await self._authorizer.reads_as_borrower(call.identity, action):
            return value_reply(view((await self._find(call)).wire))
        await self._authorizer.authorize(call.identity, action)
        if revision is None:
            return json_reply((await self._find(call)).json)
        if self._history is None:
            raise NotFound("no history is kept here: no PostgreSQL is configured")
        await self._await_history(self._history, revision)
        await self._store.cache.fresh()
        own = find_own_past(self._authorizer, self._store.cache, call.identity, action)
        if own is None:
            raise not_found(call.target.definition, call.target.project, call.target.name)
        past = await self._history.get_at_revision(call.target.ref, revision, since=own.since, uid=own.uid)
        return value_reply(past)

    async def _await_history(self, history: HistoryReader, revision: int) -> None:
        """Return when history has come to the revision: before, what was then cannot be told from what was earlier.

        Raises:
            Unavailable: it does not.
        """
        reached = await history.read_position()
        if reached >= revision:
            return
        wanted = min(revision, await self._store.cache.fresh())
        ends = self._clock.monotonic() + HISTORY_SECONDS
        while reached < wanted:
            if self._clock.monotonic() >= ends:
                raise Unavailable(f"history has come to revision {reached} of {wanted} only; try again shortly")
            await self._clock.sleep(HISTORY_LOOK_SECONDS)
            reached = await history.read_position()

    async def list_or_watch(self, call: Call) -> Response:
        """Return a page of the collection, or stream its changes."""
        if call.query.text("since") and call.target.definition.kind == Event.KIND:
            return await self._past_events.list(call)
        if call.query.flag("shared"):
            return await (self.watch_lent(call) if call.query.flag("watch") else self.list_lent(call))
        return await (self.watch(call) if call.query.flag("watch") else self.list(call))

    async def list(self, call: Call) -> Response:
        """Return a page of the collection, or what others share with the project."""
        query, most = call.query.only(queries.LIST | {"watch", "shared"}), self._settings.page_limit
        fields = query.text("fieldSelector") or ""
        action = Action(Verb.LIST, call.target, fields)
        await self._authorizer.authorize(call.identity, action)
        page = await self._store.list(
            call.target.definition,
            call.target.project,
            label_selector=query.text("labelSelector") or "",
            field_selector=fields,
            limit=min(query.count("limit") or most, most),
            continue_=query.text("continue") or "",
            visible=self._authorizer.visibility(call.identity, action),
            projects=self._authorizer.projects_of(call.identity, action),
        )
        return json_reply(render_list(call.target.definition.kind, page))

    async def list_lent(self, call: Call) -> Response:
        """Return what of the kind other projects share with this one, as borrowers see it."""
        call.query.only(queries.LENT)
        definition, view, project = _lendable(call)
        await self._authorizer.authorize(call.identity, Action(Verb.LIST, call.target))
        await self._store.cache.fresh()
        items = [view(wire) for wire in iter_lent(self._store.cache, definition, project)]
        metadata = {"resourceVersion": str(self._store.cache.revision)}
        return value_reply(
            {"apiVersion": API_VERSION, "kind": f"{definition.kind}List", "metadata": metadata, "items": items}
        )

    async def watch_lent(self, call: Call) -> Response:
        """Stream how what other projects share with this one changes, comes and goes."""
        query = call.query.only(queries.WATCH_LENT)
        definition, _, project = _lendable(call)
        action = Action(Verb.WATCH, call.target)
        await self._authorizer.authorize(call.identity, action)
        permit = self._authorizer.permit(call.identity, action)
        await self._store.cache.fresh()
        items = LentWatch(self._store.cache, definition, project, query.count("resourceVersion"))
        return self._stream(call, items, permit)

    async def watch(self, call: Call) -> Response:
        """Stream the changes after a resourceVersion (default: from now on)."""
        query = call.query.only(queries.WATCH)
        fields = query.text("fieldSelector") or ""
        action = Action(Verb.WATCH, call.target, fields)
        await self._authorizer.authorize(call.identity, action)
        permit = self._authorizer.permit(call.identity, action)
        since = query.count("resourceVersion")
        items = await self._store.watch(
            call.target.definition,
            call.target.project,
            since=since,
            label_selector=query.text("labelSelector") or "",
            field_selector=fields,
            visible=self._authorizer.visibility(call.identity, action),
        )
        return self._stream(call, items, permit)

    def _stream(self, call: Call, items: Changes, permit: Permit | None) -> Response:
        return WatchResponse(
            items,
            bookmarks=call.query.flag("allowWatchBookmarks"),
            seconds=watch_seconds(call.query.count("timeoutSeconds", most=86_400), self._settings),
            settings=self._settings,
            drain=self._drain,
            permit=permit,
        )

    async def create(self, call: Call) -> Response:
        """Create an object."""
        query = call.query.only(queries.WRITE)
        await self._authorizer.authorize(call.identity, Action(Verb.CREATE, call.target))
        wire = bodies.fit_to_path(await bodies.read_object(call.request), call.target, named=False)
        if call.target.project is None and call.target.definition.scope is Scope.PROJECT:
            # Before the store looks: what it finds there is nothing for those who may do nothing there.
            within = dataclasses.replace(call.target, project=wire["metadata"]["project"])
            await self._authorizer.authorize(call.identity, Action(Verb.CREATE, within))
        note_object(wire["metadata"].get("project"), wire["metadata"].get("name"))
        await self._authorize_content(call, wire)
        stored = await self._store.create(
            call.target.definition,
            wire,
            actor=call.actor(),
            dry_run=query.dry_run(),
            allow_missing_references=query.allow_missing_references(),
        )
        return json_reply(stored.json, 201)

    async def replace(self, call: Call) -> Response:
        """Replace labels, annotations, owners, finalizers and spec."""
        query = call.query.only(queries.WRITE)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
        wire = bodies.fit_to_path(await bodies.read_object(call.request), call.target, named=True)
        await self._authorize_content(call, wire)
        stored = await self._store.replace(
            call.target.definition,
            call.target.project,
            call.target.name,
            wire,
            actor=call.actor(),
            dry_run=query.dry_run(),
            allow_missing_references=query.allow_missing_references(),
        )
        return json_reply(stored.json)

    async def patch(self, call: Call) -> Response:
        """Merge a patch, or apply a manifest on the server's side."""
        given = bodies.plain_type(call.request.headers.get("content-type", ""))
        creates = given in (bodies.APPLY_JSON, bodies.APPLY_YAML)
        await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target, creates=creates))
        media_type = bodies.media_type_of(call.request, bodies.PATCH_TYPES)
        return await (self._merge(call) if media_type == bodies.MERGE_PATCH else self._apply(call))

    async def delete(self, call: Call) -> Response:
        """Ask for the deletion; 204 when the object is gone at once."""
        query = call.query.only(queries.DELETE)
        await self._authorizer.authorize(call.identity, Action(Verb.DELETE, call.target))
        body = await bodies.read_bytes(call.request)
        preconditions = _read_preconditions(bodies.decode(body, is_yaml=False)) if body else {}
        version = query.text("resourceVersion") or preconditions.get("resourceVersion")
        propagation = query.choice("propagationPolicy", PROPAGATIONS) or preconditions.get("propagationPolicy")
        stored = await self._store.delete(
            call.target.definition,
            call.target.project,
            call.target.name,
            uid=query.text("uid") or preconditions.get("uid"),
            resource_version=version,
            propagation=Propagation(propagation or Propagation.BACKGROUND),
            actor=call.actor(),
            dry_run=query.dry_run(),
        )
        return Response(status_code=204) if stored is None else json_reply(stored.json)

    async def _merge(self, call: Call) -> Response:
        query = call.query.only(queries.WRITE)
        patch = await bodies.read_object(call.request, bodies.PATCH_TYPES)
        if call.target.definition.kind == Event.KIND:
            await self._authorize_content(call, merge_patch((await self._find(call)).wire, patch))
        stored = await self._store.merge_patch(
            call.target.definition,
            call.target.project,
            call.target.name,
            patch,
            actor=call.actor(),
            dry_run=query.dry_run(),
            allow_missing_references=query.allow_missing_references(),
        )
        return json_reply(stored.json)

    async def _apply(self, call: Call) -> Response:
        query = call.query.only(queries.APPLY)
        manager = call.manager()
        if manager is None:
            raise queries.refuse("fieldManager", "is needed for an apply: it says who owns the fields given")
        wire = bodies.fit_to_path(await bodies.read_object(call.request, bodies.PATCH_TYPES), call.target, named=True)
        await self._authorize_content(call, wire)
        stored = await self._store.apply(
            call.target.definition,
            call.target.project,
            call.target.name,
            wire,
            manager=manager,
            force=query.flag("force"),
            actor=call.actor(manager=manager),
            dry_run=query.dry_run(),
            allow_missing_references=query.allow_missing_references(),
        )
        return json_reply(stored.json)

    async def _authorize_content(self, call: Call, wire: bodies.Wire) -> None:
        if call.target.definition.kind == Event.KIND:
            self._authorizer.authorize_event(call.identity, wire["metadata"].get("project"), wire)

    async def _find(self, call: Call) -> Stored:
        return await self._store.get(call.target.definition, call.target.project, call.target.name)


def render_list(kind: str, page: ListPage) -> bytes:
    """Return the list's JSON, joined from the cached bytes of its objects."""
    metadata: dict[str, str | int] = {"resourceVersion": str(page.revision)}
    if page.continue_:
        metadata["continue"] = page.continue_
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    head = orjson.dumps({"apiVersion": API_VERSION, "kind": f"{kind}List", "metadata": metadata})
    return b'%b,"items":[%b]}' % (head[:-1], b",".join(page.items))


def _read_preconditions(body: bodies.Wire) -> dict[str, str]:
    """Return what a DELETE's body asks for: {"uid", "resourceVersion", "propagationPolicy"}."""
    known = ("uid", "resourceVersion", "propagationPolicy")
    for name, value in body.items():
        if name not in known or not isinstance(value, str):
            cause = Cause(
                field=name[:80], reason="FieldValueInvalid", message=f"known are the texts {', '.join(known)}"
            )
            raise Invalid(f"{name[:80]}: {cause.message}", causes=[cause])
    if body.get("propagationPolicy", PROPAGATIONS[0]) not in PROPAGATIONS:
        raise BadRequest(f"propagationPolicy must be {' or '.join(PROPAGATIONS)}")
    return body


def _lendable(call: Call) -> tuple[KindDefinition, LentView, str]:
    """Return the kind, what borrowers see of it, and the borrower. Raises BadRequest where nothing is lent."""
    definition, project = call.target.definition, call.target.project
    if definition.lent_view is None or project is None:
        lendable = ", ".join(d.plural for d in load_kinds().values() if d.lent_view is not None)
        raise queries.refuse("shared", f"is for lists of one project's {lendable}, which others may share with it")
    return definition, definition.lent_view, project
