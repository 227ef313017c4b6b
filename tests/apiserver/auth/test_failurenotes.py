"""Guessing is as slow at many processes as at one: they tell each other of failed logins."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from tests.apiserver.auth.test_throttle import wait_of
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.etcd import eventually
from vcstack.apiserver.auth.failurenotes import PREFIX, FailureNotes
from vcstack.apiserver.auth.throttle import ACCOUNT, SOURCE, Throttle, ThrottleSettings, mark_of
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdUnavailable

SETTINGS = ThrottleSettings()
HERE, THERE = "192.0.2.1", "192.0.2.2"
Start = Callable[[str], Throttle]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def start(any_etcd: MemoryEtcd | EtcdClient, clock: ManualClock) -> AsyncIterator[Start]:
    """A function that starts a process of that name."""
    async with asyncio.TaskGroup() as group:
        tasks = []

        def begin(worker: str) -> Throttle:
            throttle = Throttle(clock)
            tasks.append(group.create_task(FailureNotes(throttle, any_etcd, clock, worker).run()))
            return throttle

        yield begin
        for task in tasks:
            task.cancel()


def fail(throttle: Throttle, account: str, address: str = HERE, times: int = 1) -> None:
    for _ in range(times):
        throttle.attempt(account, address)


async def test_failures_at_several_processes_add_up(start: Start, clock: ManualClock) -> None:
    one, two, three = start("one"), start("two"), start("three")
    fail(one, "alice", times=3)
    fail(two, "alice", times=2)
    for each in (one, two, three):
        await eventually(partial(has_failed, each, "alice", 5))
        assert wait_of(each, "alice", HERE) == 2
        assert wait_of(each, "alice", THERE) == 0
        assert wait_of(each, "bob", HERE) == 0
    clock.skip(2)
    assert wait_of(three, "alice", HERE) == 0, "one more attempt"
    await eventually(lambda: count_of(one, "alice") == 6)
    assert wait_of(one, "alice", HERE) == 4


async def test_a_process_that_is_started_knows_what_has_failed(
    start: Start, clock: ManualClock, any_etcd: MemoryEtcd | EtcdClient
) -> None:
    one = start("one")
    fail(one, "alice", times=SETTINGS.free)
    await written(any_etcd, 2)
    clock.skip(1)
    two = start("two")
    await eventually(lambda: count_of(two, "alice") == SETTINGS.free)
    assert wait_of(two, "alice", HERE) == 1, "a second of two has passed"


async def test_who_gets_in_somewhere_is_forgiven_everywhere(
    start: Start, clock: ManualClock, any_etcd: MemoryEtcd | EtcdClient
) -> None:
    one, two = start("one"), start("two")
    fail(one, "alice", times=SETTINGS.free)
    await eventually(lambda: count_of(two, "alice") == SETTINGS.free)
    clock.skip(2)
    two.attempt("alice", HERE).succeed()
    await eventually(lambda: count_of(one, "alice") == 0)
    three = start("three")
    fail(one, "bob", times=2)
    await eventually(lambda: count_of(three, "bob") == 2)
    assert count_of(three, "alice") == 0


async def test_one_password_tried_on_every_account_is_slowed_over_all_processes(start: Start) -> None:
    one, two = start("one"), start("two")
    for number in range(SETTINGS.source_burst):
        fail(one if number % 2 else two, f"user{number}")
    for each in (one, two):
        await eventually(partial(is_full, each))
        assert wait_of(each, "somebody", HERE) > 0
        assert wait_of(each, "somebody", THERE) == 0


async def test_slips_and_logins_leave_nothing_in_the_store(start: Start, any_etcd: MemoryEtcd | EtcdClient) -> None:
    one, two = start("one"), start("two")
    for number in range(50):
        fail(one, f"user{number}", f"192.0.2.{number}")
        one.attempt("bob", HERE).succeed()
    fail(one, "alice", times=2)
    await eventually(lambda: count_of(two, "alice") == 2)
    keys = [kv.key for kv in (await any_etcd.range(PREFIX)).kvs]
    assert len(keys) == 2, "alice's, and that of where she came from"


async def test_without_etcd_each_counts_for_itself_and_tells_the_rest_later(
    memory_etcd: MemoryEtcd, clock: ManualClock
) -> None:
    refused = asyncio.Event()

    def hook(call: str, phase: str) -> None:
        if call == "txn" and phase == "before":
            refused.set()
            raise EtcdUnavailable("away")

    one, two = Throttle(clock), Throttle(clock)
    memory_etcd.hook = hook
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(FailureNotes(each, memory_etcd, clock, name).run())
            for each, name in ((one, "1"), (two, "2"))
        ]
        fail(one, "alice", times=SETTINGS.free)
        await refused.wait()
        assert wait_of(one, "alice", HERE) == 2
        assert count_of(two, "alice") == 0
        memory_etcd.hook = lambda call, phase: None
        await eventually(lambda: count_of(two, "alice") == SETTINGS.free)
        for task in tasks:
            task.cancel()


def count_of(throttle: Throttle, account: str) -> int:
    """Return how many failures from here are counted."""
    failures = throttle._accounts.find(mark_of(ACCOUNT, f"{account}\0source\0{HERE}"))
    return failures.count if failures else 0


def has_failed(throttle: Throttle, account: str, times: int) -> bool:
    return count_of(throttle, account) == times


def is_full(throttle: Throttle) -> bool:
    """Return whether all failures that are free for a source are counted."""
    bucket = throttle._sources.find(mark_of(SOURCE, HERE))
    return bucket is not None and bucket.used >= SETTINGS.source_burst


async def written(etcd: MemoryEtcd | EtcdClient, keys: int) -> None:
    """Wait until so many keys are there."""
    async with asyncio.timeout(60):
        while len((await etcd.range(PREFIX)).kvs) < keys:
            await asyncio.sleep(0.01)
