"""events: what happened, the newest last."""

from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer

from vcstack.apiclient.connection import decode
from vcstack.applying.sets import project_in
from vcstack.specs.access import EventType
from vcstack.specs.audit import format_instant
from vcstack.specs.columns import format_age
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import Scope, get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Everywhere
from vcstack.vcctl.completing import complete_targets
from vcstack.vcctl.moments import parse_moment
from vcstack.vcctl.printing import Table
from vcstack.vcctl.reading import Place, Wire, follow, get_object, list_objects
from vcstack.vcctl.selection import Selection, parse_one
from vcstack.vcctl.session import Session

HEADINGS = ["LAST", "TYPE", "REASON", "OBJECT", "COUNT", "ACTOR", "MESSAGE"]
PAGE = 1000


@command(
    "events",
    panel=READ,
    examples="""
    vcctl events
    vcctl events instance web-1
    vcctl events -A --warnings -w
    vcctl events --since 72h
    vcctl events instance web-1 --since 30d
    """,
)
async def events(
    session: Session,
    targets: Annotated[
        list[str], typer.Argument(metavar="[KIND NAME | KIND/NAME]", autocompletion=complete_targets)
    ] = [],  # noqa: B006 - typer copies it
    all_projects: Everywhere = False,
    warnings: Annotated[bool, typer.Option("--warnings", help="Only what somebody should look at.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing what happens.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Older ones too: 72h, 30d, or 2026-11-22T08:00:00Z.")
    ] = "",
) -> None:
    """Show what happened, the newest last: in the project, or to one object. Of the last day, or --since longer."""
    fields = ["spec.type=Warning"] if warnings else []
    project = None if all_projects else session.default_project
    if targets:
        selection = parse_one(targets)
        by, project = await _find_target(session, selection, gone=bool(since))
        fields += by
    place = Place(get_kind("Event"), project, ",".join(fields))
    found = {_key(e): e for e in await _list_past(session, place, since)} if since else {}
    found |= {_key(e): e for e in await list_objects(session, [place]) if not since or _is_after(session, e, since)}
    events = sorted(found.values(), key=lambda e: str(e["spec"].get("lastTime", "")))
    if not events and not watch:
        session.err.print("No events since then." if since else "No events in the last day.")
        return
    table = Table(HEADINGS)
    for event in events:
        table.add(_row(session, event))
    table.print(session.out)
    if watch:
        await _follow(session, place, table, {e["metadata"]["uid"]: e["spec"].get("lastTime") for e in events})


async def _find_target(session: Session, selection: Selection, *, gone: bool) -> tuple[list[str], str | None]:
    """Return how its events are selected and its project; what is gone is told by its name, if that is asked for."""
    definition, name = selection.definition, selection.name or ""
    try:
        wire = await get_object(session, definition, name)
    except NotFound:
        if not gone:
            raise
        project = None if definition.scope is Scope.GLOBAL else session.default_project
        return [f"spec.regarding.kind={definition.kind}", f"spec.regarding.name={name}"], project
    return [f"spec.regarding.uid={wire['metadata']['uid']}"], project_in(wire)


async def _list_past(session: Session, place: Place, since: str) -> list[Wire]:
    """Return what the mirror keeps."""
    path = f"/api/v1/projects/{place.project}/events" if place.project else "/api/v1/events"
    params = {"since": format_instant(parse_moment(session, since)), "limit": str(PAGE)}
    params |= {"fieldSelector": place.fields} if place.fields else {}
    found: list[Wire] = []
    while True:
        page = decode(await session.client.connection.request("GET", path, params=params))
        found += page["items"]
        token = page["metadata"].get("continue")
        if not token:
            return found
        params["continue"] = token


def _is_after(session: Session, event: Wire, since: str) -> bool:
    return datetime.fromisoformat(event["spec"]["lastTime"]) >= parse_moment(session, since)


def _key(event: Wire) -> str:
    return str(event["metadata"]["uid"])


async def _follow(session: Session, place: Place, table: Table, shown: dict[str, object]) -> None:
    async with aclosing(follow(session, place)) as stream:
        async for kind, event in stream:
            if kind in (EventType.BOOKMARK, EventType.DELETED):
                continue
            uid, last = event["metadata"]["uid"], event["spec"].get("lastTime")
            if shown.get(uid) != last:
                shown[uid] = last
                table.add(_row(session, event))
                table.print(session.out)


def _row(session: Session, event: Wire) -> list[object]:
    spec = event["spec"]
    about = spec["regarding"]
    return [
        format_age(spec.get("lastTime", ""), session.clock.now()),
        spec["type"],
        spec["reason"],
        f"{about['kind'].lower()}/{about['name']}",
        spec.get("count", 1),
        spec["actor"],
        spec["message"],
    ]
