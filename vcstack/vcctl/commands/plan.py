"""plan: what apply would do, kept in a file that is applied later or not at all."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.plans import Plan, plan_object, to_wire
from vcstack.pki.files import PRIVATE, write_atomically
from vcstack.specs.meta import format_time
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, Files, Overlays, PruneSet, Recursive, SetName
from vcstack.vcctl.commands.diff import code_of, show
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.examining import examine_all
from vcstack.vcctl.manifests import choose_set, read_manifests
from vcstack.vcctl.session import Session


@command(
    "plan",
    panel=CHANGE,
    examples="""
    vcctl plan -f manifests/ -o change.plan
    vcctl plan -f manifests/ --prune --set shop -o change.plan
    vcctl apply --plan change.plan
    """,
)
async def plan(
    session: Session,
    file: Files = [],  # noqa: B006 - typer copies it
    recursive: Recursive = False,
    overlay: Overlays = [],  # noqa: B006 - typer copies it
    prune_set: PruneSet = False,
    set_name: SetName = None,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that other managers own.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file that the plan is written to.")
    ] = None,
) -> int:
    """Show what apply would do, and write it to a file that apply --plan does exactly, or refuses to.

    It is refused when an object that it is about has changed meanwhile, but for its status. Secret values are not
    in the file: where manifests have some, apply needs them again with -f.
    """
    manifests = read_manifests(session, file, recursive=recursive, overlays=overlay)
    name = choose_set(file, set_name, prune=prune_set)
    examined = await examine_all(session, manifests, set_name=name, prune=prune_set, force=force_conflicts)
    show(session, examined)
    worst = code_of(examined)
    refused = [e for e in examined if e.error is not None or e.refusal is not None]
    if output is None:
        return worst if worst > ExitCode.DIFFERENCE else ExitCode.OK
    if refused:
        raise CommandError("no plan was written, because some of it would be refused", code=ExitCode.REFUSED)
    made = Plan(
        api_url=session.context.api_url,
        created_at=format_time(session.clock.now()),
        set_name=name,
        force=force_conflicts,
        objects=[plan_object(e.manifest, e.live, e.changes, deleted=e.deleted) for e in examined],
    )
    write_atomically(output, json.dumps(to_wire(made), indent=2, ensure_ascii=False).encode() + b"\n", PRIVATE)
    changed = sum(e.differs for e in examined)
    text = f"{changed} of {len(examined)} objects would change; written to {escape(str(output))}."
    session.err.print(text, soft_wrap=True)
    return ExitCode.OK
