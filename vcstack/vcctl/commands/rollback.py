"""rollback: an object as it was, or all of a project."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.concurrency import gather
from vcstack.specs.access import Propagation
from vcstack.specs.errors import ApiError, NotFound
from vcstack.specs.kinds.project import Project
from vcstack.specs.meta import format_time
from vcstack.specs.model import Change
from vcstack.specs.plan import FieldChange, compare
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, DryRun, OneTarget, Timeout, Wait, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.commands.delete import ask_deletion
from vcstack.vcctl.commands.diff import show
from vcstack.vcctl.commands.history import find_project_of
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.moments import parse_moment
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session
from vcstack.vcctl.showing import print_changes
from vcstack.vcctl.waiting import Awaited, parse_duration, wait_settled
from vcstack.vcctl.wayback import ProjectPast, Step, bring_back, in_order, look_at, plan_way_back


@command(
    "rollback",
    panel=CHANGE,
    examples="""
    vcctl rollback instance web-1 --to-revision 1042
    vcctl rollback securitygroup ssh --to-time 2h --yes
    vcctl rollback project demo --contents --to-time 2026-11-22T08:00:00Z
    """,
)
async def rollback(
    session: Session,
    targets: OneTarget,
    to_revision: Annotated[
        str | None, typer.Option("--to-revision", metavar="REVISION", help="See vcctl history.")
    ] = None,
    to_time: Annotated[
        str | None, typer.Option("--to-time", metavar="TIME", help="2026-11-22T08:00:00Z, or so long ago: 90s, 2h, 3d.")
    ] = None,
    contents: Annotated[bool, typer.Option("--contents", help="With a project: all that is in it, too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = "5m",
) -> None:
    """Give an object the spec, labels and annotations that it had at a revision; the plan is shown first.

    An object that was deleted is made again. With a project's contents, what was not there then is deleted. Secret
    values are in no history, and do not come back.
    """
    seconds = parse_duration(timeout) if wait and not dry_run else None
    selection = parse_one(targets)
    definition, name = selection.definition, selection.name or ""
    if contents and definition.kind != Project.KIND:
        raise CommandError(f"a {definition.singular} has no contents", hint="--contents goes with a project.")
    if (to_revision is None) == (to_time is None):
        raise CommandError("to when?", hint="Give --to-revision or --to-time; vcctl history shows both.")
    if to_revision is not None and not to_revision.isdecimal():
        raise CommandError(f"{to_revision!r} is no revision", hint="vcctl history lists them; --to-time takes times.")
    project = await find_project_of(session, definition, name)
    if contents:
        revision = to_revision or await _revision_of_project_at(session, to_time or "", name)
        await _roll_back_contents(session, name, revision, dry_run=dry_run, yes=yes, wait_seconds=seconds)
        return
    revision = to_revision or await _revision_at(session, to_time or "", _revisions(session, definition, name, project))
    step = await look_at(session, definition, name, project, revision)
    if step.removed is not None:
        raise step.removed
    if step.past is None:
        raise NotFound(f"{selection} did not exist at revision {revision}, or its history does not reach back so far")
    if step.is_settled:
        session.out.print(f"{selection} is already as it was at revision {revision}", soft_wrap=True)
        return
    changes = compare(definition.model, step.live, step.past)
    _show_plan(session, f"{selection} as at revision {revision}", step.live, changes)
    if not dry_run:
        confirm(session, "Do this?", yes=yes)
    await bring_back(session, step, dry_run=dry_run)
    session.out.print(f"{escape(str(selection))} rolled back{' (dry run)' if dry_run else ''}", soft_wrap=True)
    if seconds is not None:
        await wait_settled(session, [_awaited(step)], [], timeout_seconds=seconds)


async def _revisions(
    session: Session, definition: KindDefinition, name: str, project: str | None
) -> AsyncIterator[Wire]:
    """Yield an object's revisions, the newest first."""
    before: str | None = None
    while items := await session.client.history(definition, name, project=project, limit=500, before=before):
        for item in items:
            yield item
        before = items[-1]["revision"]


