"""start, stop, pause: the power state that is wanted; reboot and rebuild: tasks that happen once."""

import secrets
from typing import Annotated

import typer
from rich.markup import escape

from vcstack.applying.sets import project_in
from vcstack.specs.kinds.instance import Instance, PowerState
from vcstack.specs.kinds.task import RebootMode, Task, TaskSpec, TaskTarget, TaskType
from vcstack.specs.plan import compare
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import command
from vcstack.vcctl.arguments import INSTANCES, InstanceNames, Timeout, Wait, Yes
from vcstack.vcctl.asking import confirm
from vcstack.vcctl.reading import Wire, get_object
from vcstack.vcctl.selection import parse_objects
from vcstack.vcctl.session import Session
from vcstack.vcctl.tasks import follow_tasks
from vcstack.vcctl.waiting import Awaited, parse_duration, ready, wait_for

NAME_LIMIT = 63


@command(
    "start",
    panel=INSTANCES,
    examples="""
    vcctl start web-1
    vcctl start web-1 web-2 --wait
    """,
)
async def start(session: Session, names: InstanceNames, wait: Wait = False, timeout: Timeout = "5m") -> None:
    """Want instances Running."""
    await _want(session, names, PowerState.RUNNING, wait, timeout)


@command("stop", panel=INSTANCES, examples="vcctl stop web-1 --wait")
async def stop(session: Session, names: InstanceNames, wait: Wait = False, timeout: Timeout = "5m") -> None:
    """Want instances Stopped; disks and addresses stay."""
    await _want(session, names, PowerState.STOPPED, wait, timeout)


@command("pause", panel=INSTANCES, examples="vcctl pause web-1")
async def pause(session: Session, names: InstanceNames, wait: Wait = False, timeout: Timeout = "5m") -> None:
    """Want instances Paused: in memory, but not computing."""
    await _want(session, names, PowerState.PAUSED, wait, timeout)


async def _want(session: Session, words: list[str], state: PowerState, wait: bool, timeout: str) -> None:
    seconds = parse_duration(timeout)
    definition = get_kind(Instance.KIND)
    awaited = []
    for name in parse_objects(words, Instance.KIND):
        wire = await get_object(session, definition, name)
        project = project_in(wire)
        patched = await session.client.merge_patch_wire(
            definition, name, {"spec": {"powerState": state.value}}, project=project
        )
        changed = compare(Instance, wire, patched)
        word = f"will be {state.value.lower()}" if changed else f"is to be {state.value.lower()} already"
        session.out.print(f"instance/{escape(name)} {word}", soft_wrap=True)
        awaited.append(Awaited(Instance.KIND, project, name, wire["metadata"].get("uid")))
    if wait:
        await wait_for(session, awaited, ready, timeout_seconds=seconds)
        session.out.print(f"{', '.join(a.name for a in awaited)} {state.value.lower()}", soft_wrap=True)


@command(
    "reboot",
    panel=INSTANCES,
    examples="""
    vcctl reboot web-1 --wait
    vcctl reboot web-1 --hard
    """,
)
async def reboot(
    session: Session,
    names: InstanceNames,
    hard: Annotated[bool, typer.Option("--hard", help="By force, without asking the guest.")] = False,
    guest_seconds: Annotated[
        int, typer.Option("--guest-seconds", min=1, max=3600, help="How long the guest may take to shut down.")
    ] = 60,
    wait: Wait = False,
    timeout: Timeout = "10m",
) -> None:
    """Restart instances: a Task for each. Changes that wait for a reboot come into force."""
    seconds = parse_duration(timeout)
    spec = {"mode": RebootMode.HARD if hard else RebootMode.SOFT, "timeout_seconds": guest_seconds}
    tasks = [await _create_task(session, name, TaskType.REBOOT, spec) for name in parse_objects(names, Instance.KIND)]
    if wait:
        await follow_tasks(session, tasks, timeout_seconds=seconds)


@command("rebuild", panel=INSTANCES, examples="vcctl rebuild web-1 --wait")
async def rebuild(
    session: Session, names: InstanceNames, wait: Wait = False, timeout: Timeout = "10m", yes: Yes = False
) -> None:
    """Build the root disk anew from the image: all that is on it is LOST. Asks first.

    Name, uid, addresses and MAC stay. Changes that wait for a rebuild (image, keys, user data) come
    into force.
    """
    seconds = parse_duration(timeout)
    wanted = parse_objects(names, Instance.KIND)
    for name in wanted:
        wire = await get_object(session, get_kind(Instance.KIND), name)
        image = wire["spec"].get("image", "?")
        question = (
            f"Rebuild instance {name} from image {image}? Everything on its root disk is lost: "
            "files, logs, databases, SSH host keys."
        )
        confirm(session, question, yes=yes)
    tasks = [await _create_task(session, name, TaskType.RECREATE, {}) for name in wanted]
    if wait:
        await follow_tasks(session, tasks, timeout_seconds=seconds)


async def _create_task(session: Session, name: str, type_: TaskType, more: Wire) -> Wire:
    """Create the task that does it to the instance, and return it."""
    wire = await get_object(session, get_kind(Instance.KIND), name)
    ending = f"-{type_.value.lower()}-{secrets.token_hex(3)}"
    spec = TaskSpec(type=type_, target=TaskTarget(kind=Instance.KIND, name=name), **more)
    task = Task.new(name[: NAME_LIMIT - len(ending)].rstrip("-") + ending, spec, project=project_in(wire)).to_wire()
    task.pop("status")
    created = await session.client.create_wire(get_kind(Task.KIND), task)
    session.out.print(f"task/{escape(created['metadata']['name'])} created", soft_wrap=True)
    return created
