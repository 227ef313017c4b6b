"""What the store relies on, proven of the real etcd and of the fake in memory alike."""

import asyncio

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import Compacted, EtcdRefused, FutureRevision, LeaseNotFound, RequestTooLarge
from vcstack.store.etcd.ops import Compare, Delete, Get, Put, Txn, prefix_end
from vcstack.store.etcd.records import EventType, RangeResult

Etcd = MemoryEtcd | EtcdClient
A, B, C = b"/vcstack/a", b"/vcstack/b", b"/vcstack/c"


async def test_an_absent_key_has_no_value_but_a_revision(any_etcd: Etcd) -> None:
    found = await any_etcd.get(A)
    assert found.kv is None
    assert found.revision >= 1


async def test_a_put_can_be_read_back_with_its_revisions(any_etcd: Etcd) -> None:
    first = await any_etcd.put(A, b"1")
    second = await any_etcd.put(A, b"2")
    kv = (await any_etcd.get(A)).kv
    assert kv is not None
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == (b"2", first.revision, second.revision, 2)


async def test_each_write_raises_the_revision_by_one(any_etcd: Etcd) -> None:
    revisions = [(await any_etcd.put(A, b"x")).revision for _ in range(3)]
    assert revisions == [revisions[0], revisions[0] + 1, revisions[0] + 2]
    assert await any_etcd.current_revision() == revisions[-1]


async def test_a_deleted_and_recreated_key_begins_anew(any_etcd: Etcd) -> None:
    await any_etcd.put(A, b"1")
    await any_etcd.delete(A)
    put = await any_etcd.put(A, b"2")
    kv = (await any_etcd.get(A)).kv
    assert kv is not None
    assert (kv.create_revision, kv.version) == (put.revision, 1)


async def test_deleting_what_is_absent_writes_nothing(any_etcd: Etcd) -> None:
    before = await any_etcd.current_revision()
    assert (await any_etcd.delete(A)).deleted == 0
    assert await any_etcd.current_revision() == before


async def test_a_range_is_sorted_and_ends_with_its_prefix(any_etcd: Etcd) -> None:
    for key in (b"/vcstack/x/b", b"/vcstack/x/a", b"/vcstack/xy", b"/vcstack/w"):
        await any_etcd.put(key, key)
    found = await any_etcd.range(b"/vcstack/x/")
    assert [kv.key for kv in found.kvs] == [b"/vcstack/x/a", b"/vcstack/x/b"]
    assert not found.more


async def test_a_limited_range_says_that_there_is_more_and_how_much(any_etcd: Etcd) -> None:
    for key in (A, B, C):
        await any_etcd.put(key, b"")
    found = await any_etcd.range(b"/vcstack/", limit=2)
    assert [kv.key for kv in found.kvs] == [A, B]
    assert (found.more, found.total) == (True, 3)
    rest = await any_etcd.range(b"/vcstack/", start=B + b"\0", limit=2)
    assert [kv.key for kv in rest.kvs] == [C]
    assert (rest.more, rest.total) == (False, 1)


async def test_the_past_can_be_read_until_it_is_compacted(any_etcd: Etcd) -> None:
    first = await any_etcd.put(A, b"1")
    second = await any_etcd.put(A, b"2")
    await any_etcd.put(B, b"3")
    old = await any_etcd.range(b"/vcstack/", revision=first.revision)
    assert [(kv.key, kv.value) for kv in old.kvs] == [(A, b"1")]
    await any_etcd.compact(second.revision)
    with pytest.raises(Compacted):
        await any_etcd.get(A, revision=first.revision)
    assert (await any_etcd.get(A, revision=second.revision)).kv is not None


async def test_the_future_cannot_be_read(any_etcd: Etcd) -> None:
    with pytest.raises(FutureRevision):
        await any_etcd.get(A, revision=await any_etcd.current_revision() + 10)


async def test_pages_show_one_revision(any_etcd: Etcd) -> None:
    for key in (A, B, C):
        await any_etcd.put(key, b"")
    pages = []
    async for page in any_etcd.pages(b"/vcstack/", page_size=2):
        pages.append(page)
        await any_etcd.put(b"/vcstack/d", b"")
    assert [[kv.key for kv in page.kvs] for page in pages] == [[A, B], [C]]
    assert len({page.revision for page in pages}) == 1


async def test_an_empty_listing_has_a_page_with_a_revision(any_etcd: Etcd) -> None:
    pages = [page async for page in any_etcd.pages(b"/vcstack/")]
    assert [page.kvs for page in pages] == [()]
    assert pages[0].revision >= 1


