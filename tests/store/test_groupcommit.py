"""Writes that come together share a request and a revision: each keeps its outcome, and no watcher misses one."""

import asyncio
from collections.abc import Sequence

import grpc
import orjson
import pytest

from tests.fakes.master_keys import open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.etcd import EtcdServer
from tests.store.objects import ADMIN, NETWORK, make_network, make_project
from vcstack.specs.errors import AlreadyExists, Unavailable
from vcstack.store.cache import CacheSettings, WatchCache
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import (
    EtcdRefused,
    EtcdUnavailable,
    LeaseNotFound,
    NoAnswer,
    OutcomeUnknown,
    RequestTooLarge,
)
from vcstack.store.etcd.ops import Compare, Delete, Get, Op, Put, Txn
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.groupcommit import MAX_MEMBERS, GroupCommit, is_sociable
from vcstack.store.records import Stored
from vcstack.store.store import Store, StoreSettings

COUNT = 40


async def make_together(store: Store, *names: str) -> list[Stored | BaseException]:
    return await asyncio.gather(*(make_network(store, name) for name in names), return_exceptions=True)


def names_of(count: int = COUNT) -> list[str]:
    return [f"n{i:02}" for i in range(count)]


def revisions_of(made: Sequence[Stored | BaseException]) -> list[int]:
    return [each.revision for each in made if isinstance(each, Stored)]


def on_group(etcd: MemoryEtcd, phase: str, error: BaseException) -> None:
    """Raise this from the next group, before or after it is done."""
    left = [error]

    def hook(call: str, when: str) -> None:
        if call == "txn_each" and when == phase and left:
            raise left.pop()

    etcd.hook = hook


async def test_writes_that_come_together_share_revisions(any_store: Store) -> None:
    await make_project(any_store)
    made = revisions_of(await make_together(any_store, *names_of()))
    assert len(made) == COUNT
    assert len(set(made)) < COUNT
    page = await any_store.list(NETWORK)
    listed = {w["metadata"]["name"]: int(w["metadata"]["resourceVersion"]) for w in map(orjson.loads, page.items)}
    assert listed == dict(zip(names_of(), made, strict=True))
    assert page.revision == any_store.cache.revision


async def test_of_those_who_race_for_one_name_one_wins_and_nobody_else_suffers(any_store: Store) -> None:
    await make_project(any_store)
    made = await make_together(any_store, *["same"] * 10, *names_of(10))
    assert sum(isinstance(each, AlreadyExists) for each in made) == 9
    assert len(revisions_of(made)) == 11


async def test_changes_of_one_object_follow_each_other(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store, "web")

    async def label(key: str) -> Stored:
        patch = {"metadata": {"labels": {key: "x"}}}
        return await any_store.merge_patch(NETWORK, "demo", "web", patch, actor=ADMIN)

    made = await asyncio.gather(*(label(f"l{i}") for i in range(20)))
    assert len({each.revision for each in made}) == 20
    assert len((await any_store.get(NETWORK, "demo", "web")).wire["metadata"]["labels"]) == 20


async def test_another_store_sees_all_of_them(any_etcd: MemoryEtcd, any_store: Store) -> None:
    await make_project(any_store)
    async with Store(any_etcd) as other:
        stream = await other.watch(NETWORK, since=other.cache.revision)
        await make_together(any_store, *names_of())
        async with asyncio.timeout(60):
            seen = [orjson.loads((await anext(stream)).json)["metadata"]["name"] for _ in range(COUNT)]
        assert sorted(seen) == names_of()


async def test_who_was_cut_off_within_a_revision_is_told_of_the_rest(any_store: Store) -> None:
    await make_project(any_store)
    stream = await any_store.watch(NETWORK, since=any_store.cache.revision)
    await make_together(any_store, *names_of())
    seen = set[str]()
    for cut in range(COUNT):
        async with asyncio.timeout(60):
            item = await anext(stream)
        seen.add(orjson.loads(item.json)["metadata"]["name"])
        again = await any_store.watch(NETWORK, since=item.revision)
        told = {orjson.loads(each.json)["metadata"]["name"] for each in await again.read(0, most=COUNT)}
        assert seen | told == set(names_of()), f"cut off after event {cut}"
        await again.aclose()


async def test_who_was_cut_off_within_a_revision_is_told_of_the_rest_by_a_store_that_was_just_started(
    any_etcd: MemoryEtcd, any_store: Store
) -> None:
    await make_project(any_store)
    made = revisions_of(await make_together(any_store, *names_of(20)))
    last = {name for name, revision in zip(names_of(20), made, strict=True) if revision == max(made)}
    assert len(last) > 1
    async with Store(any_etcd) as other:
        again = await other.watch(NETWORK, since=max(made))
        told = {orjson.loads(each.json)["metadata"]["name"] for each in await again.read(0, most=COUNT)}
    assert told == last


async def test_who_asks_for_more_than_the_ring_has_kept_of_a_revision_has_to_list_again(
    memory_etcd: MemoryEtcd,
) -> None:
    ring = 8
    async with Store(memory_etcd, settings=StoreSettings(cache=CacheSettings(ring=ring))) as store:
        await make_project(store)
        made = revisions_of(await make_together(store, *names_of(20)))
        missed = max(made)
        assert made.count(missed) > ring
        with pytest.raises(Exception, match="too old to watch from"):
            await store.watch(NETWORK, since=missed)


