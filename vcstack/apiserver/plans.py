"""``/api/v1/plan``: what an apply of some objects would do, decided by doing everything but the writes.

Objects of a set may refer to each other, and lie in a project of it, before any of them is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.planmessages import (
    ApplyPlanReply,
    ApplyPlanRequest,
    PlannedAction,
    PlannedChange,
    PlannedItem,
)
from vcstack.apiserver import bodies
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.policies import Admission, Policies
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.targets import Target, parse_target
from vcstack.specs.apply import apply
from vcstack.specs.errors import NAMES_NOTHING, ApiError, Cause, Invalid, MethodNotAllowed, NotFound
from vcstack.specs.introspect import iter_wire_references
from vcstack.specs.plan import compare
from vcstack.specs.registry import KindDefinition, Scope, find_kind, load_kinds
from vcstack.specs.sensitive import redact
from vcstack.store.actor import Actor
from vcstack.store.store import Store

LABEL_SHOWN: Final = 80
Wire = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds for all objects of a plan."""

    identity: Identity
    manager: str
    force: bool
    replace: bool
    made: frozenset[tuple[str, str]]
    """Kind and name of all objects of the set."""


class PlanRoutes:
    """Answers what applies would do."""

    def __init__(self, store: Store, authorizer: Authorizer, policies: Policies) -> None:
        self._store = store
        self._authorizer = authorizer
        self._policies = policies

    async def answer(self, request: Request, identity: Identity) -> Response:
        """Return the plan. Raises Forbidden for hosts."""
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.method} is not possible here; there is POST")
        Query.parse(request.scope["query_string"]).only(NONE)
        self._authorizer.grants_of(identity)
        asked = await bodies.read_model(request, ApplyPlanRequest)
        made = frozenset((str(item.get("kind")), _name_of(item)) for item in asked.items)
        made |= {(other.kind, other.name) for other in asked.beside}
        terms = _Terms(identity, asked.field_manager, asked.force, asked.replace, made)
        seen: set[tuple[str, str | None, str]] = set()
        items = []
        for wire in asked.items:
            item = await self._plan(wire, terms)
            key = (item.kind, item.project, item.name)
            items.append(item if key not in seen else _refuse(item, _invalid("metadata.name", "stands here twice")))
            seen.add(key)
        return model_reply(ApplyPlanReply(items=items, refusal=await self._refuse_set(asked, terms, items)))

    async def _refuse_set(self, asked: ApplyPlanRequest, terms: _Terms, items: list[PlannedItem]) -> Any:
        """Return why quotas leave no room for what would be applied; None: they do."""
        wires = [
            (load_kinds()[item.kind], wire)
            for item, wire in zip(items, asked.items, strict=True)
            if item.refusal is None
        ]
        if len(wires) < 2:  # one by itself has been looked at
            return None
        actor = Actor(terms.identity.subject, terms.manager, guard=self._authorizer.guard_of(terms.identity))
        try:
            await self._store.check_quotas(wires, actor=actor)
        except ApiError as error:
            return error.to_status()
        return None

    async def _plan(self, wire: Wire, terms: _Terms) -> PlannedItem:
        """Return what would become of one object."""
        metadata = wire.get("metadata")
        project = metadata.get("project") if isinstance(metadata, dict) else None
        item = PlannedItem(
            action=PlannedAction.UNCHANGED,
            kind=str(wire.get("kind", ""))[:LABEL_SHOWN],
            project=project[:LABEL_SHOWN] if isinstance(project, str) and project else None,
            name=_name_of(wire)[:LABEL_SHOWN],
        )
        try:
            target = find_target(wire)
            action = Action(Verb.UPDATE, target, creates=True)
            await self._authorizer.authorize(terms.identity, action)
        except ApiError as error:
            return _refuse(item, error)
        live = await self._find_live(target)
        if live is not None:
            item.resource_version = live["metadata"]["resourceVersion"]
        admission = self._policies.admission_of(terms.identity)
        try:
            fitted = bodies.fit_to_path(dict(wire, metadata=dict(wire["metadata"])), target, named=True)
            after = await self._try(fitted, target, terms, admission, is_new=live is None)
        except ApiError as error:
            if self._may_read(terms.identity, target):
                item.changes = self._guess(live, wire, target, terms)
            return _refuse(item, error)
        item.changes = _changes(target.definition, live, after)
        item.warnings = list(admission.warnings) if admission is not None else []
        if live is None:
            item.action = PlannedAction.CREATE
        elif item.changes:
            item.action = PlannedAction.UPDATE
        return item

    async def _find_live(self, target: Target) -> Wire | None:
        try:
            return (await self._store.get(target.definition, target.project, target.name)).wire
        except NotFound:
            return None

    async def _try(
        self, wire: Wire, target: Target, terms: _Terms, admission: Admission | None, *, is_new: bool
    ) -> Wire:
        """Return the object as it would be. Raises ApiError."""
        guard = self._authorizer.guard_of(terms.identity)
        actor = Actor(terms.identity.subject, terms.manager, guard=guard, review=admission)

        async def attempt(*, allow_missing: bool) -> Wire:
            place = (target.definition, target.project, target.name)
            if terms.replace and not is_new:
                stored = await self._store.replace(
                    *place, wire, actor=actor, dry_run=True, allow_missing_references=allow_missing
                )
            else:
                stored = await self._store.apply(
                    *place,
                    wire,
                    manager=terms.manager,
                    force=terms.force,
                    actor=actor,
                    dry_run=True,
                    allow_missing_references=allow_missing,
                )
            return stored.wire

        try:
            return await attempt(allow_missing=False)
        except Invalid as error:
            if not _are_in_set(error, target.definition, wire, terms):
                raise
            return await attempt(allow_missing=True)
        except NotFound as error:
            if error.details.kind != "Project" or ("Project", target.project) not in terms.made:
                raise
            return self._store.imagine(target.definition, wire, actor=actor)

    def _may_read(self, identity: Identity, target: Target) -> bool:
        return identity.account is None or self._authorizer.decide(identity, Action(Verb.GET, target))

    def _guess(self, live: Wire | None, wire: Wire, target: Target, terms: _Terms) -> list[PlannedChange]:
        """Return what was asked for where it is refused, as far as that can be told."""
        if live is None:
            return []
        try:
            after = apply(
                target.definition.model, live, wire, manager=terms.manager, force=True, now=self._store.clock.now()
            )
            return _changes(target.definition, live, after)
        except (ApiError, TypeError, ValueError, AttributeError, KeyError):
            return []


