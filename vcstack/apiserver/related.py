"""What belongs together: owners, owned objects, what an object refers to and who refers to it.

Only what the caller may read is looked at. The cache is asked for just those objects, by field selectors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from vcstack.apiclient.explainmessages import LINKS_SHOWN, Link, Links, RelatedReply
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.targets import Target
from vcstack.specs.columns import find_value
from vcstack.specs.conditions import READY
from vcstack.specs.errors import NotFound
from vcstack.specs.introspect import Shape, fields_of, iter_wire_references, reference_paths
from vcstack.specs.registry import KindDefinition, Scope, get_kind, load_kinds
from vcstack.store.store import Store

Wire = Mapping[str, Any]
EVENTS: Final = 200


@dataclass(frozen=True, slots=True)
class Named:
    """An object that another one names."""

    kind: str
    name: str
    path: str
    """The field that names it."""
    project: str | None = None
    """The other project that is named with it."""
    wire: Wire | None = None
    """The object; None: it does not exist, or may not be seen."""

    def link(self, home: str | None) -> Link:
        """Return it as it is told; home: the project of what names it."""
        if self.wire is not None:
            return link_of(get_kind(self.kind), self.wire, self.path)
        project = self.project or (home if get_kind(self.kind).scope is Scope.PROJECT else None)
        return Link(kind=self.kind, project=project, name=self.name, path=self.path)


class Readable:
    """What one caller may read, of the cache."""

    def __init__(self, store: Store, authorizer: Authorizer, identity: Identity) -> None:
        self._store = store
        self._authorizer = authorizer
        self._identity = identity

    async def find(self, definition: KindDefinition, project: str | None, name: str) -> Wire | None:
        """Return the object; None when it is not there or not for the caller."""
        if not self._may(Action(Verb.GET, Target(definition, project, name))):
            return None
        try:
            return (await self._store.get(definition, project, name)).wire
        except NotFound:
            return None

    async def list(
        self, definition: KindDefinition, project: str | None, fields: str, limit: int
    ) -> tuple[list[Wire], bool]:
        """Return the first objects that the selector matches, and whether there are more."""
        action = Action(Verb.LIST, Target(definition, project), fields)
        if not self._may(action):
            return [], False
        visible = self._authorizer.visibility(self._identity, action)
        page = await self._store.list(definition, project, field_selector=fields, limit=limit, visible=visible)
        return [orjson.loads(item) for item in page.items], bool(page.continue_)

    def _may(self, action: Action) -> bool:
        return self._identity.account is None or self._authorizer.decide(self._identity, action)


async def find_related(readable: Readable, definition: KindDefinition, wire: Wire) -> RelatedReply:
    """Return all that the object is connected with; what may not be read is left out."""
    meta, home = wire["metadata"], project_in(wire)
    known = {str(meta.get("uid"))}
    owners = [Named(o["kind"], o["name"], "metadata.ownerReferences") for o in meta.get("ownerReferences") or []]
    return RelatedReply(
        owners=[n.link(home) for n in await find_all_named(readable, wire, owners)],
        references=[n.link(home) for n in await find_all_named(readable, wire, iter_named(definition, wire))],
        owned=_without(known, [links async for links in _iter_owned(readable, wire, load_kinds().values())]),
        users=_without(known, [links async for links in _iter_users(readable, definition, wire)]),
        events=await find_events(readable, wire),
    )


def iter_named(definition: KindDefinition, wire: Wire) -> Iterator[Named]:
    """Yield what the object's spec names, the host it is bound to, and {kind, name} pairs such as a task's target."""
    for reference in iter_wire_references(definition.model, wire):
        yield Named(reference.kind, reference.name, reference.path, project=reference.project)
    if (path := _host_path(definition)) is not None:
        host = find_value(wire, path)
        if isinstance(host, str) and host:
            yield Named("Host", host, path)
    for path in _pair_paths(fields_of(definition.model)["spec"].shape, "spec"):
        pair = find_value(wire, path)
        if isinstance(pair, Mapping) and pair.get("kind") in load_kinds() and pair.get("name"):
            yield Named(str(pair["kind"]), str(pair["name"]), path)


async def find_all_named(readable: Readable, wire: Wire, named: Iterable[Named]) -> list[Named]:
    """Return the same with the objects that are named, each once: the project's own first, else the global one."""
    distinct = {(n.kind, n.project, n.name): n for n in named}
    return [await _find_named(readable, wire, n) for n in distinct.values()]


async def _find_named(readable: Readable, wire: Wire, named: Named) -> Named:
    definition = get_kind(named.kind)
    project = project_in(wire)
    places: dict[Scope, list[str | None]] = {
        Scope.GLOBAL: [None],
        Scope.PROJECT: [project],
        Scope.GLOBAL_OR_PROJECT: [project, None] if project else [None],
    }
    for place in [named.project] if named.project else places[definition.scope]:
        if place is None and definition.scope is Scope.PROJECT:
            continue
        found = await readable.find(definition, place, named.name)
        if found is not None:
            return replace(named, wire=found)
    return named