async def test_a_group_whose_answer_is_lost_is_written_once(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_project(memory_store)
    for phase in ("before", "after"):
        on_group(memory_etcd, phase, OutcomeUnknown("cut"))
        made = await make_together(memory_store, *(f"{phase}-{name}" for name in names_of()))
        assert len(revisions_of(made)) == COUNT, made
    assert len((await memory_store.list(NETWORK)).items) == 2 * COUNT


@pytest.mark.parametrize(
    "error",
    [RequestTooLarge("too large"), EtcdRefused("too many operations", grpc.StatusCode.INVALID_ARGUMENT)],
)
async def test_a_group_that_is_refused_is_sent_one_by_one(
    memory_etcd: MemoryEtcd, memory_store: Store, error: Exception
) -> None:
    await make_project(memory_store)
    on_group(memory_etcd, "before", error)
    assert len(revisions_of(await make_together(memory_store, *names_of()))) == COUNT


async def test_a_group_that_etcd_did_not_take_is_refused_as_a_whole(
    memory_etcd: MemoryEtcd, memory_store: Store
) -> None:
    await make_project(memory_store)
    on_group(memory_etcd, "before", EtcdUnavailable("away"))
    made = await make_together(memory_store, *names_of(10))
    refused = [each for each in made if isinstance(each, Unavailable)]
    assert len(refused) == 9  # the first one was under way alone
    assert len((await memory_store.list(NETWORK)).items) == 1


@pytest.mark.daemons
async def test_who_waits_when_etcd_does_not_answer_is_refused_at_once_and_has_written_nothing(
    own_etcd: EtcdServer,
) -> None:
    """In the time of one request, for no second one is sent for those who waited, nor for the one that was sent."""
    settings = EtcdSettings(endpoints=(own_etcd.endpoint,), request_timeout_seconds=3)
    async with EtcdClient(settings) as client, open_store(client) as store:
        await make_project(store)
        own_etcd.freeze()
        made = await make_together(store, *names_of())
        own_etcd.thaw()
        assert all(isinstance(each, Unavailable) for each in made), made
        first, *waited = map(str, made)
        assert "is not known" in first
        assert {"nothing was written" in each for each in waited} == {True}, waited
    async with EtcdClient(own_etcd.settings) as client, open_store(client) as store:
        await make_network(store, "last")  # behind all that was ever sent
        names = {orjson.loads(each)["metadata"]["name"] for each in (await store.list(NETWORK)).items}
        assert names <= {"last", names_of()[0]}


@pytest.mark.parametrize("error", [EtcdUnavailable("away"), NoAnswer("silent")])
async def test_of_a_group_that_is_sent_one_by_one_no_more_are_sent_when_nobody_answers(
    memory_etcd: MemoryEtcd, memory_store: Store, error: Exception
) -> None:
    await make_project(memory_store)
    calls: list[str] = []

    def hook(call: str, phase: str) -> None:
        if phase == "before" and call.startswith("txn"):
            calls.append(call)
            if call == "txn_each":
                raise RequestTooLarge("too large")
            if "txn_each" in calls:
                raise error

    memory_etcd.hook = hook
    made = await make_together(memory_store, *names_of(10))
    assert calls == ["txn", "txn_each", "txn"]
    assert sum("nothing was written" in str(each) for each in made) == 9 - isinstance(error, NoAnswer)
    assert len(revisions_of(made)) == 1


async def test_who_gives_up_waiting_writes_nothing_and_holds_up_nobody(memory_etcd: MemoryEtcd) -> None:
    commits = GroupCommit(memory_etcd, WatchCache(memory_etcd))
    first, second, third = (asyncio.create_task(commits.txn(put(key))) for key in (b"/a", b"/b", b"/c"))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first).succeeded
    assert (await third).succeeded
    with pytest.raises(asyncio.CancelledError):
        await second
    assert list(memory_etcd.snapshot()) == [b"/a", b"/c"]


async def test_what_meets_is_sent_one_after_the_other(memory_etcd: MemoryEtcd) -> None:
    commits = GroupCommit(memory_etcd, WatchCache(memory_etcd))
    writes = put(b"/a")
    reads = Txn([Compare.absent(b"/a")], [Put(b"/b", b"")])
    results = await asyncio.gather(*(commits.txn(each) for each in (put(b"/first"), writes, reads, put(b"/last"))))
    assert [each.succeeded for each in results] == [True, True, False, True]
    assert b"/b" not in memory_etcd.snapshot()


async def test_a_group_has_no_more_members_than_etcd_takes(any_etcd: MemoryEtcd) -> None:
    commits = GroupCommit(any_etcd, WatchCache(any_etcd))
    many = [put(b"/%d" % i) for i in range(5 * MAX_MEMBERS)]
    results = await asyncio.gather(*(commits.txn(each) for each in many))
    assert all(each.succeeded for each in results)


async def test_a_lease_that_is_gone_fails_its_own_write_only(memory_etcd: MemoryEtcd) -> None:
    commits = GroupCommit(memory_etcd, WatchCache(memory_etcd))
    leased = Txn((), [Put(b"/leased", b"", lease=99)])
    results = await asyncio.gather(
        *(commits.txn(each) for each in (put(b"/a"), leased, put(b"/b"), put(b"/c"))), return_exceptions=True
    )
    assert [isinstance(each, LeaseNotFound) for each in results] == [False, True, False, False]
    assert list(memory_etcd.snapshot()) == [b"/a", b"/b", b"/c"]


@pytest.mark.parametrize("op", [Delete(b"/a"), Delete(b"/a", b"/b"), Put(b"/a", b"", lease=1), Get(b"/a")])
def test_removals_leases_and_reads_go_alone(op: Op) -> None:
    assert not is_sociable(Txn((), [op]))


def test_a_comparison_of_a_range_goes_alone() -> None:
    assert not is_sociable(Txn([Compare.range_absent(b"/a")], [Put(b"/b", b"")]))


def put(key: bytes) -> Txn:
    return Txn((), [Put(key, b"")])
