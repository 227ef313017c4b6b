"""Following tasks: their steps as they begin and end."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.access import EventType
from vcstack.specs.kinds.task import Phase, Task
from vcstack.specs.registry import get_kind
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Place, Wire, follow
from vcstack.vcctl.session import Session

STYLES = {"Running": "yellow", "Succeeded": "green", "Failed": "red", "Compensated": "yellow"}


async def follow_tasks(session: Session, tasks: Sequence[Wire], *, timeout_seconds: float) -> None:
    """Return when all tasks have succeeded, printing their steps.

    Raises:
        CommandError: when one failed or was cancelled, or the time is over.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            results = await asyncio.gather(*(_follow(session, task) for task in tasks))
    except TimeoutError:
        names = ", ".join(t["metadata"]["name"] for t in tasks)
        raise CommandError(
            f"not done within {timeout_seconds:g} s: {names}",
            hint="The tasks go on; see vcctl get tasks and vcctl why task NAME.",
            code=ExitCode.TIMEOUT,
        ) from None
    failed = [text for text in results if text]
    if failed:
        raise CommandError("; ".join(failed), code=ExitCode.FAILED)


async def _follow(session: Session, task: Wire) -> str:
    """Return nothing when the task succeeded, else why it did not."""
    name = task["metadata"]["name"]
    shown: dict[str, tuple[str, str]] = {}
    place = Place(get_kind(Task.KIND), project_in(task), fields=f"metadata.name={name}")
    async with aclosing(follow(session, place)) as stream:
        async for kind, wire in stream:
            if kind is EventType.BOOKMARK:
                continue
            if kind is EventType.DELETED:
                return f"task {name} was deleted"
            status = wire.get("status") or {}
            _print_steps(session, name, status, shown)
            phase = status.get("phase")
            if phase == Phase.SUCCEEDED:
                session.out.print(f"task/{escape(name)} [green]succeeded[/]", soft_wrap=True)
                return ""
            if phase in (Phase.FAILED, Phase.CANCELLED):
                return f"task {name} {phase.lower()}: {_reason(status)}"
    return f"task {name} cannot be followed"


def _print_steps(session: Session, name: str, status: Wire, shown: dict[str, tuple[str, str]]) -> None:
    steps = status.get("steps") or []
    for index, step in enumerate(steps):
        state, message = step.get("state", "Pending"), step.get("message", "")
        if state == "Pending" or shown.get(step["name"]) == (state, message):
            continue
        shown[step["name"]] = (state, message)
        style = STYLES.get(state, "dim")
        percent = f"{status['progressPercent']:>3} % " if status.get("progressPercent") is not None else ""
        text = f"{percent}{name} [{index + 1}/{len(steps)}] {step['name']}"
        session.err.print(
            f"{escape(text)} [{style}]{state}[/]{escape(': ' + message) if message else ''}", soft_wrap=True
        )


def _reason(status: Wire) -> str:
    for step in status.get("steps") or []:
        if step.get("state") == "Failed" and step.get("message"):
            return str(step["message"])
    for condition in status.get("conditions") or []:
        if condition["status"] == "False" and condition.get("message"):
            return str(condition["message"])
    return "see vcctl describe task"
