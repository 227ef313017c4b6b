"""Workflows: persisted before and after each step, resumed after any kill, undone in reverse order."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.fakes.crash import Crasher, Killed, every_kill
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fakes.world import PROJECT, World
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import BackendUnavailable, TerminalError
from vcstack.runtime.workflow import StepScope, Workflow
from vcstack.specs.kinds.task import SUCCEEDED, DesiredState, Phase, StepState, Task, TaskSpec, TaskTarget, TaskType
from vcstack.store.store import Store


class Outside:
    """What the steps act upon; survives the program."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.undone: list[str] = []

    async def do(self, name: str) -> None:
        self.done.append(name)

    async def undo(self, name: str) -> None:
        self.undone.append(name)


class PlainStep:
    """Does something outside; ``trouble`` may raise first."""

    def __init__(self, name: str, outside: Outside, trouble: Callable[[str], None] = lambda what: None) -> None:
        self.name, self.outside, self.trouble = name, outside, trouble
        self.scope: StepScope | None = None

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        self.scope = copy.deepcopy(scope)
        self.trouble("run")
        await self.outside.do(self.name)
        return {"by": self.name}

    async def compensate(self, scope: StepScope) -> None:
        self.trouble("compensate")
        await self.outside.undo(self.name)


def refuse(what: str) -> None:
    if what == "run":
        raise TerminalError("Impossible", "the disk is gone")


async def create_task(world: World) -> Task:
    await world.create_basics()
    await world.create_instance("web-1")
    target = TaskTarget(kind="Instance", name="web-1")
    return await world.create(Task.new("t1", TaskSpec(type=TaskType.REBOOT, target=target), project=PROJECT))


def workflow(world: World, steps: list[Any], client: ResourceClient | None = None, **options: Any) -> Workflow:
    return Workflow(steps, client or world.system, world.clock, events=world.events, **options)


def states(task: Task) -> list[StepState]:
    return [s.state for s in task.status.steps or ()]


async def test_all_steps_run_in_order_and_the_end_is_told(world: World) -> None:
    task, outside = await create_task(world), Outside()
    steps = [PlainStep(n, outside) for n in ("one", "two", "three")]
    ended = await workflow(world, steps).run(task)
    assert outside.done == ["one", "two", "three"]
    assert ended.status.phase is Phase.SUCCEEDED
    assert ended.is_true(SUCCEEDED)
    assert ended.is_true("Ready")
    assert (ended.status.progress_percent, ended.status.finished_at) == (100, world.clock.now())
    assert steps[2].scope is not None
    assert steps[2].scope.results == {"one": {"by": "one"}, "two": {"by": "two"}, "three": {}}
    assert "Succeeded" in await world.event_reasons()


async def test_progress_is_stored_before_and_after_each_step(world: World) -> None:
    task, outside = await create_task(world), Outside()
    seen: list[tuple[list[StepState], int | None, Phase | None]] = []

    class Looking(PlainStep):
        async def run(self, scope: StepScope) -> Mapping[str, str] | None:
            stored = await world.get(Task, "t1")
            seen.append((states(stored), stored.status.progress_percent, stored.status.phase))
            return await super().run(scope)

    await workflow(world, [Looking("one", outside), Looking("two", outside)]).run(task)
    running, pending, succeeded = StepState.RUNNING, StepState.PENDING, StepState.SUCCEEDED
    assert seen == [([running, pending], 0, Phase.RUNNING), ([succeeded, running], 50, Phase.RUNNING)]


async def test_a_finished_task_is_left_as_it_is(world: World) -> None:
    task, outside = await create_task(world), Outside()
    ended = await workflow(world, [PlainStep("one", outside)]).run(task)
    before = world.etcd.writes
    assert await workflow(world, [PlainStep("one", outside)]).run(ended) is ended
    assert world.etcd.writes == before
    assert outside.done == ["one"]


