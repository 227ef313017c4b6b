"""The manager: each controller runs where it leads, stops at once when it no longer does, and is rebuilt."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.fakes.manual_clock import breathe
from tests.fakes.world import World
from vcstack.controllers import flavor
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.manager import Manager
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.runtime.reconciler import Result
from vcstack.specs.errors import FencedOut
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.resource import AnyResource, Ref


class Term:
    def __init__(self, fence: int) -> None:
        self.fence: Any = fence
        self.lost = asyncio.Event()


class Seat:
    """One seat for all candidates; who leads is told by ``term``."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.terms: list[Term] = []
        self.resigned = 0

    def candidate(self, name: str) -> "Candidate":
        return Candidate(self)


class Candidate:
    def __init__(self, seat: Seat) -> None:
        self.seat, self.leads = seat, False

    async def campaign(self) -> Term:
        await self.seat.free.acquire()
        self.leads = True
        self.seat.terms.append(Term(len(self.seat.terms) + 1))
        return self.seat.terms[-1]

    async def resign(self) -> None:
        if self.leads:
            self.leads = False
            self.seat.resigned += 1
            self.seat.free.release()


class Probe:
    """Builds controllers of flavors that note what they do."""

    def __init__(self) -> None:
        self.fences: list[Any] = []
        self.seen: list[tuple[Any, str]] = []
        self.hold: asyncio.Event | None = None
        self.error: BaseException | None = None
        self.finished = 0

    def client_for(self, world: World) -> Any:
        def client_for(name: str, fence: Any) -> Any:
            self.fences.append(fence)
            return world.system

        return client_for

    def build(self, context: ControllerContext) -> Controller:
        fence, probe = self.fences[-1] if self.fences else None, self

        class Reconciler:
            async def reconcile(self, resource: AnyResource | None, ref: Ref) -> Result | None:
                probe.seen.append((fence, ref.name))
                if probe.hold is not None:
                    await probe.hold.wait()
                if probe.error is not None:
                    error, probe.error = probe.error, None
                    raise error
                probe.finished += 1
                return None

        return context.controller(Reconciler(), Flavor, name="probe")


class Running:
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, manager: Manager, stop: asyncio.Event) -> asyncio.Task[None]:
        task = asyncio.create_task(manager.run(stop))
        self.tasks.append(task)
        return task


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = Running()
    yield running
    for task in running.tasks:
        task.cancel()
    await asyncio.gather(*running.tasks, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def manager_of(world: World, seat: Seat, probe: Probe, **options: Any) -> Manager:
    return Manager(
        {"probe": probe.build},
        world.system,
        clock=world.clock,
        actor="test",
        client_for=probe.client_for(world),
        elections=seat.candidate,
        **options,
    )


async def test_one_of_two_managers_leads_and_the_other_follows_when_it_stops(world: World, running: Running) -> None:
    await world.create_basics()
    seat, probes = Seat(), [Probe(), Probe()]
    managers = [manager_of(world, seat, p) for p in probes]
    stops = [asyncio.Event(), asyncio.Event()]
    first = running.start(managers[0], stops[0])
    await until(lambda: probes[0].finished)
    running.start(managers[1], stops[1])
    await breathe(100)
    assert not probes[1].seen
    stops[0].set()
    await first
    await until(lambda: probes[1].finished)
    assert probes[1].seen == [(2, "tiny")], "with the fence of its own term"
    assert (managers[0].leading, managers[1].leading) == (set(), {"probe"})


async def test_a_lost_term_stops_the_controller_at_once_and_it_campaigns_again(world: World, running: Running) -> None:
    await world.create_basics()
    seat, probe = Seat(), Probe()
    probe.hold = asyncio.Event()
    running.start(manager_of(world, seat, probe), asyncio.Event())
    await until(lambda: probe.seen)
    seat.terms[0].lost.set()
    await until(lambda: len(seat.terms) == 2)
    assert probe.finished == 0, "cut off in the middle"
    probe.hold.set()
    await until(lambda: probe.finished)
    assert probe.seen == [(1, "tiny"), (2, "tiny")]


async def test_a_refused_late_write_ends_the_term(world: World, running: Running) -> None:
    await world.create_basics()
    seat, probe = Seat(), Probe()
    probe.error = FencedOut("another leads")
    running.start(manager_of(world, seat, probe), asyncio.Event())
    await until(lambda: probe.finished)
    assert [fence for fence, _ in probe.seen] == [1, 2]


async def test_a_controller_that_cannot_be_built_is_tried_again_and_harms_no_other(
    world: World, running: Running
) -> None:
    await world.create_basics()
    seat, probe, attempts = Seat(), Probe(), []

    def broken(context: ControllerContext) -> Controller:
        attempts.append(context)
        raise LookupError("no backend")

    manager = Manager({"broken": broken, "probe": probe.build}, world.system, clock=world.clock, actor="test")
    running.start(manager, asyncio.Event())
    await until(lambda: probe.finished and attempts)
    await world.clock.advance(30.0)
    await until(lambda: len(attempts) > 1)
    assert manager.leading == {"probe"}
    assert seat.terms == []


async def test_a_stop_finishes_what_is_under_way_and_resigns(world: World, running: Running) -> None:
    await world.create_basics()
    seat, probe, stop = Seat(), Probe(), asyncio.Event()
    probe.hold = asyncio.Event()
    task = running.start(manager_of(world, seat, probe), stop)
    await until(lambda: probe.seen)
    stop.set()
    await breathe()
    assert not task.done()
    probe.hold.set()
    await task
    assert (probe.finished, seat.resigned) == (1, 1)


async def test_a_stop_while_campaigning_ends_at_once(world: World, running: Running) -> None:
    seat, stop = Seat(), asyncio.Event()
    await seat.free.acquire()  # somebody else leads for ever
    task = running.start(manager_of(world, seat, Probe()), stop)
    await breathe()
    stop.set()
    await task


async def test_real_controllers_run_end_to_end(world: World, running: Running) -> None:
    registry = CollectorRegistry()
    manager = Manager(
        {"flavor": flavor.build},
        world.system,
        clock=world.clock,
        actor="test",
        metrics=RuntimeMetrics(registry),
    )
    running.start(manager, asyncio.Event())
    await world.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
    ready = False
    async with asyncio.timeout(60):
        while not ready:
            await asyncio.sleep(0.005)
            ready = (await world.get(Flavor, "tiny")).is_true("Ready")
    assert registry.get_sample_value("vcstack_leading", {"controller": "flavor"}) == 1.0
