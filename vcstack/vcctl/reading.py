"""Reading objects: the one that is meant, lists, and what becomes of them."""

import asyncio
import difflib
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from vcstack.apiclient.watch import WireEvent
from vcstack.apiclient.wire import WirePage
from vcstack.applying.sets import project_in
from vcstack.specs.access import EventType
from vcstack.specs.errors import ApiError, Expired, NotFound, Unavailable
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl.session import Session

Wire = dict[str, Any]

RETRY_SECONDS = 1.0
"""Between tries to watch an API that went away."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects of a kind are looked for."""

    definition: KindDefinition
    project: str | None
    fields: str = ""
    labels: str = ""
    lent: bool = False
    """What other projects share with the project, instead of its own."""


def label_of(definition: KindDefinition, wire: Wire) -> str:
    """Return how an object is called in messages: instance/web-1."""
    return f"{definition.singular}/{wire['metadata']['name']}"


async def get_object(session: Session, definition: KindDefinition, name: str) -> Wire:
    """Return the object that is meant: the project's own first, then the global one where both may be.

    Raises:
        NotFound: if there is none; the message proposes similar names.
    """
    project = session.project_of(definition)
    if definition.scope is Scope.GLOBAL_OR_PROJECT:
        project = session.default_project
    try:
        return await session.client.get_wire(definition, name, project)
    except NotFound as error:
        if definition.scope is Scope.GLOBAL_OR_PROJECT and project is not None:
            try:
                return await session.client.get_wire(definition, name, None)
            except NotFound:
                pass
        raise await _with_proposal(session, definition, name, project, error) from None


async def _with_proposal(
    session: Session, definition: KindDefinition, name: str, project: str | None, error: NotFound
) -> NotFound:
    """Return the error with similar names, or the projects that have one of that name."""
    listed = (await session.client.list_wire(definition, project=project)).items
    close = difflib.get_close_matches(name, [item["metadata"]["name"] for item in listed], n=3)
    where = f" in project {project}" if project else ""
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif elsewhere := await _projects_with(session, definition, name):
        hint = f"there is one in project {' and '.join(elsewhere)}: add -p {elsewhere[0]}"
    else:
        hint = f"see vcctl get {definition.plural}"
    return NotFound(f"{definition.kind} {name} does not exist{where}; {hint}", details=error.details)


async def _projects_with(session: Session, definition: KindDefinition, name: str) -> list[str]:
    if definition.scope is Scope.GLOBAL:
        return []
    try:
        page = await session.client.list_wire(definition, fields=f"metadata.name={name}")
    except ApiError:
        return []
    return sorted(p for item in page.items if (p := project_in(item)))


def places_of(
    session: Session, definition: KindDefinition, *, everywhere: bool, labels: str = "", fields: str = ""
) -> list[Place]:
    """Return where a list looks: the project, everywhere, or a project's own and the global ones."""
    project = None if everywhere else session.project_of(definition)
    if definition.scope is Scope.GLOBAL_OR_PROJECT and not everywhere:
        default = session.context.project
        if project is None and default is not None:
            own = ",".join(f for f in (fields, "metadata.project=") if f)
            return [Place(definition, default, fields, labels), Place(definition, None, own, labels)]
    return [Place(definition, project, fields, labels)]


async def list_objects(session: Session, places: Iterable[Place]) -> list[Wire]:
    """Return all objects at the places, sorted by project and name."""
    items: list[Wire] = []
    for place in places:
        items += (await _list(session, place)).items
    return sorted(items, key=lambda w: (project_in(w) or "", w["metadata"]["name"]))


async def follow(session: Session, place: Place) -> AsyncGenerator[tuple[EventType, Wire]]:
    """Yield the objects at the place and all that becomes of them, for ever.

    The list comes as ADDED, then a BOOKMARK with an empty object. Survives restarts of the API and
    compaction: what vanished meanwhile comes as DELETED, what is the same is not repeated.
    """
    known: dict[tuple[str | None, str], Wire] = {}
    first = True
    while True:
        try:
            page = await _list(session, place)
            for kind, wire in _differences(known, page.items):
                yield kind, wire
            known = {_key(w): w for w in page.items}
            if first:
                yield EventType.BOOKMARK, {}
            first = False
            async with aclosing(_events(session, place, page.resource_version)) as events:
                async for event in events:
                    if event.type is EventType.DELETED:
                        known.pop(_key(event.object), None)
                    else:
                        known[_key(event.object)] = event.object
                    yield event.type, event.object
        except Expired:
            continue
        except Unavailable:
            if first:
                raise
            await asyncio.sleep(RETRY_SECONDS)


async def _events(session: Session, place: Place, since: str) -> AsyncGenerator[WireEvent]:
    """Yield the changes after a version; reopens streams that the server ended."""
    version = since
    while True:
        async with aclosing(_watch(session, place, version)) as stream:
            async for event in stream:
                version = event.resource_version
                if event.type is not EventType.BOOKMARK:
                    yield event
        await asyncio.sleep(0.05)


async def _list(session: Session, place: Place) -> WirePage:
    if place.lent and place.project is not None:
        return await session.client.list_lent(place.definition, place.project)
    return await session.client.list_wire(
        place.definition, project=place.project, labels=place.labels, fields=place.fields
    )


def _watch(session: Session, place: Place, since: str) -> AsyncGenerator[WireEvent]:
    if place.lent and place.project is not None:
        return session.client.watch_lent(place.definition, place.project, since=since)
    return session.client.watch_wire(
        place.definition, since=since, project=place.project, labels=place.labels, fields=place.fields
    )


def _key(wire: Wire) -> tuple[str | None, str]:
    return project_in(wire), wire["metadata"]["name"]


def _differences(known: dict[tuple[str | None, str], Wire], items: list[Wire]) -> list[tuple[EventType, Wire]]:
    fresh = {_key(w): w for w in items}
    gone = [(EventType.DELETED, w) for k, w in known.items() if k not in fresh]
    new = [
        (EventType.MODIFIED if k in known else EventType.ADDED, w)
        for k, w in fresh.items()
        if k not in known or known[k]["metadata"].get("resourceVersion") != w["metadata"].get("resourceVersion")
    ]
    return gone + new
