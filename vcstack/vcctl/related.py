"""What belongs together: owners, owned objects, what an object refers to and who refers to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from vcstack.specs.columns import find_value
from vcstack.specs.errors import ApiError, Forbidden, NotFound
from vcstack.specs.introspect import Shape, fields_of, iter_wire_references
from vcstack.specs.registry import KindDefinition, Scope, get_kind, load_kinds
from vcstack.vcctl.reading import Place, Wire, gather, list_objects, project_in
from vcstack.vcctl.session import Session


@dataclass(frozen=True, slots=True)
class Link:
    """One other object."""

    kind: str
    name: str
    path: str
    """The field that makes the connection."""
    wire: Wire | None = None
    """The object; None: it does not exist."""

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(slots=True)
class Related:
    """All that an object is connected with."""

    owners: list[Link] = field(default_factory=list)
    owned: list[Link] = field(default_factory=list)
    references: list[Link] = field(default_factory=list)
    users: list[Link] = field(default_factory=list)
    events: list[Wire] = field(default_factory=list)


def iter_links(definition: KindDefinition, wire: Wire) -> Iterator[Link]:
    """Yield what the object's spec names, the host it is bound to, and {kind, name} pairs such as a task's target."""
    for reference in iter_wire_references(definition.model, wire):
        yield Link(reference.kind, reference.name, reference.path)
    if definition.node_path and definition.node_path.startswith("status."):
        host = find_value(wire, definition.node_path)
        if isinstance(host, str) and host:
            yield Link("Host", host, definition.node_path)
    yield from _pairs(wire.get("spec"), fields_of(definition.model)["spec"].shape, "spec")


def _pairs(value: Any, shape: Shape, path: str) -> Iterator[Link]:
    if not isinstance(value, Mapping) or shape.model is None:
        return
    fields = fields_of(shape.model)
    if {"kind", "name"} <= fields.keys() and value.get("kind") in load_kinds() and value.get("name"):
        yield Link(str(value["kind"]), str(value["name"]), path)
    for name, child in fields.items():
        yield from _pairs(value.get(name), child.shape, f"{path}.{name}")


async def find_linked(session: Session, wire: Wire, link: Link) -> Link:
    """Return the link with the object that it names: the project's own first, else the global one."""
    definition = get_kind(link.kind)
    project = project_in(wire)
    places: dict[Scope, list[str | None]] = {
        Scope.GLOBAL: [None],
        Scope.PROJECT: [project],
        Scope.GLOBAL_OR_PROJECT: [project, None] if project else [None],
    }
    for place in places[definition.scope]:
        try:
            found = await session.client.get_wire(definition, link.name, place)
        except (NotFound, Forbidden):
            continue
        return Link(link.kind, link.name, link.path, found)
    return link


async def find_related(session: Session, definition: KindDefinition, wire: Wire) -> Related:
    """Return all that the object is connected with; what may not be read is left out."""
    related = Related(events=await find_events(session, wire))
    links = {(link.kind, link.name): link for link in iter_links(definition, wire)}
    found = await gather([partial(find_linked, session, wire, link) for link in links.values()])
    related.references = [f for f in found if isinstance(f, Link)]
    for owner in wire["metadata"].get("ownerReferences") or []:
        link = Link(owner["kind"], owner["name"], "metadata.ownerReferences")
        related.owners.append(await find_linked(session, wire, link))
    for other in await _list_around(session, wire):
        _sort_in(related, definition, wire, other)
    return related


async def find_events(session: Session, wire: Wire) -> list[Wire]:
    """Return the events that regard the object, the oldest first."""
    uid = wire["metadata"].get("uid", "")
    place = Place(get_kind("Event"), project_in(wire), fields=f"spec.regarding.uid={uid}")
    try:
        events = await list_objects(session, [place])
    except ApiError:
        return []
    return sorted(events, key=lambda e: str(e["spec"].get("lastTime", "")))


async def find_owned(session: Session, wire: Wire) -> list[Link]:
    """Return the objects that belong to this one."""
    related = Related()
    for other in await _list_around(session, wire):
        _sort_in(related, get_kind(wire["kind"]), wire, other)
    return related.owned


async def _list_around(session: Session, wire: Wire) -> Sequence[Wire]:
    """Return the objects that may own up to this one: of its project, of all when it is global."""
    project = project_in(wire)
    kinds = [d for d in load_kinds().values() if d.kind != "Event" and (project is None or d.scope is not Scope.GLOBAL)]
    found = await gather([partial(list_objects, session, [Place(d, project)]) for d in kinds])
    return [w for page in found if not isinstance(page, Exception) for w in page]


def _sort_in(related: Related, definition: KindDefinition, wire: Wire, other: Wire) -> None:
    meta, uid = other["metadata"], wire["metadata"].get("uid")
    if meta.get("uid") == uid:
        return
    if any(o.get("uid") == uid for o in meta.get("ownerReferences") or []):
        related.owned.append(Link(other["kind"], meta["name"], "metadata.ownerReferences", other))
        return
    name = wire["metadata"]["name"]
    for link in iter_links(get_kind(other["kind"]), other):
        if (link.kind, link.name) == (definition.kind, name):
            related.users.append(Link(other["kind"], meta["name"], link.path, other))
            return
