"""Fencing, lost answers, an etcd that is away, a cache that is built anew, garbage in the store."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.etcd import EtcdServer
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    NETWORK,
    PROJECT,
    TASK,
    create,
    make_network,
    make_project,
    wire,
)
from vcstack.specs.errors import AlreadyExists, Expired, FencedOut, NotFound, Unavailable
from vcstack.store.actor import Actor
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.election import Election, Fence
from vcstack.store.etcd.errors import EtcdUnavailable, OutcomeUnknown
from vcstack.store.store import Store

SEAT = b"/vcstack/.leases/elections/networks/leader"
REBOOT = {"type": "Reboot", "target": {"kind": "Instance", "name": "web-1"}}


def on_txn(etcd: MemoryEtcd, phase: str, *errors: BaseException | None) -> None:
    """Raise these from the next transactions, one each; None lets one through."""
    left = list(errors)

    def hook(call: str, when: str) -> None:
        if call == "txn" and when == phase and left and (error := left.pop(0)) is not None:
            raise error

    etcd.hook = hook


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_project(memory_store)
    await make_network(memory_store)
    return memory_store


# --- fencing


async def test_a_leader_writes_and_a_former_leader_is_refused(memory_etcd: MemoryEtcd, store: Store) -> None:
    first = Fence(SEAT, (await memory_etcd.put(SEAT, b"a")).revision)
    old = Actor("system:controller:networks", "networks", first)
    await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 1}, actor=old)
    await memory_etcd.delete(SEAT)
    second = old.fence
    for successor in (b"", b"b"):
        if successor:
            second = Fence(SEAT, (await memory_etcd.put(SEAT, successor)).revision)
        with pytest.raises(FencedOut):
            await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 2}, actor=old)
        with pytest.raises(FencedOut):
            await store.create(NETWORK, wire("late"), actor=old)
        with pytest.raises(FencedOut):
            await store.delete(NETWORK, "demo", "web", actor=old)
    new = Actor("system:controller:networks", "networks", second)
    assert (await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 3}, actor=new)).wire["status"][
        "mtuBytes"
    ] == 3
    assert (await store.get(NETWORK, "demo", "web")).wire["status"]["mtuBytes"] == 3


async def test_a_leader_whose_view_is_old_is_not_taken_for_a_former_one(memory_etcd: MemoryEtcd, store: Store) -> None:
    leader = Actor("system:c", "c", Fence(SEAT, (await memory_etcd.put(SEAT, b"a")).revision))
    async with Store(memory_etcd) as other:
        for i in range(10):
            await other.patch_status(NETWORK, "demo", "web", {"mtuBytes": i}, actor=CONTROLLER)
            await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 100 + i}, actor=leader)


@pytest.mark.daemons
async def test_a_real_election_fences_its_former_leader(etcd_client: EtcdClient) -> None:
    async with Store(etcd_client) as store, Election(etcd_client, "networks", "m1") as election:
        await make_project(store)
        term = await election.campaign()
        actor = Actor("system:controller:networks", "networks", term.fence)
        assert await store.create(NETWORK, wire("web"), actor=actor)
        await election.resign()
        with pytest.raises(FencedOut):
            await store.create(NETWORK, wire("late"), actor=actor)


# --- lost answers


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_create_whose_answer_was_lost_happens_once(memory_etcd: MemoryEtcd, store: Store, phase: str) -> None:
    on_txn(memory_etcd, phase, OutcomeUnknown("cut"))
    made = await create(store, NETWORK, wire("lan"))
    found = await store.get(NETWORK, "demo", "lan")
    assert (found.json, found.revision) == (made.json, made.revision)
    assert len((await store.list(NETWORK)).items) == 2


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_an_update_whose_answer_was_lost_happens_once(memory_etcd: MemoryEtcd, store: Store, phase: str) -> None:
    version = str((await store.get(NETWORK, "demo", "web")).revision)
    on_txn(memory_etcd, phase, OutcomeUnknown("cut"))
    patch = {"metadata": {"resourceVersion": version}, "spec": {"mtuBytes": 1400}}
    after = await store.merge_patch(NETWORK, "demo", "web", patch, actor=ADMIN)
    assert after.wire["metadata"]["generation"] == 2
    assert (await store.get(NETWORK, "demo", "web")).json == after.json


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_deletion_whose_answer_was_lost_happened(memory_etcd: MemoryEtcd, store: Store, phase: str) -> None:
    await create(store, TASK, wire("t1", REBOOT))
    on_txn(memory_etcd, phase, OutcomeUnknown("cut"))
    assert await store.delete(TASK, "demo", "t1", actor=ADMIN) is None
    with pytest.raises(NotFound):
        await store.get(TASK, "demo", "t1")


async def test_a_lost_create_is_recognized_below_later_writes(memory_etcd: MemoryEtcd, store: Store) -> None:
    async with Store(memory_etcd) as other:
        patched = asyncio.Event()

        async def interfere() -> None:
            while (await other.list(NETWORK)).items[0].find(b'"lan"') < 0:
                await asyncio.sleep(0)
            for i in range(3):
                await other.patch_status(NETWORK, "demo", "lan", {"mtuBytes": i}, actor=CONTROLLER)
            patched.set()

        original = memory_etcd.txn
        first = True

        async def slow(*args: object) -> object:
            nonlocal first
            result = await original(*args)  # type: ignore[arg-type]
            if first:
                first = False
                await patched.wait()
                raise OutcomeUnknown("cut")
            return result

        cut = _Delegate(memory_etcd, txn=slow)
        async with Store(cut) as third:  # type: ignore[arg-type]
            task = asyncio.create_task(interfere())
            made = await create(third, NETWORK, wire("lan"))
            await task
            assert "mtuBytes" not in made.wire["status"]
            now = await third.get(NETWORK, "demo", "lan")
            assert now.wire["status"]["mtuBytes"] == 2
            assert now.wire["metadata"]["uid"] == made.wire["metadata"]["uid"]
            assert made.revision == now.revision - 3


class _Delegate:
    """The etcd with some calls in other ways."""

    def __init__(self, target: MemoryEtcd, **calls: Callable[..., object]) -> None:
        self._target = target
        self._calls = calls

    def __getattr__(self, name: str) -> object:
        return self._calls.get(name) or getattr(self._target, name)


async def test_somebody_elses_create_is_not_taken_for_ours(memory_etcd: MemoryEtcd, store: Store) -> None:
    await make_network(store, "lan")
    on_txn(memory_etcd, "before", OutcomeUnknown("cut"))
    with pytest.raises(AlreadyExists):
        await create(store, NETWORK, wire("lan"))


async def test_when_etcd_stays_away_the_outcome_is_said_to_be_unknown(memory_etcd: MemoryEtcd, store: Store) -> None:
    on_txn(memory_etcd, "before", *[OutcomeUnknown("cut")] * 10)
    with pytest.raises(Unavailable) as error:
        await create(store, NETWORK, wire("lan"))
    assert "not known" in error.value.message


async def test_when_nothing_was_sent_it_is_said_that_nothing_was_written(memory_etcd: MemoryEtcd, store: Store) -> None:
    on_txn(memory_etcd, "before", EtcdUnavailable("cut"))
    with pytest.raises(Unavailable) as error:
        await create(store, NETWORK, wire("lan"))
    assert "nothing was written" in error.value.message


# --- the cache


async def test_after_compaction_under_a_stopped_watch_the_cache_is_built_anew(
    memory_etcd: MemoryEtcd, store: Store
) -> None:
    stream = await store.watch(NETWORK, since=store.cache.revision)
    resume = store.cache.revision
    watch = next(iter(memory_etcd.watches))
    async with Store(memory_etcd) as other:
        watch.revision = 1
        await make_network(other, "lan")
        await memory_etcd.compact(memory_etcd.revision)
        async with asyncio.timeout(60):
            assert [item async for item in stream] == []
        assert len((await store.list(NETWORK)).items) == 2
        with pytest.raises(Expired):
            await store.watch(NETWORK, since=resume)
        assert await create(store, NETWORK, wire("after"))


async def test_a_store_set_back_right_after_a_write_is_noticed_by_the_next_read(memory_etcd: MemoryEtcd) -> None:
    restored = MemoryEtcd()
    current = [memory_etcd]

    class Swapped:
        def __getattr__(self, name: str) -> object:
            return getattr(current[0], name)

    async with Store(Swapped()) as store:  # type: ignore[arg-type]
        for i in range(5):
            await make_project(store, f"p{i}")
        current[0] = restored
        with pytest.raises(Unavailable):
            await store.list(PROJECT)
        async with asyncio.timeout(60):
            while store.cache.revision > 1:
                await asyncio.sleep(0)
        assert (await store.list(PROJECT)).items == []
        assert await make_project(store)


async def test_garbage_in_the_store_stops_nobody(memory_etcd: MemoryEtcd, store: Store) -> None:
    for key in (b"/vcstack/networks/demo/bad", b"/vcstack/.claims/macs/bad", b"/vcstack/unknown/a/b", b"/vcstack/\xff"):
        await memory_etcd.put(key, b"{not json")
    assert len((await store.list(NETWORK)).items) == 1
    async with Store(memory_etcd) as fresh:
        assert len((await fresh.list(NETWORK)).items) == 1
        assert await make_network(fresh, "lan")


async def test_many_changes_at_once_let_others_run(memory_etcd: MemoryEtcd, store: Store) -> None:
    value = memory_etcd.snapshot()[b"/vcstack/networks/demo/web"]
    for i in range(600):
        await memory_etcd.put(b"/vcstack/networks/demo/n%d" % i, value)
    assert len((await store.list(NETWORK)).items) == 601


@pytest.mark.daemons
async def test_the_store_lives_through_an_etcd_restart(own_etcd: EtcdServer) -> None:
    async with EtcdClient(own_etcd.settings) as client, Store(client) as store:
        await make_project(store)
        stream = await store.watch(NETWORK, since=store.cache.revision)
        own_etcd.restart()
        made = None
        while made is None:
            try:
                made = await make_network(store)
            except Unavailable:
                await asyncio.sleep(0.1)
            except AlreadyExists:
                made = await store.get(NETWORK, "demo", "web")
        async with asyncio.timeout(60):
            item = await anext(stream)
        assert item.json == made.json
        assert (await store.get(NETWORK, "demo", "web")).json == made.json


@pytest.mark.daemons
async def test_a_store_set_back_to_nothing_is_noticed(own_etcd: EtcdServer) -> None:
    async with EtcdClient(own_etcd.settings) as client, Store(client) as store:
        for i in range(5):
            await make_project(store, f"p{i}")
        own_etcd.lose_everything()
        async with asyncio.timeout(60):
            while True:
                try:
                    if not (await store.list(PROJECT)).items:
                        break
                except Unavailable:
                    await asyncio.sleep(0.1)
        assert await make_project(store)


async def test_a_second_store_begins_with_what_the_first_left(memory_etcd: MemoryEtcd, store: Store) -> None:
    await store.close()
    async with Store(memory_etcd) as second:
        assert len((await second.list(NETWORK)).items) == 1
        assert orjson.loads((await second.list(PROJECT)).items[0])["metadata"]["name"] == "demo"
    with pytest.raises(Unavailable):
        await store.cache.wait_for(10**9)


@pytest.mark.daemons
async def test_somebodys_keys_elsewhere_in_etcd_keep_nobody_from_reading(own_etcd: EtcdServer) -> None:
    async with EtcdClient(own_etcd.settings) as client, Store(client) as store:
        await make_project(store, "p0")
        for i in range(3):
            await client.put(b"/elsewhere", str(i).encode())
            assert len((await store.list(PROJECT)).items) == 1
        assert await make_project(store, "p1")
