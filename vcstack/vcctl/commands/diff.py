"""diff: what apply would change, and what each change takes."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, Files, Overlays, PruneSet, Recursive, SetName
from vcstack.vcctl.errors import CommandError, ExitCode, exit_code_of, show_error
from vcstack.vcctl.examining import Examined, examine_all
from vcstack.vcctl.manifests import choose_set, read_manifests
from vcstack.vcctl.markdown import render
from vcstack.vcctl.printing import write
from vcstack.vcctl.session import Session
from vcstack.vcctl.showing import print_changes

FORMATS = ("text", "markdown")


@command(
    "diff",
    panel=CHANGE,
    examples="""
    vcctl diff -f web.yaml
    vcctl diff -f manifests/ && echo nothing to do
    vcctl diff -f manifests/ --prune --set shop -o markdown > comment.md
    """,
)
async def diff(
    session: Session,
    file: Files = [],  # noqa: B006 - typer copies it
    recursive: Recursive = False,
    overlay: Overlays = [],  # noqa: B006 - typer copies it
    prune_set: PruneSet = False,
    set_name: SetName = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FORMAT", help="text, or markdown for a comment.")
    ] = "text",
) -> int:
    """Show what apply would change, and whether each change is live, needs a reboot or a rebuild, or is refused.

    Ends with 0 when there is no difference, 1 when there is one, more than 1 when something would be refused or failed.
    """
    if output not in FORMATS:
        raise CommandError(f"there is no format {output!r} here", hint=f"There is {' and '.join(FORMATS)}.")
    manifests = read_manifests(session, file, recursive=recursive, overlays=overlay)
    name = choose_set(file, set_name, prune=prune_set)
    examined = await examine_all(session, manifests, set_name=name if prune_set else None, prune=prune_set)
    if output == "markdown":
        write(session.out, render(examined))
    else:
        show(session, examined)
    return code_of(examined)


def show(session: Session, examined: Sequence[Examined]) -> None:
    """Print what would happen, for people."""
    for each in examined:
        if each.error is not None:
            show_error(session.err, each.error, prefix=f"{each.manifest} ({each.manifest.source}): ")
            continue
        if each.differs:
            _print(session, each)
        if each.refusal is not None:
            show_error(session.err, each.refusal, prefix=f"{each.manifest} would be refused: ")


def code_of(examined: Sequence[Examined]) -> ExitCode:
    """Return what the command ends with."""
    faults = [fault for each in examined if (fault := each.error or each.refusal) is not None]
    if faults:
        return max(exit_code_of(fault) for fault in faults)
    return ExitCode.DIFFERENCE if any(each.differs for each in examined) else ExitCode.OK


def _print(session: Session, each: Examined) -> None:
    project = f" [dim](project {each.manifest.project})[/]" if each.manifest.project else ""
    what = ""
    if each.refusal is not None:
        what = " [red]would be refused[/]"
    elif each.live is None:
        what = " [green]would be created[/]"
    elif each.deleted:
        what = " [red]would be pruned[/]"
    session.out.print(f"[bold]{escape(str(each.manifest))}[/]{project}{what}", soft_wrap=True)
    print_changes(session.out, each.changes, new=each.live is None)