def find_target(wire: Mapping[str, Any]) -> Target:
    """Return what a manifest names. Raises Invalid."""
    kind, metadata = wire.get("kind"), wire.get("metadata")
    definition = load_kinds().get(kind) if isinstance(kind, str) else None
    if definition is None:
        near = find_kind(kind) if isinstance(kind, str) else None
        hint = f"; did you mean {near.kind}?" if near is not None else ""
        raise _invalid("kind", f"there is no kind {str(kind)[:LABEL_SHOWN]!r}{hint}")
    if not isinstance(metadata, dict):
        raise _invalid("metadata", "must be an object")
    for field in ("name", "project"):
        if not isinstance(metadata.get(field) or "", str):
            raise _invalid(f"metadata.{field}", "must be text")
    name, project = metadata.get("name") or "", metadata.get("project") or ""
    if not name:
        raise _invalid("metadata.name", "is required")
    if definition.scope is Scope.PROJECT and not project:
        raise _invalid("metadata.project", "is required: the kind lives in projects")
    within = project and definition.scope is not Scope.GLOBAL
    if "/" in name or "/" in project:
        raise _invalid("metadata.name" if "/" in name else "metadata.project", "is no DNS label")
    return parse_target(f"projects/{project}/{definition.plural}/{name}" if within else f"{definition.plural}/{name}")


def _are_in_set(error: Invalid, definition: KindDefinition, wire: Wire, terms: _Terms) -> bool:
    """Return whether all that is wrong is that objects of the same set are not there yet."""
    named = {r.path: (r.kind, r.name) for r in iter_wire_references(definition.model, wire)}
    return all(c.reason == NAMES_NOTHING and named.get(c.field) in terms.made for c in error.causes)


def _changes(definition: KindDefinition, live: Wire | None, after: Wire) -> list[PlannedChange]:
    found = compare(definition.model, live, redact(definition.model, after))
    return [PlannedChange(path=c.path, from_=c.old, to=c.new, takes=c.change) for c in found]


def _refuse(item: PlannedItem, error: ApiError) -> PlannedItem:
    item.action, item.refusal = PlannedAction.REFUSED, error.to_status()
    return item


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason="FieldValueInvalid", message=message)])


def _name_of(wire: Mapping[str, Any]) -> str:
    metadata = wire.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
