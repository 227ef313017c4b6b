"""The controller: when it calls the reconciler, and what it does about each way in which that ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import structlog
from prometheus_client import CollectorRegistry

from tests.fakes.feed import Feed, flavor
from tests.fakes.manual_clock import ManualClock, breathe
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.controller import Controller, Matters, Watch, asked_of
from vcstack.runtime.errors import BackendUnavailable, TerminalError, WaitingFor
from vcstack.runtime.informer import Informer
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.runtime.reconciler import PAUSED_ANNOTATION, Result
from vcstack.specs.access import EventType
from vcstack.specs.errors import Conflict, FencedOut
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.resource import Ref

Behaviour = Callable[[Flavor | None, Ref], Awaitable[Result | None]]


class Recorder:
    """A reconciler that does what the test says and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []
        self.behaviour: Behaviour | None = None

    async def reconcile(self, resource: Flavor | None, ref: Ref) -> Result | None:
        self.calls.append((ref.name, resource.metadata.resource_version if resource else None))
        return await self.behaviour(resource, ref) if self.behaviour else None

    def times(self, name: str) -> int:
        return sum(1 for n, _ in self.calls if n == name)


class Bench:
    """A controller of flavors on a feed, with a manual clock."""

    def __init__(self, matters: Mapping[str, Matters] | None = None) -> None:
        self.feed = Feed()
        self.clock = ManualClock()
        self.informer = Informer(self.feed, Flavor, clock=self.clock)  # type: ignore[arg-type]
        self.recorder = Recorder()
        self.registry = CollectorRegistry()
        self.stop = asyncio.Event()
        self.outside: asyncio.Queue[Ref | Exception] = asyncio.Queue()
        self.other = Informer(Feed(), Flavor, clock=self.clock)  # type: ignore[arg-type]
        self.controller = Controller(
            self.recorder,
            self.informer,
            watches=[Watch(self.other, lambda f: [Ref("Flavor", None, f.metadata.labels["of"])])],
            sources=[self.source],
            clock=self.clock,
            metrics=RuntimeMetrics(self.registry),
            backoff=Backoff(first_seconds=1.0, limit_seconds=4.0, jitter=0.0),
            resync_seconds=300.0,
            matters=matters,
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def source(self) -> AsyncIterator[Ref]:
        while True:
            item = await self.outside.get()
            if isinstance(item, Exception):
                raise item
            yield item

    async def start(self, *flavors: Flavor) -> None:
        self.feed.will_list(100, *flavors)
        await self.other_is_empty()
        self.tasks = [asyncio.create_task(self.informer.run()), asyncio.create_task(self.controller.run(self.stop))]
        await breathe()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def other_is_empty(self) -> None:
        self.other._client.will_list(1)  # type: ignore[attr-defined]
        await self.other.relist()

    def outcome(self, outcome: str) -> float:
        labels = {"controller": "flavor", "outcome": outcome}
        return self.registry.get_sample_value("vcstack_reconciles_total", labels) or 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.end()


async def test_every_object_is_reconciled_once_at_the_start(bench: Bench) -> None:
    await bench.start(flavor("a", 1), flavor("b", 2))
    assert sorted(bench.recorder.calls) == [("a", "1"), ("b", "2")]


async def test_a_change_and_a_deletion_are_reconciled(bench: Bench) -> None:
    await bench.start(flavor("a", 1))
    bench.feed.send(EventType.MODIFIED, flavor("a", 101), 101)
    await breathe()
    bench.feed.send(EventType.DELETED, flavor("a", 101), 102)
    await breathe()
    assert bench.recorder.calls == [("a", "1"), ("a", "101"), ("a", None)]


async def test_a_change_of_a_watched_kind_wakes_what_it_maps_to(bench: Bench) -> None:
    await bench.start(flavor("a", 1), flavor("b", 2))
    bench.other.observe(flavor("x", 7, labels={"of": "b"}))
    await breathe()
    assert bench.recorder.times("a") == 1
    assert bench.recorder.times("b") == 2


async def test_a_change_of_nothing_that_matters_wakes_nobody() -> None:
    bench = Bench(matters={"Flavor": asked_of})
    await bench.start(flavor("a", 1))
    bench.informer.observe(flavor("a", 7))
    bench.other.observe(flavor("x", 7, labels={"of": "a"}))
    await breathe()
    assert bench.recorder.times("a") == 2
    bench.other.observe(flavor("x", 8, labels={"of": "a"}))
    await breathe()
    assert bench.recorder.times("a") == 2
    bench.informer.observe(flavor("a", 9, labels={"changed": "yes"}))
    await breathe()
    assert bench.recorder.times("a") == 3
    await bench.end()


async def test_a_source_wakes_keys_and_a_broken_one_is_opened_again_with_a_look_at_all(bench: Bench) -> None:
    await bench.start(flavor("a", 1), flavor("b", 2))
    bench.outside.put_nowait(Ref("Flavor", None, "a"))
    await breathe()
    assert (bench.recorder.times("a"), bench.recorder.times("b")) == (2, 1)
    bench.outside.put_nowait(ConnectionError("gone"))
    await bench.clock.advance(1.5)
    assert (bench.recorder.times("a"), bench.recorder.times("b")) == (3, 2)
    bench.outside.put_nowait(Ref("Flavor", None, "b"))
    await breathe()
    assert bench.recorder.times("b") == 3


async def test_all_are_looked_at_again_periodically(bench: Bench) -> None:
    await bench.start(flavor("a", 1))
    await bench.clock.advance(331.0)
    assert bench.recorder.times("a") == 2


async def test_requeue_after_is_kept(bench: Bench) -> None:
    async def later(resource: Flavor | None, ref: Ref) -> Result | None:
        return Result(requeue_after=10.0)

    bench.recorder.behaviour = later
    await bench.start(flavor("a", 1))
    await bench.clock.advance(35.0)
    assert bench.recorder.times("a") == 4


async def test_a_failure_is_tried_again_with_growing_delays_and_a_success_resets_them(bench: Bench) -> None:
    failures = 3

    async def fail(resource: Flavor | None, ref: Ref) -> Result | None:
        if bench.recorder.times("a") <= failures:
            raise BackendUnavailable("away")
        return None

    bench.recorder.behaviour = fail
    await bench.start(flavor("a", 1))
    await bench.clock.advance(0.9)
    assert bench.recorder.times("a") == 1
    await bench.clock.advance(0.2)
    assert bench.recorder.times("a") == 2
    await bench.clock.advance(2.1)
    assert bench.recorder.times("a") == 3
    await bench.clock.advance(100.0)
    assert bench.recorder.times("a") == 4
    assert bench.outcome("retry") == 3
    assert bench.controller.queue.failures(Ref("Flavor", None, "a")) == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(RuntimeError("a fault of ours"), "error"), (Conflict("stale"), "stale"), (BackendUnavailable("x"), "retry")],
)
async def test_every_other_error_is_tried_again(bench: Bench, error: Exception, outcome: str) -> None:
    async def fail(resource: Flavor | None, ref: Ref) -> Result | None:
        raise error

    bench.recorder.behaviour = fail
    await bench.start(flavor("a", 1))
    await bench.clock.advance(1.1)
    assert bench.recorder.times("a") == 2
    assert bench.outcome(outcome) == 2


