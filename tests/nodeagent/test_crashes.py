"""The agent killed before and after each call to the outside, at every k: run again it always comes to the same end."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fakes.crash import Crasher, Killed, When, every_kill
from tests.fakes.memory_etcd import MemoryEtcd
from tests.nodeagent.world import HOST, PROJECT, World
from vcstack.nodeagent.realizers.instance import InstanceRealizer
from vcstack.nodeagent.realizers.task import TaskParts, TaskRealizer
from vcstack.nodeagent.record import Making
from vcstack.nodeagent.wakeups import Wakeups
from vcstack.runtime.errors import ReconcileError
from vcstack.runtime.informer import Informer
from vcstack.runtime.workflow import FINISHED
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER, RUNNING, UP_TO_DATE, Instance, NetworkInterface, PowerState
from vcstack.specs.kinds.task import Phase, RebootMode, StepState, Task, TaskSpec, TaskTarget, TaskType
from vcstack.store.store import Store

pytestmark = pytest.mark.timeout(1800)
Step = Callable[[World], Awaitable[None]]


async def create(world: World) -> None:
    await world.add_instance(nics=2)


async def change(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    cards = [NetworkInterface(name=f"eth{i}", network="web") for i in range(2)]
    await world.add_port(instance, cards[1])
    await world.update(network_interfaces=cards[1:], power_state=PowerState.PAUSED, flavor="small")


async def restart(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    tap = await world.tap_of(instance)
    world.hypervisor.stop_by_itself(instance.uid, "crashed")
    world.hypervisor.delete_tap(tap)
    world.switch.ports.clear()
    world.clock.skip(100)


async def recreate(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await (await world.parts()).storage.request_rebuild(instance, "task-1")


async def delete(world: World) -> None:
    instance = await world.add_instance(nics=2)
    await world.settle()
    await world.client.delete(instance.ref)


async def end_well(world: World) -> None:
    """Run on without crashes and check that all is as it should be, with nothing twice and nothing left."""
    world.clock.skip(200)
    for _ in range(4):
        await world.settle()
    instance = await world.get()
    if instance.deleting:
        assert DOMAIN_FINALIZER not in instance.metadata.finalizers
        world.assert_clean()
        return
    assert instance.is_true(RUNNING), instance.status.conditions
    assert list(world.hypervisor.machines) == [instance.uid]
    assert len(world.taps.taps) == len(world.switch.ports) == len(instance.spec.network_interfaces)
    assert all(t.held for t in world.taps.taps.values())
    assert sorted(world.taps.taps) == sorted(world.switch.ports)
    assert {p.name for p in world.layout.of_instance(instance.uid).folder.iterdir()} == {
        "made.json",
        "root.qcow2",
        "seed.iso",
    }
    condition = instance.find_condition(UP_TO_DATE)
    assert condition is not None
    assert condition.reason in ("UpToDate", "RebootRequired")


async def run_until_killed(world: World, crasher: Crasher) -> None:
    for _ in range(6):
        try:
            await world.reconcile(crasher=crasher)
        except Killed:
            return
        except ReconcileError:
            continue


async def add_task(world: World, type_: TaskType, mode: RebootMode) -> Task:
    """Have a task wait for an instance that runs, as the manager binds it."""
    instance = await world.add_instance()
    await world.settle()
    target = TaskTarget(kind="Instance", name=instance.metadata.name)
    spec = TaskSpec(type=type_, target=target, mode=mode, timeout_seconds=10)
    task = await world.client.create(Task.new("do", spec, project=PROJECT))
    return await world.client.patch_status(task, {"host": HOST, "targetUid": instance.uid})


async def live_with_task(world: World, crasher: Crasher | None, rounds: int = 20) -> Task:
    """Be an agent for a while: one that reconciles the task and its instance in turns."""
    parts = await world.parts(crasher)
    instances = Informer(world.client, Instance, clock=world.clock)
    tasks = Informer(world.client, Task, clock=world.clock)
    instance_realizer = InstanceRealizer(parts)
    task_realizer = TaskRealizer(TaskParts(parts, instances, Wakeups()), tasks)
    for _ in range(rounds):
        instance, task = await world.get(), await world.client.get(Task, "do", PROJECT)
        if task.status.phase in FINISHED and instance.is_true(RUNNING):
            break
        instances.observe(instance)
        tasks.observe(task)
        with contextlib.suppress(ReconcileError):
            await task_realizer.reconcile(task, task.ref)
        with contextlib.suppress(ReconcileError):
            await instance_realizer.reconcile(instance, instance.ref)
        world.clock.skip(5)
    return await world.client.get(Task, "do", PROJECT)


async def end_task_well(world: World, task: Task) -> None:
    """Check that what was asked for was done, once."""
    assert task.status.phase is Phase.SUCCEEDED, task.status
    assert all(s.state is StepState.SUCCEEDED for s in task.status.steps or ())
    instance = await world.get()
    assert instance.is_true(RUNNING), instance.status.conditions
    assert list(world.hypervisor.machines) == [instance.uid]
    assert world.hypervisor.machines[instance.uid].number == 2, "started once when it was made, once more by the task"
    record = (await world.parts()).storage.get_record(instance)
    assert record is not None
    assert record.state is Making.MADE
    assert record.token == (task.uid if task.spec.type is TaskType.RECREATE else "")
    # A disk of which it is not noted yet that it was made may be made once more: no guest has used it.
    made = {TaskType.REBOOT: (1,), TaskType.RECREATE: (2, 3)}[task.spec.type]
    assert len(world.disks.made) in made


@pytest.mark.parametrize(
    ("type_", "mode", "ignores_button"),
    [
        (TaskType.REBOOT, RebootMode.SOFT, False),
        (TaskType.REBOOT, RebootMode.SOFT, True),
        (TaskType.REBOOT, RebootMode.HARD, False),
        (TaskType.RECREATE, RebootMode.SOFT, False),
    ],
)
async def test_a_task_whose_agent_is_killed_at_any_call_is_done_once(
    type_: TaskType, mode: RebootMode, ignores_button: bool, tmp_path: Path
) -> None:
    async def attempt(number: int, crasher: Crasher) -> None:
        async with Store(MemoryEtcd()) as store:
            folder = tmp_path / str(number)
            folder.mkdir()
            world = await World.create(store, folder)
            task = await add_task(world, type_, mode)
            world.hypervisor.ignores_button = ignores_button
            with contextlib.suppress(Killed):
                task = await live_with_task(world, crasher)
            if crasher.dead.is_set():
                task = await live_with_task(world, None)
            await end_task_well(world, task)

    counter = Crasher()
    await attempt(0, counter)
    assert len(counter.calls) > 10
    for number, crasher in enumerate(every_kill(len(counter.calls)), start=1):
        await attempt(number, crasher)


@pytest.mark.parametrize("scenario", [create, change, restart, recreate, delete])
async def test_killed_at_every_call_it_still_comes_to_the_right_end(scenario: Step, tmp_path: Path) -> None:
    async def attempt(number: int, crasher: Crasher) -> None:
        async with Store(MemoryEtcd()) as store:
            folder = tmp_path / str(number)
            folder.mkdir()
            world = await World.create(store, folder)
            await scenario(world)
            await run_until_killed(world, crasher)
            await end_well(world)

    counter = Crasher()
    await attempt(0, counter)
    assert len(counter.calls) > 5
    number = 0
    for at in range(1, len(counter.calls) + 1):
        for when in When:
            number += 1
            await attempt(number, Crasher(at, when))