async def test_a_transaction_takes_the_branch_that_its_comparisons_say(any_etcd: Etcd) -> None:
    won = await any_etcd.txn([Compare.absent(A)], [Put(A, b"1")], [Get(A)])
    lost = await any_etcd.txn([Compare.absent(A)], [Put(A, b"2")], [Get(A)])
    assert (won.succeeded, lost.succeeded) == (True, False)
    read = lost.responses[0]
    assert isinstance(read, RangeResult)
    assert read.kvs[0].value == b"1"
    assert lost.revision == won.revision


async def test_all_operations_of_a_transaction_share_its_revision(any_etcd: Etcd) -> None:
    await any_etcd.put(C, b"")
    done = await any_etcd.txn([], [Put(A, b"1"), Put(B, b"2"), Delete(C)])
    assert {kv.mod_revision for kv in (await any_etcd.range(b"/vcstack/")).kvs} == {done.revision}


async def test_putting_a_key_twice_in_one_transaction_is_refused(any_etcd: Etcd) -> None:
    with pytest.raises(EtcdRefused):
        await any_etcd.txn([], [Put(A, b"1"), Put(A, b"2")])
    assert (await any_etcd.get(A)).kv is None


async def test_too_many_operations_are_refused(any_etcd: Etcd) -> None:
    with pytest.raises(RequestTooLarge):
        await any_etcd.txn([], [Put(b"/vcstack/%d" % i, b"") for i in range(129)])


async def test_a_value_beyond_etcds_limit_is_refused(any_etcd: Etcd) -> None:
    with pytest.raises(RequestTooLarge):
        await any_etcd.put(A, bytes(2 * 1024 * 1024))


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare.mod_revision(A, "=", 0), False),
        (Compare.mod_revision(A, ">", 0), True),
        (Compare.mod_revision(B, "=", 0), True),
        (Compare.version(A, "=", 2), True),
        (Compare.version(A, "!=", 2), False),
        (Compare.create_revision(A, "<", 2**40), True),
        (Compare.value(A, "=", b"2"), True),
        (Compare.value(A, "<", b"2"), False),
        (Compare.value(B, "!=", b"2"), False),
        (Compare.range_absent(b"/vcstack/"), False),
        (Compare.range_absent(b"/vcstack/b"), True),
    ],
    ids=str,
)
async def test_comparisons_mean_what_they_say(any_etcd: Etcd, compare: Compare, holds: bool) -> None:
    await any_etcd.put(A, b"1")
    await any_etcd.put(A, b"2")
    assert (await any_etcd.txn([compare], [])).succeeded is holds


async def test_a_range_comparison_notices_insertions_and_changes(any_etcd: Etcd) -> None:
    pool = b"/vcstack/pool/"
    seen = (await any_etcd.put(pool + b"a", b"")).revision
    unchanged = Compare.range_unchanged(pool, seen)
    assert (await any_etcd.txn([unchanged], [])).succeeded
    await any_etcd.put(b"/vcstack/poolx", b"")
    assert (await any_etcd.txn([unchanged], [])).succeeded
    await any_etcd.put(pool + b"b", b"")
    assert not (await any_etcd.txn([unchanged], [])).succeeded


async def test_an_empty_range_counts_as_unchanged(any_etcd: Etcd) -> None:
    assert (await any_etcd.txn([Compare.range_unchanged(b"/vcstack/none/", 1)], [])).succeeded


async def test_a_watch_delivers_whole_transactions_in_order(any_etcd: Etcd) -> None:
    start = await any_etcd.current_revision()
    await any_etcd.txn([], [Put(A, b"1"), Put(B, b"2")])
    await any_etcd.delete(A)
    events, revisions = [], []
    async with any_etcd.watch(b"/vcstack/", start + 1) as watch, asyncio.timeout(60):
        while len(events) < 3:
            batch = await anext(watch)
            events += [(e.type, e.kv.key) for e in batch.events]
            revisions.append(batch.revision)
    assert events == [(EventType.PUT, A), (EventType.PUT, B), (EventType.DELETE, A)]
    assert revisions[-1] == start + 2


async def test_a_watch_sees_only_its_prefix(any_etcd: Etcd) -> None:
    start = await any_etcd.current_revision()
    async with any_etcd.watch(b"/vcstack/b", start + 1) as watch, asyncio.timeout(60):
        await any_etcd.put(A, b"")
        await any_etcd.put(B, b"")
        batch = await anext(watch)
        while not batch.events:
            batch = await anext(watch)
    assert [e.kv.key for e in batch.events] == [B]


async def test_a_watch_of_compacted_revisions_says_so(any_etcd: Etcd) -> None:
    first = await any_etcd.put(A, b"1")
    for _ in range(3):
        last = await any_etcd.put(A, b"x")
    await any_etcd.compact(last.revision)
    async with any_etcd.watch(b"/vcstack/", first.revision) as watch, asyncio.timeout(60):
        with pytest.raises(Compacted):
            await anext(watch)