async def test_a_terminal_error_waits_for_a_change(bench: Bench) -> None:
    async def give_up(resource: Flavor | None, ref: Ref) -> Result | None:
        raise TerminalError("Impossible", "it cannot be")

    bench.recorder.behaviour = give_up
    await bench.start(flavor("a", 1))
    await bench.clock.advance(200.0)
    assert bench.recorder.times("a") == 1
    bench.feed.send(EventType.MODIFIED, flavor("a", 101), 101)
    await breathe()
    assert bench.recorder.times("a") == 2


async def test_waiting_for_something_is_looked_at_after_a_while(bench: Bench) -> None:
    async def wait(resource: Flavor | None, ref: Ref) -> Result | None:
        raise WaitingFor("NotYet", "soon", after_seconds=20.0)

    bench.recorder.behaviour = wait
    await bench.start(flavor("a", 1))
    await bench.clock.advance(19.0)
    assert bench.recorder.times("a") == 1
    await bench.clock.advance(2.0)
    assert bench.recorder.times("a") == 2


async def test_a_refused_late_write_ends_the_controller(bench: Bench) -> None:
    async def fenced(resource: Flavor | None, ref: Ref) -> Result | None:
        raise FencedOut("another leads")

    bench.recorder.behaviour = fenced
    await bench.start(flavor("a", 1), flavor("b", 2))
    with pytest.raises(FencedOut):
        await bench.tasks[1]


