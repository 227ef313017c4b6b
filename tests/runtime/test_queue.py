"""The work queue: exclusion, de-duplication, order, delays, and that nothing is lost."""

import asyncio
import contextlib
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.manual_clock import ManualClock, breathe
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.queue import FRONT_SHARE, QueueClosed, WorkQueue


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> WorkQueue[str]:
    return WorkQueue(clock, Backoff(first_seconds=1.0, limit_seconds=8.0, jitter=0.0))


async def take_all(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while len(queue):
        key = await queue.get()
        taken.append(key)
        queue.done(key)
    return taken


async def test_keys_come_in_the_order_they_were_added(queue: WorkQueue[str]) -> None:
    for key in "abc":
        queue.add(key)
    assert await take_all(queue) == ["a", "b", "c"]


async def test_a_key_added_twice_comes_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert await take_all(queue) == ["a"]


async def test_a_key_added_while_worked_on_comes_again_only_after_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await take_all(queue) == ["a"]


async def test_a_key_that_comes_back_goes_to_the_end(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    queue.add("a")
    queue.done("a")
    assert await take_all(queue) == ["b", "a"]


async def test_background_keys_let_others_pass_but_are_not_starved(queue: WorkQueue[str]) -> None:
    queue.add("slow", background=True)
    for n in range(2 * FRONT_SHARE):
        queue.add(f"f{n}")
    taken = await take_all(queue)
    assert taken.index("slow") == FRONT_SHARE


async def test_a_background_key_that_is_added_again_moves_to_the_front(queue: WorkQueue[str]) -> None:
    for key in ("x", "y"):
        queue.add(key, background=True)
    queue.add("y")
    assert await take_all(queue) == ["y", "x"]


async def test_a_delayed_key_comes_when_due(queue: WorkQueue[str], clock: ManualClock) -> None:
    running = asyncio.create_task(queue.run())
    queue.add_after("a", 5.0)
    await clock.advance(4.9)
    assert len(queue) == 0
    await clock.advance(0.2)
    assert await take_all(queue) == ["a"]
    running.cancel()


async def test_of_two_delays_the_earlier_counts(queue: WorkQueue[str], clock: ManualClock) -> None:
    running = asyncio.create_task(queue.run())
    queue.add_after("a", 50.0)
    queue.add_after("a", 1.0)
    await clock.advance(2.0)
    assert await take_all(queue) == ["a"]
    await clock.advance(100.0)
    assert len(queue) == 0
    assert queue.delayed == 0
    running.cancel()


async def test_failures_back_off_exponentially_up_to_the_limit(queue: WorkQueue[str]) -> None:
    assert [queue.add_after_failure("a") for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert queue.failures("a") == 6
    queue.forget("a")
    assert queue.add_after_failure("a") == 1.0


def test_jitter_only_shortens_a_delay() -> None:
    backoff = Backoff(first_seconds=2.0, limit_seconds=100.0, jitter=0.5, rng=random.Random(1))
    delays = [backoff.delay(1) for _ in range(200)]
    assert all(1.0 <= d <= 2.0 for d in delays)
    assert len(set(delays)) > 100
    assert backoff.delay(10_000) <= 100.0


async def test_a_waiting_getter_is_woken(queue: WorkQueue[str]) -> None:
    getter = asyncio.create_task(queue.get())
    await breathe()
    queue.add("a")
    assert await getter == "a"


async def test_a_getter_cancelled_after_it_was_woken_passes_the_key_on(queue: WorkQueue[str]) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await breathe()
    queue.add("a")
    first.cancel()
    assert await second == "a"
    with contextlib.suppress(asyncio.CancelledError):
        await first


async def test_a_closed_queue_ends_every_getter(queue: WorkQueue[str]) -> None:
    getters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await breathe()
    queue.close()
    results = await asyncio.gather(*getters, return_exceptions=True)
    assert all(isinstance(r, QueueClosed) for r in results)
    queue.add("a")
    assert len(queue) == 0


async def test_waiting_time_is_told_once(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("a")
    clock.skip(3.0)
    key = await queue.get()
    assert queue.waited(key) == 3.0
    assert queue.waited(key) == 0.0


async def test_many_workers_never_share_a_key_and_finish_all(queue: WorkQueue[str]) -> None:
    active: set[str] = set()
    worked: dict[str, int] = {}

    async def work(rng: random.Random) -> None:
        while True:
            key = await queue.get()
            assert key not in active
            active.add(key)
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            worked[key] = worked.get(key, 0) + 1
            active.discard(key)
            queue.done(key)
            await asyncio.sleep(0)

    workers = [asyncio.create_task(work(random.Random(n))) for n in range(8)]
    rng = random.Random(7)
    for _ in range(2000):
        queue.add(f"k{rng.randrange(20)}", background=rng.random() < 0.3)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    await breathe(500)
    assert len(queue) == 0
    assert not active
    assert set(worked) == {f"k{n}" for n in range(20)}
    assert not any(w.done() for w in workers)
    for worker in workers:
        worker.cancel()


KEYS = st.sampled_from("abcde")


class QueueMachine(RuleBasedStateMachine):
    """Against a model: every key added after its last get comes again, and never while worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock, Backoff(first_seconds=1.0, limit_seconds=16.0))
        self.wanted: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.active: set[str] = set()

    @rule(key=KEYS, background=st.booleans())
    def add(self, key: str, background: bool) -> None:
        self.queue.add(key, background=background)
        self.wanted.add(key)

    @rule(key=KEYS, seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        due = self.clock.monotonic() + seconds
        self.delayed[key] = min(self.delayed.get(key, due), due)

    @rule(seconds=st.sampled_from([0.5, 2.0, 30.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.skip(seconds)
        self.queue.release_due()
        due = {k for k, at in self.delayed.items() if at <= self.clock.monotonic()}
        self.wanted |= due
        self.delayed = {k: at for k, at in self.delayed.items() if k not in due}

    @precondition(lambda self: self.wanted - self.active)
    @rule()
    def get(self) -> None:
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.get(), 60))
        assert key in self.wanted
        assert key not in self.active
        self.wanted.discard(key)
        self.active.add(key)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.active)))
        self.active.discard(key)
        self.queue.done(key)

    @invariant()
    def as_many_wait_as_the_model_says(self) -> None:
        assert len(self.queue) == len(self.wanted - self.active)

    def teardown(self) -> None:
        for key in sorted(self.active):
            self.queue.done(key)
        self.active.clear()
        self.let_time_pass(1000.0)
        left = self.loop.run_until_complete(take_all(self.queue))
        assert sorted(left) == sorted(self.wanted)
        self.loop.close()


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase
