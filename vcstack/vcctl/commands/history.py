"""history and rollback: what an object was, and making it so again."""

import re
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.columns import format_age, format_value
from vcstack.specs.errors import NotFound
from vcstack.specs.model import Change
from vcstack.specs.patch import create_merge_patch
from vcstack.specs.plan import FieldChange, compare
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, READ, DryRun, OneTarget, OutputFormat, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.printing import Table, parse_output, print_objects, write
from vcstack.vcctl.reading import Wire, get_object
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session
from vcstack.vcctl.showing import print_changes

_CONDITION = re.compile(r"(status\.conditions\[\w+\]).*")
"""A condition's fields change together; one word for them is enough in a table."""
WRITTEN = ("labels", "annotations")
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
    project = await _project_of(session, selection.definition, selection.name or "")
    items = await session.client.history(selection.definition, selection.name or "", project=project, limit=limit)
    if spec_only:
        items = [i for i in items if i.get("operation") != "StatusUpdated"]
    form = parse_output(output)
    if form.format in ("json", "yaml"):
        print_objects(session, form, items, single=False)
        return
    if not items:
        raise NotFound(f"{selection} has no history (the mirror may be a moment behind)")
    table = Table(["REVISION", "AGE", "OPERATION", "ACTOR", "MANAGER", "CHANGED"])
    for item in items:
        table.add(_row(session, item))
        if with_diff:
            table.print(session.out)
            _print_diff(session, item)
    table.print(session.out)


async def _project_of(session: Session, definition: KindDefinition, name: str) -> str | None:
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
        write(session.out, f"    {change['path']}: {old} -> {new}")


@command(
    "rollback",
    panel=CHANGE,
    examples="""
    vcctl rollback instance web-1 --to-revision 1042
    vcctl rollback securitygroup ssh --to-revision 980 --yes
    """,
)
async def rollback(
    session: Session,
    targets: OneTarget,
    to_revision: Annotated[str, typer.Option("--to-revision", metavar="REVISION", help="See vcctl history.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Give an object the spec, labels and annotations that it had at a revision; the plan is shown first.

    An object that was deleted is made again.
    """
    selection = parse_one(targets)
    definition, name = selection.definition, selection.name or ""
    project = await _project_of(session, definition, name)
    past = await session.client.get_at_revision(definition, name, to_revision, project=project)
    try:
        live: Wire | None = await session.client.get_wire(definition, name, project)
    except NotFound:
        live = None
    changes = compare(definition.model, live, past)
    if live is not None and not changes:
        session.out.print(f"{selection} is already as it was at revision {to_revision}", soft_wrap=True)
        return
    _show_plan(session, f"{selection} as at revision {to_revision}", live, changes)
    if not dry_run:
        confirm(session, "Do this?", yes=yes)
    await _bring_back(session, definition, live, past, dry_run=dry_run)
    session.out.print(f"{escape(str(selection))} rolled back{' (dry run)' if dry_run else ''}", soft_wrap=True)


def _show_plan(session: Session, title: str, live: Wire | None, changes: list[FieldChange]) -> None:
    session.out.print(f"[bold]{escape(title)}:[/]" + (" made again" if live is None else ""), soft_wrap=True)
    print_changes(session.out, changes, new=live is None)
    fixed = [c.path for c in changes if c.change is Change.IMMUTABLE]
    if live is not None and fixed:
        raise CommandError(
            f"cannot roll back: {', '.join(fixed)} never changes",
            hint="Delete the object, then roll back: it is made again as it was.",
            code=ExitCode.REFUSED,
        )


async def _bring_back(
    session: Session, definition: KindDefinition, live: Wire | None, past: Wire, *, dry_run: bool
) -> None:
    if live is None:
        kept = {k: past["metadata"][k] for k in ("project", "name", *WRITTEN) if k in past["metadata"]}
        fresh = {"apiVersion": past["apiVersion"], "kind": past["kind"], "metadata": kept, "spec": past["spec"]}
        await session.client.create_wire(definition, fresh, dry_run=dry_run)
        return
    patch = create_merge_patch(_written(live), _written(past))
    patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": live["metadata"]["resourceVersion"]}
    await session.client.merge_patch_wire(
        definition, live["metadata"]["name"], patch, project=project_in(live), dry_run=dry_run
    )


def _written(wire: Wire) -> Wire:
    return {"metadata": {k: wire["metadata"].get(k) or {} for k in WRITTEN}, "spec": wire.get("spec") or {}}
