"""What belongs together: owners, owned objects, what an object refers to and who refers to it.

The API is asked for just those objects, by field selectors: a cloud with 10,000 instances answers as a small one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from vcstack.applying.concurrency import gather
from vcstack.applying.sets import project_in
from vcstack.specs.columns import find_value
from vcstack.specs.errors import ApiError, Forbidden, NotFound
from vcstack.specs.introspect import Shape, fields_of, iter_wire_references, reference_paths
from vcstack.specs.registry import KindDefinition, Scope, get_kind, load_kinds
from vcstack.vcctl.reading import Place, Wire
from vcstack.vcctl.session import Session

T = TypeVar("T")

LIMIT = 20
"""Objects of each kind that are asked for; a flavor may be used by thousands."""


@dataclass(frozen=True, slots=True)
class Link:
    """One other object."""

    kind: str
    name: str
    path: str
    """The field that makes the connection."""
    wire: Wire | None = None
    """The object; None: it does not exist."""
    project: str | None = None
    """The other project that is named with it."""

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(frozen=True, slots=True)
class Links:
    """The objects of one kind that are connected in the same way."""

    kind: str
    links: list[Link]
    more: bool = False
    """Whether there are others that were not asked for."""


@dataclass(slots=True)
class Related:
    """All that an object is connected with."""

    owners: list[Link] = field(default_factory=list)
    owned: list[Links] = field(default_factory=list)
    references: list[Link] = field(default_factory=list)
    users: list[Links] = field(default_factory=list)
    events: list[Wire] = field(default_factory=list)


def iter_links(definition: KindDefinition, wire: Wire) -> Iterator[Link]:
    """Yield what the object's spec names, the host it is bound to, and {kind, name} pairs such as a task's target."""
    for reference in iter_wire_references(definition.model, wire):
        yield Link(reference.kind, reference.name, reference.path, project=reference.project)
    if (path := _host_path(definition)) is not None:
        host = find_value(wire, path)
        if isinstance(host, str) and host:
            yield Link("Host", host, path)
    for path in _pair_paths(fields_of(definition.model)["spec"].shape, "spec"):
        pair = find_value(wire, path)
        if isinstance(pair, Mapping) and pair.get("kind") in load_kinds() and pair.get("name"):
            yield Link(str(pair["kind"]), str(pair["name"]), path)


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


async def find_linked(session: Session, wire: Wire, link: Link) -> Link:
    """Return the link with the object that it names: the project's own first, else the global one."""
    definition = get_kind(link.kind)
    project = project_in(wire)
    places: dict[Scope, list[str | None]] = {
        Scope.GLOBAL: [None],
        Scope.PROJECT: [project],
        Scope.GLOBAL_OR_PROJECT: [project, None] if project else [None],
    }
    for place in [link.project] if link.project else places[definition.scope]:
        try:
            found = await session.client.get_wire(definition, link.name, place)
        except (NotFound, Forbidden):
            continue
        return replace(link, wire=found)
    return link


async def find_all_linked(session: Session, wire: Wire, links: Iterable[Link]) -> list[Link]:
    """Return the links with the objects that they name, each once."""
    distinct = {(link.kind, link.project, link.name): link for link in links}
    return await _all([partial(find_linked, session, wire, link) for link in distinct.values()])


async def find_related(session: Session, definition: KindDefinition, wire: Wire) -> Related:
    """Return all that the object is connected with; what may not be read is left out."""
    meta = wire["metadata"]
    owners = [Link(o["kind"], o["name"], "metadata.ownerReferences") for o in meta.get("ownerReferences") or []]
    owned_calls = _owned_calls(session, wire, load_kinds().values())
    user_calls = _user_calls(session, definition, wire)
    events, owned_by, references, owned, users = await asyncio.gather(
        find_events(session, wire),
        find_all_linked(session, wire, owners),
        find_all_linked(session, wire, iter_links(definition, wire)),
        _all(owned_calls),
        _all(user_calls),
    )
    known = {str(meta.get("uid"))}
    return Related(owned_by, _without(known, owned), references, _without(known, users), events)


async def find_events(session: Session, wire: Wire) -> list[Wire]:
    """Return the events that regard the object, the oldest first."""
    uid = wire["metadata"].get("uid", "")
    try:
        page = await session.client.list_wire(
            get_kind("Event"), project=project_in(wire), fields=f"spec.regarding.uid={uid}"
        )
    except ApiError:
        return []
    return sorted(page.items, key=lambda e: str(e["spec"].get("lastTime", "")))


async def find_owned(session: Session, wire: Wire) -> list[Link]:
    """Return the objects that belong to this one and can be held up."""
    kinds = [d for d in load_kinds().values() if d.ready_when]
    return [link for group in await _all(_owned_calls(session, wire, kinds)) for link in group.links]


async def _all(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Return what the calls give; what may not be read is left out."""
    kept: list[T] = []
    for found in await gather(calls):
        if not isinstance(found, Exception):
            kept.append(found)
        elif not isinstance(found, Forbidden | NotFound):
            raise found
    return kept


Call = Callable[[], Awaitable[Links]]


def _owned_calls(session: Session, wire: Wire, kinds: Iterable[KindDefinition]) -> list[Call]:
    """Return a call for each kind of what may belong to the object: of its project, of all when it is global."""
    uid = wire["metadata"].get("uid", "")
    project = project_in(wire)
    fields = f"metadata.ownerReferences[{uid}].uid={uid}"
    places = [
        Place(d, project, fields)
        for d in kinds
        if not d.system_only and (project is None or d.scope is not Scope.GLOBAL)
    ]
    return [partial(_find_links, session, place, lambda d, w: "metadata.ownerReferences") for place in places]


def _user_calls(session: Session, definition: KindDefinition, wire: Wire) -> list[Call]:
    """Return a call for each field of any kind that may name the object."""
    project, name = project_in(wire), wire["metadata"]["name"]
    places = []
    for other in load_kinds().values():
        if other.system_only or (project is not None and other.scope is Scope.GLOBAL):
            continue
        selectors = [f"{path}={name}" for path, kind in reference_paths(other.model) if kind == definition.kind]
        pairs = _pair_paths(fields_of(other.model)["spec"].shape, "spec")
        selectors += [f"{path}.kind={definition.kind},{path}.name={name}" for path in pairs]
        if definition.kind == "Host" and (path := _host_path(other)) is not None:
            selectors.append(f"{path}={name}")
        places += [Place(other, project, fields) for fields in selectors]

    def path_of(other: KindDefinition, user: Wire) -> str:
        links = (k.path for k in iter_links(other, user) if (k.kind, k.name) == (definition.kind, name))
        return next(links, "")

    return [partial(_find_links, session, place, path_of) for place in places]


async def _find_links(session: Session, place: Place, path_of: Callable[[KindDefinition, Wire], str]) -> Links:
    page = await session.client.list_page(place.definition, project=place.project, fields=place.fields, limit=LIMIT)
    kind = place.definition.kind
    links = [Link(kind, w["metadata"]["name"], path_of(place.definition, w), w) for w in page.items]
    return Links(kind, links, more=bool(page.continue_token))


def _without(known: set[str], groups: Iterable[Links]) -> list[Links]:
    """Return the groups without what is known already or stands in an earlier group; all becomes known."""
    rest: list[Links] = []
    for group in groups:
        fresh = [link for link in group.links if _uid_of(link) not in known]
        known |= {_uid_of(link) for link in fresh}
        if fresh:
            rest.append(Links(group.kind, fresh, group.more))
    return rest


def _uid_of(link: Link) -> str:
    return str(link.wire["metadata"].get("uid")) if link.wire else ""
