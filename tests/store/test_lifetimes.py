"""What vanishes by itself: events after their time, heartbeats of silent hosts."""

import asyncio

import pytest

from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import CONTROLLER, EVENT, create, make_project, wire
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.errors import EtcdUnavailable
from vcstack.store.heartbeats import Heartbeats
from vcstack.store.leases import BUCKETS, WRITES
from vcstack.store.store import Store

TIME = "2026-01-01T00:00:00Z"
HOUR = 3600
DAY = 24 * HOUR


def event(name: str, **changes: object) -> dict[str, object]:
    spec = {
        "regarding": {"kind": "Instance", "name": "web-1"},
        "type": "Normal",
        "reason": "Started",
        "message": "It runs.",
        "actor": "test",
        "firstTime": TIME,
        "lastTime": TIME,
    }
    return wire(name, {**spec, **changes})


async def test_an_event_vanishes_a_day_after_its_last_write(memory_etcd: MemoryEtcd) -> None:
    clock = ManualClock()

    async def pass_time(seconds: float) -> None:
        memory_etcd.advance(seconds)
        clock.skip(seconds)

    async with Store(memory_etcd, clock) as store:
        await make_project(store)
        await create(store, EVENT, event("e1"), actor=CONTROLLER)
        await create(store, EVENT, event("e2"), actor=CONTROLLER)
        await pass_time(20 * HOUR)
        await store.merge_patch(EVENT, "demo", "e2", {"spec": {"count": 2}}, actor=CONTROLLER)
        await pass_time(4 * HOUR - 1)
        assert await store.get(EVENT, "demo", "e1")
        await pass_time(DAY / BUCKETS + 1)
        with pytest.raises(NotFound):
            await store.get(EVENT, "demo", "e1")
        assert (await store.get(EVENT, "demo", "e2")).wire["spec"]["count"] == 2
        await pass_time(20 * HOUR)
        with pytest.raises(NotFound):
            await store.get(EVENT, "demo", "e2")


async def test_how_long_events_stay_is_set_for_the_project(memory_etcd: MemoryEtcd) -> None:
    clock = ManualClock()
    async with Store(memory_etcd, clock) as store:
        await make_project(store)
        await create(store, EVENT, event("before"), actor=CONTROLLER)
        spec = {"setting": "events.retention", "value": "2h"}
        wanted = {"metadata": {"name": "short", "project": "demo"}, "spec": spec}
        await store.create(get_kind("Setting"), wanted, actor=CONTROLLER)
        await create(store, EVENT, event("after"), actor=CONTROLLER)
        memory_etcd.advance(2 * HOUR * (1 + 1 / BUCKETS) + 1)
        assert await store.get(EVENT, "demo", "before")
        with pytest.raises(NotFound):
            await store.get(EVENT, "demo", "after")


async def test_events_of_one_time_share_a_lease(memory_etcd: MemoryEtcd) -> None:
    grants: list[str] = []
    memory_etcd.hook = lambda call, phase: grants.append(call) if (call, phase) == ("lease_grant", "before") else None
    clock = ManualClock()
    async with Store(memory_etcd, clock) as store:
        await make_project(store)
        await asyncio.gather(*(create(store, EVENT, event(f"e{i}"), actor=CONTROLLER) for i in range(20)))
        assert len(grants) == 1
        clock.skip(DAY / BUCKETS)
        await create(store, EVENT, event("later"), actor=CONTROLLER)
        assert len(grants) == 2


async def test_a_lease_has_few_keys_so_that_its_end_is_a_small_deletion(memory_etcd: MemoryEtcd) -> None:
    grants: list[str] = []
    memory_etcd.hook = lambda call, phase: grants.append(call) if (call, phase) == ("lease_grant", "before") else None
    async with Store(memory_etcd, ManualClock()) as store:
        await make_project(store)
        await asyncio.gather(*(create(store, EVENT, event(f"e{i}"), actor=CONTROLLER) for i in range(2 * WRITES + 1)))
        assert len(grants) == 3


async def test_a_lease_lost_early_is_replaced(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, ManualClock()) as store:
        await make_project(store)
        await create(store, EVENT, event("e1"), actor=CONTROLLER)
        memory_etcd.advance(2 * DAY)
        assert await create(store, EVENT, event("e2"), actor=CONTROLLER)


async def test_other_kinds_do_not_vanish(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_project(memory_store)
    memory_etcd.advance(10 * DAY)
    assert memory_etcd.snapshot()[b"/vcstack/projects/-/demo"]


# --- heartbeats


async def test_a_beating_host_stays_alive_and_costs_no_revision(memory_etcd: MemoryEtcd) -> None:
    beats = Heartbeats(memory_etcd)
    assert await beats.beat("h1") == 15
    revision = memory_etcd.revision
    for _ in range(10):
        memory_etcd.advance(10)
        await beats.beat("h1")
    assert memory_etcd.revision == revision
    assert await anext(beats.live_hosts()) == {"h1"}


async def test_any_replica_takes_any_heartbeat(memory_etcd: MemoryEtcd) -> None:
    one, two = Heartbeats(memory_etcd), Heartbeats(memory_etcd)
    await one.beat("h1")
    revision = memory_etcd.revision
    for replica in (two, one, two):
        memory_etcd.advance(10)
        await replica.beat("h1")
    assert memory_etcd.revision == revision


async def test_changes_of_liveness_are_told_once(memory_etcd: MemoryEtcd) -> None:
    beats = Heartbeats(memory_etcd)
    told = beats.live_hosts()
    assert await anext(told) == frozenset()
    await beats.beat("h1")
    assert await anext(told) == {"h1"}
    await beats.beat("h1")
    await beats.beat("h2")
    assert await anext(told) == {"h1", "h2"}
    memory_etcd.advance(10)
    await beats.beat("h2")
    memory_etcd.advance(10)
    assert await anext(told) == {"h2"}
    await beats.beat("h1")
    assert await anext(told) == {"h1", "h2"}
    await told.aclose()


async def test_liveness_survives_compaction(memory_etcd: MemoryEtcd) -> None:
    beats = Heartbeats(memory_etcd)
    await beats.beat("h1")
    told = beats.live_hosts()
    await anext(told)
    for watch in memory_etcd.watches:
        watch.revision = 1
    await beats.beat("h2")
    await memory_etcd.compact(memory_etcd.revision)
    assert await anext(told) == {"h1", "h2"}
    await told.aclose()


async def test_a_heartbeat_that_etcd_does_not_take_is_told(memory_etcd: MemoryEtcd) -> None:
    beats = Heartbeats(memory_etcd)

    def cut(call: str, phase: str) -> None:
        raise EtcdUnavailable("cut")

    memory_etcd.hook = cut
    with pytest.raises(Unavailable):
        await beats.beat("h1")
