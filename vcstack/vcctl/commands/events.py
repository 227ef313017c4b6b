"""events: what happened, the newest last."""

from contextlib import aclosing
from typing import Annotated

import typer

from vcstack.specs.access import EventType
from vcstack.specs.columns import format_age
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Everywhere
from vcstack.vcctl.completing import complete_targets
from vcstack.vcctl.printing import Table
from vcstack.vcctl.reading import Place, Wire, follow, get_object, list_objects, project_in
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session

HEADINGS = ["LAST", "TYPE", "REASON", "OBJECT", "COUNT", "ACTOR", "MESSAGE"]


@command(
    "events",
    panel=READ,
    examples="""
    vcctl events
    vcctl events instance web-1
    vcctl events -A --warnings -w
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
) -> None:
    """Show what happened, the newest last: in the project, or to one object."""
    fields = ["spec.type=Warning"] if warnings else []
    project = None if all_projects else session.default_project
    if targets:
        selection = parse_one(targets)
        wire = await get_object(session, selection.definition, selection.name or "")
        fields.append(f"spec.regarding.uid={wire['metadata']['uid']}")
        project = project_in(wire)
    place = Place(get_kind("Event"), project, ",".join(fields))
    found = sorted(await list_objects(session, [place]), key=lambda e: str(e["spec"].get("lastTime", "")))
    if not found and not watch:
        session.err.print("No events in the last day.")
        return
    table = Table(HEADINGS)
    for event in found:
        table.add(_row(session, event))
    table.print(session.out)
    if watch:
        await _follow(session, place, table, {e["metadata"]["uid"]: e["spec"].get("lastTime") for e in found})


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