async def test_a_paused_object_is_left_alone_until_it_is_deleted(bench: Bench) -> None:
    paused = flavor("a", 1)
    paused.metadata.annotations[PAUSED_ANNOTATION] = "true"
    await bench.start(paused)
    assert bench.recorder.calls == []
    deleting = paused.model_copy(deep=True)
    deleting.metadata.deletion_timestamp = bench.clock.now()
    deleting.metadata.resource_version = "101"
    bench.feed.send(EventType.MODIFIED, deleting, 101)
    await breathe()
    assert bench.recorder.times("a") == 1


async def test_a_stop_lets_the_reconcile_under_way_finish_and_begins_no_other(bench: Bench) -> None:
    go_on, finished = asyncio.Event(), []

    async def slow(resource: Flavor | None, ref: Ref) -> Result | None:
        await go_on.wait()
        finished.append(ref.name)
        return None

    bench.recorder.behaviour = slow
    await bench.start(*(flavor(f"f{n}", n + 1) for n in range(10)))
    bench.stop.set()
    await breathe()
    assert not bench.tasks[1].done()
    go_on.set()
    await bench.tasks[1]
    assert len(finished) == 4, "the four workers' own"


async def test_cancellation_stops_at_once(bench: Bench) -> None:
    finished = []

    async def slow(resource: Flavor | None, ref: Ref) -> Result | None:
        await asyncio.Event().wait()
        finished.append(ref.name)
        return None

    bench.recorder.behaviour = slow
    await bench.start(flavor("a", 1))
    bench.tasks[1].cancel()
    await breathe()
    assert bench.tasks[1].cancelled()
    assert not finished


async def test_handlers_are_gone_with_the_controller(bench: Bench) -> None:
    await bench.start(flavor("a", 1))
    bench.stop.set()
    await bench.tasks[1]
    assert bench.informer._handlers == []
    assert bench.other._handlers == []


async def test_metrics_tell_the_lag_from_the_first_event(bench: Bench) -> None:
    release = asyncio.Event()

    async def slow(resource: Flavor | None, ref: Ref) -> Result | None:
        await release.wait()
        return None

    bench.recorder.behaviour = slow
    await bench.start(flavor("a", 1))
    await bench.clock.advance(7.0)
    release.set()
    await breathe()
    assert bench.registry.get_sample_value("vcstack_reconcile_lag_seconds_sum", {"controller": "flavor"}) == 7.0
    assert bench.registry.get_sample_value("vcstack_queue_depth", {"controller": "flavor"}) == 0.0


async def test_a_stop_before_the_first_list_ends_it(bench: Bench) -> None:
    bench.tasks = [asyncio.create_task(bench.informer.run()), asyncio.create_task(bench.controller.run(bench.stop))]
    await breathe()
    bench.stop.set()
    await bench.tasks[1]
    assert bench.recorder.calls == []


async def test_each_reconcile_logs_with_its_object_and_an_id_of_its_own(bench: Bench) -> None:
    bound: list[dict[str, object]] = []

    async def look(resource: Flavor | None, ref: Ref) -> Result | None:
        bound.append(structlog.contextvars.get_contextvars())
        return None

    bench.recorder.behaviour = look
    await bench.start(flavor("a", 1), flavor("b", 2))
    assert [(b["controller"], b["kind"], b["name"], b["uid"], b["generation"]) for b in bound] == [
        ("flavor", "Flavor", "a", "fl-a", 0),
        ("flavor", "Flavor", "b", "fl-b", 0),
    ]
    assert bound[0]["reconcile_id"] != bound[1]["reconcile_id"]
