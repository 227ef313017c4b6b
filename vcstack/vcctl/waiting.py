"""Waiting until objects are as wanted, telling on the way what changes."""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.access import EventType
from vcstack.specs.columns import find_value
from vcstack.specs.conditions import READY, format_condition
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Place, Wire, follow
from vcstack.vcctl.session import Session

Goal = Callable[[KindDefinition, Wire | None], str | None]
"""Returns what is still missing, in words, or None when the goal is reached; None as object: it is gone.

Raises CommandError when the goal can no longer be reached.
"""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
GROUP_LIMIT = 3
"""From so many objects of a kind and project on, one watch serves all."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """An object that is waited for."""

    kind: str
    project: str | None
    name: str
    uid: str | None = None
    """Another object of the same name counts as gone."""

    @property
    def definition(self) -> KindDefinition:
        """Return the kind."""
        return get_kind(self.kind)

    def __str__(self) -> str:
        return f"{self.definition.singular}/{self.name}"


def parse_duration(text: str) -> float:
    """Return seconds of 90, 90s, 5m, 1h30m.

    Raises:
        CommandError: if it cannot be read.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise CommandError(f"{text!r} is no duration", hint="Write e.g. 90s, 5m or 1h30m.")
    hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def ready(definition: KindDefinition, wire: Wire | None) -> str | None:
    """The goal that Ready is True for the newest generation; kinds without conditions are at once."""
    if wire is None:
        raise CommandError("it was deleted while it was waited for", code=ExitCode.FAILED)
    if wire["metadata"].get("deletionTimestamp"):
        raise CommandError(
            "it is being deleted, so it will not be Ready",
            hint=f"vcctl why {definition.singular} {wire['metadata']['name']} says what holds the deletion up.",
            code=ExitCode.FAILED,
        )
    return condition_goal(READY, "True")(definition, wire) if definition.ready_when else None


def condition_goal(type_: str, status: str) -> Goal:
    """Return the goal that a condition has a status, observed for the newest generation."""

    def check(definition: KindDefinition, wire: Wire | None) -> str | None:
        if wire is None:
            return "it does not exist yet"
        found = find_value(wire, f"status.conditions[{type_}]")
        if found is None:
            return f"{type_} has not been observed yet"
        stale = found.get("observedGeneration", 0) < wire["metadata"].get("generation", 0)
        if found["status"] == status and not stale:
            return None
        if wire.get("kind") == "Task" and find_value(wire, "status.phase") in ("Failed", "Cancelled"):
            raise CommandError(f"the task ended: {found.get('message') or found['status']}", code=ExitCode.FAILED)
        if found["status"] == status:
            return "the newest change has not been observed yet"
        return format_condition(found)

    return check


def deleted(definition: KindDefinition, wire: Wire | None) -> str | None:
    """The goal that the object is gone."""
    if wire is None:
        return None
    if not wire["metadata"].get("deletionTimestamp"):
        return "nobody has asked for its deletion"
    held = find_value(wire, "status.conditions[Deletable]")
    if held and held["status"] == "False":
        return format_condition(held)
    finalizers = wire["metadata"].get("finalizers") or []
    return f"waits for {', '.join(finalizers)}" if finalizers else "still there"


async def wait_for(
    session: Session, awaited: Sequence[Awaited], goal: Goal, *, timeout_seconds: float, quiet: bool = False
) -> None:
    """Return when all objects have reached the goal; what is missing is printed as it changes.

    Raises:
        CommandError: when the time is over (naming what is missing) or the goal is out of reach.
    """
    missing: dict[Awaited, str] = dict.fromkeys(awaited, "not seen yet")
    groups: dict[tuple[str, str | None], list[Awaited]] = {}
    for item in awaited:
        groups.setdefault((item.kind, item.project), []).append(item)
    waiter = _Waiter(session, goal, missing, quiet=quiet)
    try:
        async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as tasks:
            for members in groups.values():
                for place, covered in _places(members):
                    tasks.create_task(waiter.run(place, covered))
    except TimeoutError:
        lines = "".join(f"\n  {item}: {text}" for item, text in missing.items())
        raise CommandError(
            f"not reached within {timeout_seconds:g} s:{lines}",
            hint="vcctl why KIND NAME says what really holds an object up.",
            code=ExitCode.TIMEOUT,
        ) from None


async def wait_settled(
    session: Session, made: Sequence[Awaited], leaving: Sequence[Awaited], *, timeout_seconds: float
) -> None:
    """Return when all that was made is Ready, and all that was deleted is gone. Raises CommandError."""
    begin = session.clock.monotonic()
    if made:
        await wait_for(session, made, ready, timeout_seconds=timeout_seconds)
        session.out.print(f"{len(made)} object{'s are' if len(made) > 1 else ' is'} Ready.")
    if leaving:
        rest = max(timeout_seconds - (session.clock.monotonic() - begin), 1.0)
        await wait_for(session, leaving, deleted, timeout_seconds=rest)


def _places(members: Sequence[Awaited]) -> list[tuple[Place, list[Awaited]]]:
    definition, project = members[0].definition, members[0].project
    if len(members) >= GROUP_LIMIT:
        return [(Place(definition, project), list(members))]
    return [(Place(definition, project, f"metadata.name={m.name}"), [m]) for m in members]


class _Waiter:
    """Checks the goal on each change."""

    def __init__(self, session: Session, goal: Goal, missing: dict[Awaited, str], *, quiet: bool) -> None:
        self._session, self._goal, self._missing, self._quiet = session, goal, missing, quiet

    async def run(self, place: Place, members: list[Awaited]) -> None:
        """Return when all members have reached the goal."""
        by_name = {m.name: m for m in members}
        seen: set[str] = set()
        async with aclosing(follow(self._session, place)) as stream:
            async for kind, wire in stream:
                if kind is EventType.BOOKMARK:
                    for name in by_name.keys() - seen:
                        self._check(by_name[name], None)
                elif (name := wire["metadata"]["name"]) in by_name and self._belongs(by_name[name], wire):
                    seen.add(name)
                    self._check(by_name[name], None if kind is EventType.DELETED else wire)
                if not any(m in self._missing for m in members):
                    return

    @staticmethod
    def _belongs(item: Awaited, wire: Wire) -> bool:
        return project_in(wire) == item.project

    def _check(self, item: Awaited, wire: Wire | None) -> None:
        if item not in self._missing:
            return
        if wire is not None and item.uid and wire["metadata"].get("uid") != item.uid:
            wire = None
        try:
            text = self._goal(item.definition, wire)
        except CommandError as error:
            raise CommandError(f"{item}: {error.message}", hint=error.hint, code=error.code) from None
        if text is None:
            del self._missing[item]
        elif text != self._missing[item]:
            self._missing[item] = text
            if not self._quiet:
                self._session.err.print(f"[dim]{item}: {escape(text)}[/]", soft_wrap=True)