async def find_events(readable: Readable, wire: Wire) -> list[dict[str, Any]]:
    """Return the events that regard the object, the oldest first."""
    uid = wire["metadata"].get("uid", "")
    items, _ = await readable.list(get_kind("Event"), project_in(wire), f"spec.regarding.uid={uid}", EVENTS)
    return sorted((dict(e) for e in items), key=lambda e: str(e["spec"].get("lastTime", "")))


async def find_owned(readable: Readable, wire: Wire) -> list[Named]:
    """Return the objects that belong to this one and can be held up."""
    found = []
    for definition in (d for d in load_kinds().values() if d.ready_when):
        items, _ = await _list_owned(readable, definition, wire)
        found += [Named(definition.kind, w["metadata"]["name"], "metadata.ownerReferences", wire=w) for w in items]
    return found


async def _iter_owned(readable: Readable, wire: Wire, kinds: Iterable[KindDefinition]) -> Any:
    """Yield for each kind what belongs to the object."""
    for definition in kinds:
        items, more = await _list_owned(readable, definition, wire)
        links = [link_of(definition, w, "metadata.ownerReferences") for w in items]
        yield Links(kind=definition.kind, links=links, more=more)


async def _list_owned(readable: Readable, definition: KindDefinition, wire: Wire) -> tuple[list[Wire], bool]:
    """Return what of the kind belongs to the object: of its project, of all when it is global."""
    uid, project = wire["metadata"].get("uid", ""), project_in(wire)
    if definition.system_only or (project is not None and definition.scope is Scope.GLOBAL):
        return [], False
    return await readable.list(definition, project, f"metadata.ownerReferences[{uid}].uid={uid}", LINKS_SHOWN)


async def _iter_users(readable: Readable, definition: KindDefinition, wire: Wire) -> Any:
    """Yield for each field of any kind that may name the object what names it there."""
    project, name = project_in(wire), wire["metadata"]["name"]
    for other in load_kinds().values():
        if other.system_only or (project is not None and other.scope is Scope.GLOBAL):
            continue
        path_of = _path_finder(other, definition.kind, name)
        for fields in _selectors(other, definition, name):
            items, more = await readable.list(other, project, fields, LINKS_SHOWN)
            links = [link_of(other, w, path_of(w)) for w in items]
            yield Links(kind=other.kind, links=links, more=more)


def _selectors(other: KindDefinition, definition: KindDefinition, name: str) -> Iterator[str]:
    """Yield the field selectors that find what of the other kind names the object."""
    for path, kind in reference_paths(other.model):
        if kind == definition.kind:
            yield f"{path}={name}"
    for path in _pair_paths(fields_of(other.model)["spec"].shape, "spec"):
        yield f"{path}.kind={definition.kind},{path}.name={name}"
    if definition.kind == "Host" and (host := _host_path(other)) is not None:
        yield f"{host}={name}"


def _path_finder(other: KindDefinition, kind: str, name: str) -> Callable[[Wire], str]:
    return lambda user: next((n.path for n in iter_named(other, user) if (n.kind, n.name) == (kind, name)), "")


def _host_path(definition: KindDefinition) -> str | None:
    path = definition.node_path
    return path if path and path.startswith("status.") else None


def _pair_paths(shape: Shape, path: str) -> Iterator[str]:
    """Yield the fields that name an object of any kind by {kind, name}."""
    fields = fields_of(shape.model) if shape.model else {}
    if {"kind", "name"} <= fields.keys():
        yield path
    for name, child in fields.items():
        yield from _pair_paths(child.shape, f"{path}.{name}")


def link_of(definition: KindDefinition, wire: Wire, path: str) -> Link:
    """Return what is told of an object that is connected by that field."""
    meta = wire["metadata"]
    ready = str(find_value(wire, f"status.conditions[{READY}].status") or "Unknown") if definition.ready_when else ""
    return Link(
        kind=definition.kind,
        project=meta.get("project"),
        name=meta["name"],
        path=path,
        uid=str(meta.get("uid", "")),
        ready=ready,
        deleting="deletionTimestamp" in meta,
    )


def project_in(wire: Wire) -> str | None:
    """Return the project that the object lies in."""
    project: str | None = wire["metadata"].get("project")
    return project


def _without(known: set[str], groups: Iterable[Links]) -> list[Links]:
    """Return the groups without what is known already or stands in an earlier group; all becomes known."""
    rest: list[Links] = []
    for group in groups:
        fresh = [link for link in group.links if link.uid not in known]
        known |= {link.uid for link in fresh}
        if fresh:
            rest.append(Links(kind=group.kind, links=fresh, more=group.more))
    return rest