async def _revision_at(session: Session, text: str, lines: AsyncIterator[Wire]) -> str:
    """Return the newest revision that is not after the time."""
    wanted = parse_moment(session, text)
    async for line in lines:
        if datetime.fromisoformat(line["time"]) <= wanted:
            return str(line["revision"])
    raise NotFound(f"there is no history of it that goes back to {format_time(wanted)}")


async def _revision_of_project_at(session: Session, text: str, project: str) -> str:
    """Return a revision at which the project was as at the time."""
    wanted, past = parse_moment(session, text), ProjectPast(session, project)
    found = 0
    async for line in past.lines():
        if datetime.fromisoformat(line["time"]) <= wanted:
            found = int(line["revision"])
            break
    if past.reach_time is not None:
        if wanted < past.reach_time:
            raise past.refuse()
        # Nothing has changed between the two.
        found = max(found, past.reach)
    if not found:
        raise NotFound(f"there is no history of it that goes back to {format_time(wanted)}")
    return str(found)


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


async def _roll_back_contents(
    session: Session, project: str, revision: str, *, dry_run: bool, yes: bool, wait_seconds: float | None
) -> None:
    way = await plan_way_back(session, project, revision)
    possible = way.possible
    made = sum(step.live is None for step in possible)
    title = f"project/{project} as at revision {revision}:"
    session.out.print(
        f"[bold]{escape(title)}[/] {made} made again, {len(possible) - made} changed, {len(way.leavings)} deleted",
        soft_wrap=True,
    )
    show(session, [examined for _, examined in way.makings])
    for step in way.leavings:
        session.out.print(f"[bold]{escape(str(step))}[/] [red]would be deleted[/]", soft_wrap=True)
        await _show_losses(session, step)
    if way.followers:
        session.out.print(f"{way.followers} more belong to others, or are the cloud's own, and follow by themselves")
    if dry_run or not (possible or way.leavings):
        session.out.print("nothing was done" if dry_run else "nothing is to be done")
        return
    confirm(session, f"Do all this{f', and delete {len(way.leavings)}' if way.leavings else ''}?", yes=yes)
    failed = [fault for _, examined in way.makings if (fault := examined.error or examined.refusal) is not None]
    for wave in in_order(possible):
        failed += await _do_all(session, wave)
    leaving = []
    for step in way.leavings:
        assert step.live is not None
        try:
            left = await ask_deletion(session, step.definition, step.live, Propagation.BACKGROUND, dry_run=False)
            leaving += [] if left is None else [left]
        except ApiError as error:
            failed.append(error)
            show_error(session.err, error, prefix=f"{step}: ")
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(way.makings) + len(way.leavings)} could not be done",
            hint="The same command again plans and does what is left, when what hinders it is gone.",
            code=exit_code_of(failed[0]),
        )
    if wait_seconds is not None:
        await wait_settled(session, [_awaited(step) for step in possible], leaving, timeout_seconds=wait_seconds)


def _awaited(step: Step) -> Awaited:
    return Awaited(step.definition.kind, step.project, step.name)


async def _show_losses(session: Session, step: Step) -> None:
    """Print what goes with an object."""
    related = await session.client.related(step.definition, step.name, project=step.project)
    names = [f"{link.kind} {link.name}" for links in related.owned for link in links.links]
    more = " and more" if any(links.more for links in related.owned) else ""
    if names:
        session.out.print(f"  with it: {escape(', '.join(names))}{more}", soft_wrap=True)


async def _do_all(session: Session, steps: Sequence[Step]) -> list[Exception]:
    """Bring objects back that do not need each other; return what went wrong."""
    failed = []
    for step, fault in zip(steps, await gather([partial(bring_back, session, s) for s in steps]), strict=True):
        if fault is None:
            word = "made again" if step.live is None else "changed back"
            session.out.print(f"{escape(str(step))} {word}", soft_wrap=True)
        else:
            failed.append(fault)
            show_error(session.err, fault, prefix=f"{step}: ")
    return failed
