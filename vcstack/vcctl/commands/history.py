"""history: what an object was."""

import re
from typing import Annotated

import typer

from vcstack.applying.sets import project_in
from vcstack.specs.columns import format_age, format_value
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, OneTarget, OutputFormat
from vcstack.vcctl.harmless import one_line
from vcstack.vcctl.printing import Table, parse_output, print_objects, write
from vcstack.vcctl.reading import Wire, get_object
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session

_CONDITION = re.compile(r"(status\.conditions\[\w+\]).*")
"""A condition's fields change together; one word for them is enough in a table."""
SHOWN = 3


@command(
    "history",
    panel=READ,
    examples="""
    vcctl history instance web-1
    vcctl history instance web-1 --diff --limit 5
    """,
)
async def history(
    session: Session,
    targets: OneTarget,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many revisions.")] = 50,
    with_diff: Annotated[bool, typer.Option("--diff", help="Each change with its old and new value.")] = False,
    spec_only: Annotated[bool, typer.Option("--no-status", help="Without changes of status alone.")] = False,
    output: OutputFormat = None,
) -> None:
    """Show an object's revisions, the newest first: when, by whom, what. Deleted objects have theirs too."""
    selection = parse_one(targets)
    project = await find_project_of(session, selection.definition, selection.name or "")
    page = await session.client.subresource(
        "GET", selection.definition, selection.name or "", "history", project=project, params={"limit": limit}
    )
    items, reach = page["items"], page["metadata"].get("reach", {}).get("revision")
    is_cut = reach is not None and len(items) < limit and (not items or items[-1]["operation"] != "Created")
    if spec_only:
        items = [i for i in items if i.get("operation") != "StatusUpdated"]
    form = parse_output(output)
    if form.format in ("json", "yaml"):
        print_objects(session, form, items, single=False)
        return
    if not items:
        why = f"what was before revision {reach} is not kept" if is_cut else "the mirror may be a moment behind"
        raise NotFound(f"{selection} has no history ({why})")
    table = Table(["REVISION", "AGE", "OPERATION", "ACTOR", "MANAGER", "CHANGED"])
    for item in items:
        table.add(_row(session, item))
        if with_diff:
            table.print(session.out)
            _print_diff(session, item)
    table.print(session.out)
    if is_cut:
        session.err.print(f"Older versions were removed: it reaches back to revision {reach}.", soft_wrap=True)


async def find_project_of(session: Session, definition: KindDefinition, name: str) -> str | None:
    """Return the object's project; one that is gone is meant where it would be made now."""
    if definition.scope is not Scope.GLOBAL_OR_PROJECT:
        return session.project_of(definition)
    try:
        return project_in(await get_object(session, definition, name))
    except NotFound:
        return session.project_of(definition)


def _row(session: Session, item: Wire) -> list[object]:
    whole = item.get("operation") in ("Created", "Deleted")
    paths = [] if whole else list(dict.fromkeys(_CONDITION.sub(r"\1", str(d["path"])) for d in item.get("diff") or []))
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return [
        item["revision"],
        format_age(item.get("time", ""), session.clock.now()),
        item.get("operation", ""),
        item.get("actor", ""),
        item.get("manager", ""),
        ", ".join(paths[:SHOWN]) + more,
    ]


def _print_diff(session: Session, item: Wire) -> None:
    for change in item.get("diff") or []:
        old, new = format_value(change.get("old")) or "(nothing)", format_value(change.get("new")) or "(nothing)"
        write(session.out, one_line(f"    {change['path']}: {old} -> {new}"))