async def test_revoking_a_lease_deletes_its_keys_at_one_revision(any_etcd: Etcd) -> None:
    lease = (await any_etcd.lease_grant(60)).id
    await any_etcd.put(A, b"", lease=lease)
    await any_etcd.put(B, b"", lease=lease)
    before = await any_etcd.current_revision()
    left = await any_etcd.lease_time_to_live(lease)
    assert set(left.keys) == {A, B}
    await any_etcd.lease_revoke(lease)
    assert (await any_etcd.range(b"/vcstack/")).kvs == ()
    assert await any_etcd.current_revision() == before + 1


async def test_a_key_put_without_its_lease_outlives_it(any_etcd: Etcd) -> None:
    lease = (await any_etcd.lease_grant(60)).id
    await any_etcd.put(A, b"1", lease=lease)
    await any_etcd.put(A, b"2")
    await any_etcd.lease_revoke(lease)
    assert (await any_etcd.get(A)).kv is not None


async def test_a_lease_that_is_gone_is_told(any_etcd: Etcd) -> None:
    with pytest.raises(LeaseNotFound):
        await any_etcd.put(A, b"", lease=123456)
    with pytest.raises(LeaseNotFound):
        await any_etcd.lease_keepalive_once(123456)
    with pytest.raises(LeaseNotFound):
        await any_etcd.lease_time_to_live(123456)
    await any_etcd.lease_revoke(123456)


async def test_renewing_a_lease_raises_no_revision(any_etcd: Etcd) -> None:
    lease = (await any_etcd.lease_grant(60)).id
    before = await any_etcd.current_revision()
    assert (await any_etcd.lease_keepalive_once(lease)).ttl_seconds >= 60
    assert (await any_etcd.lease_keepalive_once(lease, timeout_seconds=5)).ttl_seconds >= 60
    assert await any_etcd.current_revision() == before


async def test_deleting_a_range_removes_every_key_of_it(any_etcd: Etcd) -> None:
    for key in (A, B, C):
        await any_etcd.put(key, b"")
    assert (await any_etcd.delete(A, range_end=C)).deleted == 2
    assert [kv.key for kv in (await any_etcd.range(b"/vcstack/")).kvs] == [C]
    assert (await any_etcd.delete(b"/vcstack/", range_end=prefix_end(b"/vcstack/"))).deleted == 1


async def test_transactions_in_one_request_have_their_own_outcomes_and_one_revision(any_etcd: Etcd) -> None:
    await any_etcd.put(A, b"1")
    done = [
        Txn([Compare.absent(B)], [Put(B, b"2")]),
        Txn([Compare.absent(A)], [Put(A, b"3")], [Get(A)]),
        Txn([Compare.exists(A)], [Put(C, b"4"), Put(C + b"c", b"5")]),
    ]
    results = await any_etcd.txn_each(done)
    assert [each.succeeded for each in results] == [True, False, True]
    assert len({each.revision for each in results}) == 1
    found = results[1].responses[0]
    assert isinstance(found, RangeResult)
    assert [kv.value for kv in found.kvs] == [b"1"]
    now = await any_etcd.range(b"/vcstack/")
    assert [(kv.key, kv.value) for kv in now.kvs] == [(A, b"1"), (B, b"2"), (C, b"4"), (C + b"c", b"5")]
    assert {kv.mod_revision for kv in now.kvs[1:]} == {results[0].revision}


async def test_transactions_in_one_request_compare_before_any_of_them_writes(any_etcd: Etcd) -> None:
    results = await any_etcd.txn_each([Txn((), [Put(A, b"1")]), Txn([Compare.absent(A)], [Put(B, b"2")])])
    assert [each.succeeded for each in results] == [True, True]


async def test_transactions_in_one_request_that_write_one_key_are_refused_together(any_etcd: Etcd) -> None:
    with pytest.raises(EtcdRefused):
        await any_etcd.txn_each([Txn((), [Put(A, b"1")]), Txn((), [Put(A, b"2")]), Txn((), [Put(B, b"3")])])
    assert not (await any_etcd.range(b"/vcstack/")).kvs


async def test_transactions_in_one_request_that_all_fail_write_nothing(any_etcd: Etcd) -> None:
    before = await any_etcd.current_revision()
    results = await any_etcd.txn_each([Txn([Compare.exists(A)], [Put(A, b"1")]), Txn([Compare.exists(B)], [])])
    assert [each.succeeded for each in results] == [False, False]
    assert {each.revision for each in results} == {before}
    assert await any_etcd.current_revision() == before
