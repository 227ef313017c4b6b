"""apply: make the cloud as the manifests say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.sets import Options, Outcome, Result, project_in
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import (
    CHANGE,
    DryRun,
    Files,
    OutputFormat,
    Overlays,
    PruneSet,
    Recursive,
    SetName,
    Timeout,
    Wait,
)
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.manifests import choose_set, read_manifests
from vcstack.vcctl.planned import apply_plan, planned_deletions, read_plan
from vcstack.vcctl.printing import parse_output, print_objects, style_of
from vcstack.vcctl.reading import Wire, label_of
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import Awaited, parse_duration, wait_settled


@command(
    "apply",
    panel=CHANGE,
    examples="""
    vcctl apply -f web.yaml
    vcctl apply -f manifests/ --wait
    vcctl apply -f manifests/ --prune
    vcctl apply -f manifests/ --set shop --prune --dry-run
    vcctl apply -f base/ --overlay overlays/prod --set shop --prune
    vcctl apply --plan change.plan
    """,
)
async def apply(
    session: Session,
    file: Files = [],  # noqa: B006 - typer copies it
    recursive: Recursive = False,
    overlay: Overlays = [],  # noqa: B006 - typer copies it
    prune_set: PruneSet = False,
    set_name: SetName = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Do what a plan says, made by vcctl plan -o FILE.")
    ] = None,
    dry_run: DryRun = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that other managers own.")
    ] = False,
    allow_missing_references: Annotated[
        bool, typer.Option("--allow-missing-references", help="What fields refer to may come later.")
    ] = False,
    wait: Wait = False,
    timeout: Timeout = "5m",
    output: OutputFormat = None,
) -> int:
    """Make the cloud as the manifests say: create what is missing, change what differs.

    Fields that you applied before and no longer give are removed, fields of other managers stay. A folder
    is an apply set: with --prune, objects of the set that are in no manifest any more are deleted.
    Nothing else is ever deleted. Where quotas leave no room for all of it, nothing is written.
    """
    seconds = parse_duration(timeout)
    if plan_file is not None:
        if prune_set or set_name is not None or force_conflicts or allow_missing_references:
            raise CommandError("a plan says itself what is pruned and forced", hint="With --plan leave the others out.")
        plan = read_plan(session, plan_file)
        given = read_manifests(session, file, recursive=recursive, overlays=overlay) if file else []
        outcomes = await apply_plan(session, plan, given, dry_run=dry_run)
        if code := _show(session, outcomes, output, dry_run):
            return code
        stale: Sequence[Wire] = planned_deletions(plan)
    else:
        manifests = read_manifests(session, file, recursive=recursive, overlays=overlay)
        set_name = choose_set(file, set_name, prune=prune_set)
        options = Options(dry_run, force_conflicts, allow_missing_references, set_name)
        await session.applier.check_room(manifests)
        outcomes = await session.applier.apply_all(manifests, options)
        if code := _show(session, outcomes, output, dry_run):
            if prune_set:
                session.err.print("Nothing was pruned, because not everything could be applied.")
            return code
        stale = await session.applier.find_stale(manifests, set_name or "") if prune_set else []
    await _prune(session, stale, dry_run)
    if wait and not dry_run:
        made = [Awaited(o.manifest.definition.kind, o.manifest.project, o.manifest.name) for o in outcomes]
        leaving = [Awaited(w["kind"], project_in(w), w["metadata"]["name"], w["metadata"].get("uid")) for w in stale]
        await wait_settled(session, made, leaving, timeout_seconds=seconds)
    return ExitCode.OK


def _show(session: Session, outcomes: Sequence[Outcome], output: str | None, dry_run: bool) -> int:
    """Print each object's result, or the objects when a format is asked for; return the first failure's exit code."""
    form = parse_output(output)
    if not form.is_table:
        wires = [o.wire for o in outcomes if o.wire is not None]
        if wires:
            print_objects(session, form, wires, single=len(wires) == 1)
    for outcome in outcomes:
        if outcome.error is not None:
            show_error(session.err, outcome.error, prefix=f"{outcome.manifest} ({outcome.manifest.source}): ")
        elif form.is_table and outcome.result is not None:
            _line(session, str(outcome.manifest), outcome.result, outcome.manifest.project, dry_run)
    return next((exit_code_of(o.error) for o in outcomes if o.error is not None), ExitCode.OK)


def _line(session: Session, label: str, result: Result, project: str | None, dry_run: bool) -> None:
    style = style_of(result)
    word = f"[{style}]{result}[/]" if style else result.value
    where = f" [dim](project {project})[/]" if project else ""
    session.out.print(f"{escape(label)} {word}{' (dry run)' if dry_run else ''}{where}", soft_wrap=True)


async def _prune(session: Session, stale: Sequence[Wire], dry_run: bool) -> None:
    """Delete what is stale in the set.

    Raises:
        CommandError: if something could not be deleted.
    """
    failures = []
    for wire, error in await session.applier.prune(stale, dry_run=dry_run):
        if error is None:
            label = label_of(get_kind(wire["kind"]), wire)
            _line(session, label, Result.PRUNED, project_in(wire), dry_run)
        else:
            failures.append(error)
            show_error(session.err, error)
    if failures:
        raise CommandError(f"{len(failures)} objects could not be pruned", code=exit_code_of(failures[0]))
