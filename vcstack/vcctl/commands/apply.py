"""apply: make the cloud as the manifests say."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.manifests import Manifest
from vcstack.applying.sets import Options, Outcome, Result, project_in
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, DryRun, Files, OutputFormat, Recursive, Timeout, Wait
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.manifests import derive_set, is_folder, read_manifests
from vcstack.vcctl.printing import parse_output, print_objects, style_of
from vcstack.vcctl.reading import Wire, label_of
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import Awaited, deleted, parse_duration, ready, wait_for


@command(
    "apply",
    panel=CHANGE,
    examples="""
    vcctl apply -f web.yaml
    vcctl apply -f manifests/ --wait
    vcctl apply -f manifests/ --prune
    vcctl apply -f manifests/ --set shop --prune --dry-run
    kustomize build . | vcctl apply -f -
    """,
)
async def apply(
    session: Session,
    file: Files = [],  # noqa: B006 - typer copies it
    recursive: Recursive = False,
    prune_set: Annotated[
        bool, typer.Option("--prune", help="Delete what belongs to the set and is in no manifest any more.")
    ] = False,
    set_name: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="The apply set; default one that stands for the folder's path."),
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
    manifests = read_manifests(session, file, recursive=recursive)
    if set_name is None and (prune_set or is_folder(file)):
        set_name = derive_set(file)
    seconds = parse_duration(timeout)
    options = Options(dry_run, force_conflicts, allow_missing_references, set_name)
    await session.applier.check_room(manifests)
    outcomes = await session.applier.apply_all(manifests, options)
    _show(session, outcomes, output, dry_run)
    failed = [o.error for o in outcomes if o.error is not None]
    if failed:
        if prune_set:
            session.err.print("Nothing was pruned, because not everything could be applied.")
        return exit_code_of(failed[0])
    gone = await _prune(session, manifests, set_name or "", dry_run) if prune_set else []
    if wait and not dry_run:
        await _wait(session, outcomes, gone, seconds)
    return ExitCode.OK


def _show(session: Session, outcomes: Sequence[Outcome], output: str | None, dry_run: bool) -> None:
    """Print each object's result, or the objects when a format is asked for."""
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


def _line(session: Session, label: str, result: Result, project: str | None, dry_run: bool) -> None:
    style = style_of(result)
    word = f"[{style}]{result}[/]" if style else result.value
    where = f" [dim](project {project})[/]" if project else ""
    session.out.print(f"{escape(label)} {word}{' (dry run)' if dry_run else ''}{where}", soft_wrap=True)


async def _prune(session: Session, manifests: Sequence[Manifest], set_name: str, dry_run: bool) -> list[Wire]:
    """Delete what is stale in the set and return it.

    Raises:
        CommandError: if something could not be deleted.
    """
    stale = await session.applier.find_stale(manifests, set_name)
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
    return stale


async def _wait(session: Session, outcomes: Sequence[Outcome], gone: Sequence[Wire], seconds: float) -> None:
    awaited = [Awaited(o.manifest.definition.kind, o.manifest.project, o.manifest.name) for o in outcomes]
    begin = session.clock.monotonic()
    await wait_for(session, awaited, ready, timeout_seconds=seconds)
    session.out.print(f"{len(awaited)} objects are Ready.")
    if gone:
        rest = max(seconds - (session.clock.monotonic() - begin), 1.0)
        leaving = [Awaited(w["kind"], project_in(w), w["metadata"]["name"], w["metadata"].get("uid")) for w in gone]
        await wait_for(session, leaving, deleted, timeout_seconds=rest)