async def test_a_passing_error_is_raised_and_the_step_is_run_again(world: World) -> None:
    task, outside = await create_task(world), Outside()
    attempts = []

    def trouble(what: str) -> None:
        attempts.append(what)
        if len(attempts) == 1:
            raise BackendUnavailable("libvirt is away")

    steps = [PlainStep("one", outside), PlainStep("two", outside, trouble)]
    with pytest.raises(BackendUnavailable):
        await workflow(world, steps).run(task)
    ended = await workflow(world, steps).run(await world.get(Task, "t1"))
    assert ended.status.phase is Phase.SUCCEEDED
    assert outside.done == ["one", "two"]


async def test_a_step_that_cannot_be_done_undoes_what_was_begun_in_reverse_order(world: World) -> None:
    task, outside = await create_task(world), Outside()
    steps = [
        PlainStep("one", outside),
        PlainStep("two", outside),
        PlainStep("three", outside, refuse),
        PlainStep("four", outside),
    ]
    ended = await workflow(world, steps).run(task)
    assert outside.undone == ["three", "two", "one"]
    assert ended.status.phase is Phase.FAILED
    condition = ended.find_condition(SUCCEEDED)
    assert condition is not None
    assert (condition.reason, condition.message) == ("Impossible", "the disk is gone")
    assert states(ended) == [StepState.COMPENSATED] * 3 + [StepState.PENDING]
    assert (ended.status.steps or [])[2].message == "the disk is gone"
    assert "Failed" in await world.event_reasons()


async def test_what_cannot_be_undone_is_said_and_the_rest_is_undone(world: World) -> None:
    def stubborn(what: str) -> None:
        if what == "compensate":
            raise TerminalError("Impossible", "no way back")

    task, outside = await create_task(world), Outside()
    steps = [PlainStep("one", outside), PlainStep("two", outside, stubborn), PlainStep("three", outside, refuse)]
    ended = await workflow(world, steps).run(task)
    assert outside.undone == ["three", "one"]
    assert (ended.status.steps or [])[1].message == "could not be undone: no way back"


async def test_a_cancelled_task_stops_after_the_present_step_and_is_undone(world: World) -> None:
    task, outside = await create_task(world), Outside()
    newest = task.model_copy(deep=True)

    def cancel(what: str) -> None:
        newest.spec.desired_state = DesiredState.CANCELLED

    steps = [PlainStep("one", outside, cancel), PlainStep("two", outside)]
    ended = await workflow(world, steps, current=lambda: newest).run(task)
    assert (outside.done, outside.undone) == (["one"], ["one"])
    assert ended.status.phase is Phase.CANCELLED
    condition = ended.find_condition(SUCCEEDED)
    assert condition is not None
    assert condition.reason == "Cancelled"


@pytest.mark.parametrize("ends_well", [True, False])
async def test_killed_at_any_call_it_goes_on_where_it_was(ends_well: bool) -> None:
    async def live(crasher: Crasher) -> None:
        etcd, outside = MemoryEtcd(), Outside()
        async with Store(etcd) as store:
            world = World(store, etcd)
            task = await create_task(world)
            last = PlainStep("three", outside) if ends_well else PlainStep("three", outside, refuse)
            wrapped = crasher.wrap(outside)
            steps = [PlainStep("one", wrapped), PlainStep("two", wrapped), last]
            last.outside = wrapped
            try:
                await workflow(world, steps, crasher.wrap(world.system)).run(task)
            except Killed:
                for step in steps:
                    step.outside = outside
                await workflow(world, steps).run(await world.get(Task, "t1"))
            ended = await world.get(Task, "t1")
            assert ended.status.phase is (Phase.SUCCEEDED if ends_well else Phase.FAILED)
            order = ["one", "two", "three"] if ends_well else ["one", "two"]
            assert list(dict.fromkeys(outside.done)) == order
            assert len(outside.done) <= len(order) + 1, "only the step that was under way is repeated"
            undone = [] if ends_well else ["three", "two", "one"]
            assert list(dict.fromkeys(outside.undone)) == undone

    counting = Crasher()
    await live(counting)
    for crasher in every_kill(len(counting.calls)):
        await live(crasher)
