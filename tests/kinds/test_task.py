"""Tasks, the manager's part: bound, ended when their target is gone, removed in time."""

from typing import Any

from tests.fakes.world import PROJECT, World, sweep
from vcstack.controllers import task
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.task import SUCCEEDED, DesiredState, Phase, Task, TaskSpec, TaskTarget, TaskType
from vcstack.specs.meta import ConditionStatus, format_time


async def create_task(world: World, target: str = "web-1", **spec: Any) -> Task:
    wanted = TaskSpec(type=TaskType.REBOOT, target=TaskTarget(kind="Instance", name=target), **spec)
    made = await world.create(Task.new("reboot", wanted, project=PROJECT))
    await world.settle(task.build)
    return made


async def outcome(world: World) -> tuple[Phase | None, str]:
    found = await world.get(Task, "reboot")
    condition = found.find_condition(SUCCEEDED)
    return found.status.phase, condition.reason if condition else ""


async def create_bound(world: World) -> Instance:
    await world.create_basics()
    return await world.bind(await world.create_instance("web-1"), "h1")


async def test_a_task_is_bound_to_the_host_of_its_target(world: World) -> None:
    target = await create_bound(world)
    await create_task(world)
    bound = await world.get(Task, "reboot")
    assert (bound.status.host, bound.status.target_uid, bound.status.phase) == ("h1", target.uid, Phase.PENDING)
    condition = bound.find_condition(SUCCEEDED)
    assert condition is not None
    assert condition.status is ConditionStatus.UNKNOWN
    assert await world.writes_of(task.build) == 0


async def test_a_task_for_a_missing_target_fails_and_says_so(world: World) -> None:
    await world.create_basics()
    await create_task(world)
    assert await outcome(world) == (Phase.FAILED, "TargetNotFound")
    assert (await world.get(Task, "reboot")).status.finished_at is not None
    assert await world.writes_of(task.build) == 0


async def test_a_task_for_an_unbound_or_a_deleted_target_fails(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1")
    await create_task(world)
    assert await outcome(world) == (Phase.FAILED, "TargetNotBound")
    await world.delete(await world.get(Task, "reboot"))
    await world.delete(made)
    await create_task(world)
    assert await outcome(world) == (Phase.FAILED, "TargetDeleting")


async def test_a_task_cancelled_before_it_began_ends_so(world: World) -> None:
    await create_bound(world)
    await create_task(world, desired_state=DesiredState.CANCELLED)
    assert await outcome(world) == (Phase.CANCELLED, "Cancelled")


async def test_a_task_whose_target_goes_meanwhile_fails(world: World) -> None:
    target = await create_bound(world)
    await create_task(world)
    await world.delete(target)
    await world.settle(task.build)
    assert (await outcome(world))[0] is Phase.PENDING, "the agent may still finish it"
    await world.remove_finalizers(await world.get(Instance, "web-1"))
    await world.settle(task.build)
    assert await outcome(world) == (Phase.FAILED, "TargetGone")


async def test_another_instance_of_the_same_name_is_not_its_target(world: World) -> None:
    target = await create_bound(world)
    await create_task(world)
    await world.delete(target)
    await world.remove_finalizers(await world.get(Instance, "web-1"))
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(task.build)
    assert await outcome(world) == (Phase.FAILED, "TargetGone")


async def test_a_finished_task_goes_when_its_time_is_over(world: World) -> None:
    await create_bound(world)
    made = await create_task(world, ttl_seconds_after_finished=60)
    end = {"phase": "Succeeded", "finishedAt": format_time(world.clock.now())}
    await world.set_status(made, SUCCEEDED, **end)
    await world.informers.relist()
    result = await world.controller(task.build).reconciler.reconcile(await world.get(Task, "reboot"), made.ref)
    assert result is not None
    assert result.requeue_after == 60.0
    world.clock.skip(61.0)
    await world.settle(task.build)
    assert await world.find(Task, "reboot") is None


async def test_killed_anywhere_a_task_is_bound_once(world: World) -> None:
    async def scenario(world: World) -> None:
        await create_bound(world)
        await create_task(world)
        assert (await world.get(Task, "reboot")).status.host == "h1"

    assert await sweep(scenario) >= 1
