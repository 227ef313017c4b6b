"""Applying a plan that was written to a file: exactly that, or nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcstack.applying.manifests import Manifest
from vcstack.applying.plans import DELETE, BadPlan, Plan, PlannedObject, find_moved, from_wire, with_secrets
from vcstack.applying.sets import Options, Outcome
from vcstack.specs.errors import Conflict
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import Session


def read_plan(session: Session, file: Path) -> Plan:
    """Return the plan of a file.

    Raises:
        CommandError: it is none, or of another cloud.
    """
    try:
        plan = from_wire(json.loads(file.read_bytes()))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", code=ExitCode.LOCAL) from error
    except (BadPlan, ValueError) as error:
        raise CommandError(f"{file}: {error}", code=ExitCode.LOCAL) from error
    if plan.api_url != session.context.api_url:
        message = f"the plan is for {plan.api_url}, and this context is of {session.context.api_url}"
        raise CommandError(message, hint="Choose the context with --context.", code=ExitCode.LOCAL)
    return plan


async def apply_plan(session: Session, plan: Plan, given: Sequence[Manifest], *, dry_run: bool) -> list[Outcome]:
    """Apply what the plan says to the very versions that it was made for.

    Raises:
        CommandError: something has changed since; nothing was written then.
        QuotaExceeded: there is no room for all of it any more; nothing was written.
    """
    try:
        manifests = with_secrets(plan, given)
    except BadPlan as error:
        raise CommandError(str(error), code=ExitCode.LOCAL) from error
    by_key = {planned.key: planned for planned in plan.objects}
    moved = [line for planned in plan.objects for line in await _look(session, planned)]
    if moved:
        raise CommandError(
            "the world has moved on since the plan was made, nothing was done:\n  " + "\n  ".join(moved),
            hint="Make a new plan, and look at it.",
            code=ExitCode.REFUSED,
        )

    await session.applier.check_room(manifests)

    def claim(manifest: Manifest, live: Wire | None) -> None:
        found = find_moved(by_key[manifest.key], live)
        if found:
            raise Conflict(f"{manifest} {found[0]}; the plan is not good for it any more")

    options = Options(dry_run, plan.force, False, plan.set_name, careful=True, claim=claim)
    return await session.applier.apply_all(manifests, options)


def planned_deletions(plan: Plan) -> list[Wire]:
    """Return the objects that the plan deletes, as they were; each is deleted only if it is that very one."""
    found: list[dict[str, Any]] = []
    for planned in plan.objects:
        if planned.action == DELETE and planned.before is not None:
            found.append({"kind": planned.manifest.definition.kind, "metadata": planned.before["metadata"]})
    return found


async def _look(session: Session, planned: PlannedObject) -> list[str]:
    live = await session.applier.find_live(planned.manifest)
    return [f"{planned.manifest} {what}" for what in find_moved(planned, live)]
