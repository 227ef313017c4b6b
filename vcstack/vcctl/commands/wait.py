"""wait: until a condition, a value, or the end."""

import re
from typing import Annotated

import typer

from vcstack.applying.manifests import Wire
from vcstack.applying.sets import project_in
from vcstack.specs.columns import format_value
from vcstack.specs.errors import NotFound
from vcstack.specs.jsonpath import find_all
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import READ, Everywhere, Labels, Targets, Timeout
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.reading import get_object, label_of, list_objects, places_of
from vcstack.vcctl.selection import Selection, parse_selections
from vcstack.vcctl.session import Session
from vcstack.vcctl.waiting import Awaited, Goal, condition_goal, deleted, parse_duration, wait_for

_JSONPATH = re.compile(r"jsonpath=(?P<path>\{[^}]*\}|[^=]+)(?:=(?P<value>.*))?")


@command(
    "wait",
    panel=READ,
    examples="""
    vcctl wait instance web-1 --for=condition=Ready
    vcctl wait instances -l app=web --for=condition=Ready --timeout 10m
    vcctl wait instance/web-1 --for=delete
    vcctl wait instance web-1 --for=jsonpath='{.status.powerState}'=Stopped
    """,
)
async def wait(
    session: Session,
    targets: Targets,
    goal: Annotated[
        str,
        typer.Option("--for", metavar="GOAL", help="condition=TYPE[=STATUS], delete, create or jsonpath=PATH[=VALUE]."),
    ] = "condition=Ready",
    selector: Labels = "",
    all_projects: Everywhere = False,
    timeout: Timeout = "5m",
) -> None:
    """Wait until objects have a condition or a value, or are gone. What is missing is shown as it changes."""
    reached = parse_goal(goal)
    seconds = parse_duration(timeout)
    awaited: list[Awaited] = []
    for selection in parse_selections(targets):
        awaited += await _find(session, selection, selector, all_projects, may_lack=goal in ("delete", "create"))
    if not awaited and goal != "delete":
        raise NotFound("there is nothing to wait for: no object is selected")
    await wait_for(session, awaited, reached, timeout_seconds=seconds)
    for item in awaited:
        session.out.print(f"{item} {'deleted' if goal == 'delete' else 'condition met'}", soft_wrap=True)


async def _find(
    session: Session, selection: Selection, labels: str, everywhere: bool, *, may_lack: bool
) -> list[Awaited]:
    definition = selection.definition
    if selection.name is None:
        places = places_of(session, definition, everywhere=everywhere, labels=labels)
        return [_awaited(definition, w) for w in await list_objects(session, places)]
    try:
        return [_awaited(definition, await get_object(session, definition, selection.name))]
    except NotFound:
        if not may_lack:
            raise
        return [Awaited(definition.kind, session.project_of(definition), selection.name)]


def _awaited(definition: KindDefinition, wire: Wire) -> Awaited:
    uid = wire["metadata"].get("uid")
    return Awaited(definition.kind, project_in(wire), label_of(definition, wire).partition("/")[2], uid)


def parse_goal(text: str) -> Goal:
    """Return the goal of --for.

    Raises:
        CommandError: if it cannot be read.
    """
    if text == "delete":
        return deleted
    if text == "create":
        return lambda definition, wire: "it does not exist yet" if wire is None else None
    kind, equals, rest = text.partition("=")
    if kind == "condition" and equals and rest:
        type_, _, status = rest.partition("=")
        return condition_goal(type_, status.capitalize() or "True")
    if match := _JSONPATH.fullmatch(text):
        return _value_goal(match["path"], match["value"])
    raise CommandError(
        f"--for={text} cannot be read",
        hint="Write condition=Ready, condition=Running=False, delete, create or jsonpath='{.status.host}'=h1.",
    )


def _value_goal(path: str, value: str | None) -> Goal:
    def check(definition: KindDefinition, wire: Wire | None) -> str | None:
        if wire is None:
            return "it does not exist yet"
        found = [format_value(v) for v in find_all(path, wire)]
        if found and (value is None or value in found):
            return None
        return f"{path} is {', '.join(found) or 'absent'}"

    return check
