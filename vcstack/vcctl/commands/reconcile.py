"""reconcile: have a Git source look at its repository now."""

from typing import Annotated

import typer
from rich.markup import escape

from vcstack.specs.columns import find_value
from vcstack.specs.conditions import format_condition
from vcstack.specs.kinds.gitsource import APPLIED, FETCHED, REQUESTED
from vcstack.specs.meta import format_time
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import CHANGE, OneTarget, Timeout
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Wire, get_object, label_of
from vcstack.vcctl.selection import parse_one
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import Awaited, parse_duration, wait_for


@command(
    "reconcile",
    panel=CHANGE,
    examples="""
    vcctl reconcile gitsource shop
    vcctl reconcile gitsource shop --no-wait
    """,
)
async def reconcile(
    session: Session,
    targets: OneTarget,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has looked.")] = True,
    timeout: Timeout = "5m",
) -> int:
    """Have a GitSource look at its repository now, and say what came of it.

    Ends with 0 when all is applied, 7 when something holds it up.
    """
    selection = parse_one(targets)
    if selection.definition.kind != "GitSource":
        raise CommandError(f"{selection.definition.plural} look at nothing", hint="This is for gitsources.")
    wire = await get_object(session, selection.definition, selection.name or "")
    meta, seconds = wire["metadata"], parse_duration(timeout)
    asked = format_time(session.clock.now())
    if wire["spec"].get("suspend"):
        raise CommandError(
            f"{label_of(selection.definition, wire)} is suspended",
            hint=f"vcctl patch gitsource {meta['name']} --patch 'spec: {{suspend: false}}'",
            code=ExitCode.REFUSED,
        )
    patch = {"metadata": {"uid": meta["uid"], "annotations": {REQUESTED: asked}}}
    await session.client.merge_patch_wire(selection.definition, meta["name"], patch, project=meta.get("project"))
    if not wait:
        session.out.print(f"{escape(label_of(selection.definition, wire))} asked", soft_wrap=True)
        return ExitCode.OK

    def looked(definition: KindDefinition, found: Wire | None) -> str | None:
        if found is None:
            raise CommandError("it was deleted meanwhile", code=ExitCode.FAILED)
        return None if find_value(found, "status.handledRequest") == asked else "it has not looked yet"

    awaited = [Awaited("GitSource", meta.get("project"), meta["name"])]
    await wait_for(session, awaited, looked, timeout_seconds=seconds, quiet=True)
    return _tell(session, selection.definition, await get_object(session, selection.definition, meta["name"]))


def _tell(session: Session, definition: KindDefinition, wire: Wire) -> int:
    label = escape(label_of(definition, wire))
    for type_ in (FETCHED, APPLIED):
        found = find_value(wire, f"status.conditions[{type_}]")
        if found is not None and found["status"] != "True":
            session.err.print(f"{label}: {escape(format_condition(found))}", soft_wrap=True)
            return ExitCode.FAILED
    status = wire["status"]
    counts = f"{status.get('objects', 0)} objects, {status.get('changed', 0)} changed, {status.get('pruned', 0)} pruned"
    session.out.print(f"{label} applied {escape(str(status.get('revision', '')))}: {counts}", soft_wrap=True)
    return ExitCode.OK
