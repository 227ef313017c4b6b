"""Reads, writes, transactions and leases against a real etcd."""

import asyncio

import pytest

from tests.fixtures.etcd import EtcdServer, eventually
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import (
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    FutureRevision,
    LeaseNotFound,
    RequestTooLarge,
)
from vcstack.store.etcd.ops import Compare, Delete, Get, Put, SortBy, prefix_end
from vcstack.store.etcd.records import DeleteResult, PutResult, RangeResult
from vcstack.store.etcd.settings import EtcdSettings

pytestmark = pytest.mark.daemons

P = b"/vcstack/test/"


async def fill(client: EtcdClient, count: int) -> int:
    """Write P000, P001, ...; the revision of the last."""
    for index in range(count):
        revision = (await client.put(P + b"%03d" % index, b"value %d" % index)).revision
    return revision


class TestKeys:
    async def test_a_key_that_was_put_is_read_back_with_its_revisions(self, etcd_client: EtcdClient) -> None:
        first = await etcd_client.put(P + b"a", b"1")
        second = await etcd_client.put(P + b"a", b"2")
        found = await etcd_client.get(P + b"a")
        assert found.kv is not None
        assert (found.kv.key, found.kv.value, found.kv.version) == (P + b"a", b"2", 2)
        assert (found.kv.create_revision, found.kv.mod_revision) == (first.revision, second.revision)
        assert found.revision == second.revision

    async def test_a_key_that_does_not_exist_is_none_and_still_has_a_revision(self, etcd_client: EtcdClient) -> None:
        written = await etcd_client.put(P + b"a", b"")
        found = await etcd_client.get(P + b"b")
        assert found == (None, written.revision)

    async def test_an_old_revision_can_be_read(self, etcd_client: EtcdClient) -> None:
        old = await etcd_client.put(P + b"a", b"old")
        await etcd_client.put(P + b"a", b"new")
        found = await etcd_client.get(P + b"a", revision=old.revision)
        assert found.kv is not None
        assert found.kv.value == b"old"

    async def test_delete_tells_how_many_keys_went(self, etcd_client: EtcdClient) -> None:
        last = await fill(etcd_client, 3)
        assert await etcd_client.delete(P + b"absent") == (0, last)
        assert await etcd_client.delete(P + b"000") == (1, last + 1)
        assert await etcd_client.delete(P, range_end=prefix_end(P)) == (2, last + 2)

    async def test_values_may_be_binary_and_empty(self, etcd_client: EtcdClient) -> None:
        for value in (b"", b"\0\xff" * 100):
            await etcd_client.put(P + b"\xff\0", value)
            found = await etcd_client.get(P + b"\xff\0")
            assert found.kv is not None
            assert found.kv.value == value


class TestRange:
    async def test_a_prefix_does_not_match_its_neighbours(self, etcd_client: EtcdClient) -> None:
        for key in (b"/vcstack/a", b"/vcstack/a/", b"/vcstack/a/x", b"/vcstack/a/\xff", b"/vcstack/a0"):
            await etcd_client.put(key, b"")
        found = await etcd_client.range(b"/vcstack/a/")
        assert [kv.key for kv in found.kvs] == [b"/vcstack/a/", b"/vcstack/a/x", b"/vcstack/a/\xff"]

    async def test_limit_start_end_and_order(self, etcd_client: EtcdClient) -> None:
        await fill(etcd_client, 5)
        found = await etcd_client.range(P, limit=2)
        assert ([kv.key[-1:] for kv in found.kvs], found.more, found.total) == ([b"0", b"1"], True, 5)
        found = await etcd_client.range(P, start=P + b"002", end=P + b"004")
        assert [kv.key[-1:] for kv in found.kvs] == [b"2", b"3"]
        await etcd_client.put(P + b"001", b"again")
        found = await etcd_client.range(P, sort=SortBy.MOD_REVISION, descending=True, limit=2)
        assert [kv.key[-1:] for kv in found.kvs] == [b"1", b"4"]

    async def test_keys_only_and_count_only(self, etcd_client: EtcdClient) -> None:
        await fill(etcd_client, 3)
        found = await etcd_client.range(P, keys_only=True)
        assert [(kv.key[-1:], kv.value) for kv in found.kvs] == [(b"0", b""), (b"1", b""), (b"2", b"")]
        found = await etcd_client.range(P, count_only=True)
        assert (found.kvs, found.total) == ((), 3)

    async def test_pages_show_one_revision_though_keys_change_meanwhile(self, etcd_client: EtcdClient) -> None:
        revision = await fill(etcd_client, 10)
        seen = []
        async for page in etcd_client.pages(P, page_size=3):
            assert page.revision == revision
            seen += [kv.value for kv in page.kvs]
            await etcd_client.put(P + b"009", b"changed")
            await etcd_client.delete(P + b"008")
        assert seen == [b"value %d" % index for index in range(10)]
        assert page.last

    async def test_an_empty_listing_has_a_page_with_a_revision(self, etcd_client: EtcdClient) -> None:
        pages = [page async for page in etcd_client.pages(P)]
        assert len(pages) == 1
        assert pages[0].kvs == ()
        assert pages[0].revision == await etcd_client.current_revision()

    async def test_a_listing_larger_than_grpcs_own_limit_is_taken(self, etcd_client: EtcdClient) -> None:
        await asyncio.gather(*(etcd_client.put(P + b"%d" % index, b"x" * 1_000_000) for index in range(8)))
        assert sum(len(kv.value) for kv in (await etcd_client.range(P)).kvs) == 8_000_000

    async def test_a_listing_beyond_the_clients_limit_is_refused(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient
    ) -> None:
        await etcd_client.put(P + b"a", b"x" * 100_000)
        small = EtcdSettings(endpoints=(etcd_server.endpoint,), max_receive_bytes=10_000)
        async with EtcdClient(small) as client:
            with pytest.raises(RequestTooLarge):
                await client.range(P)


class TestRevisions:
    async def test_a_compacted_revision_is_refused(self, etcd_client: EtcdClient) -> None:
        revision = await fill(etcd_client, 3)
        await etcd_client.compact(revision)
        with pytest.raises(Compacted):
            await etcd_client.range(P, revision=revision - 1)
        assert (await etcd_client.range(P, revision=revision)).total == 3
        with pytest.raises(Compacted):
            await etcd_client.compact(revision)

    async def test_a_future_revision_is_refused(self, etcd_client: EtcdClient) -> None:
        revision = await etcd_client.current_revision()
        with pytest.raises(FutureRevision):
            await etcd_client.get(P, revision=revision + 1)

    async def test_the_current_revision_includes_every_acknowledged_write(self, etcd_client: EtcdClient) -> None:
        async def write_and_ask(index: int) -> None:
            written = await etcd_client.put(P + b"%d" % index, b"")
            assert await etcd_client.current_revision() >= written.revision

        await asyncio.gather(*(write_and_ask(index) for index in range(200)))


class TestTransactions:
    async def test_all_of_one_branch_is_done_at_one_revision(self, etcd_client: EtcdClient) -> None:
        await etcd_client.put(P + b"old", b"")
        result = await etcd_client.txn(
            [Compare.absent(P + b"a")],
            [Put(P + b"a", b"1"), Put(P + b"b", b"2"), Delete(P + b"old"), Get(P + b"a")],
        )
        assert result.succeeded
        put, _, deleted, got = result.responses
        assert put == PutResult(result.revision)
        assert deleted == DeleteResult(1, result.revision)
        assert isinstance(got, RangeResult)
        assert got.kvs[0].mod_revision == result.revision
        keys = (await etcd_client.range(P)).kvs
        assert {kv.mod_revision for kv in keys} == {result.revision}

    async def test_a_failed_comparison_takes_the_other_branch_and_writes_nothing(self, etcd_client: EtcdClient) -> None:
        before = await etcd_client.put(P + b"a", b"theirs")
        result = await etcd_client.txn(
            [Compare.mod_revision(P + b"a", "=", before.revision - 1)], [Put(P + b"a", b"")], [Get(P + b"a")]
        )
        assert not result.succeeded
        current = result.responses[0]
        assert isinstance(current, RangeResult)
        assert current.kvs[0].value == b"theirs"
        assert result.revision == before.revision

    @pytest.mark.parametrize(
        ("compare", "holds"),
        [
            (Compare.absent(P + b"a"), False),
            (Compare.absent(P + b"b"), True),
            (Compare.version(P + b"a", "=", 2), True),
            (Compare.version(P + b"a", ">", 2), False),
            (Compare.value(P + b"a", "=", b"2"), True),
            (Compare.value(P + b"a", "!=", b"2"), False),
            (Compare.value(P + b"b", "!=", b"2"), False),
            (Compare.create_revision(P + b"a", ">", 0), True),
            (Compare.create_revision(P + b"b", ">", 0), False),
            (Compare.mod_revision(P + b"b", "=", 0), True),
        ],
    )
    async def test_each_comparison(self, etcd_client: EtcdClient, compare: Compare, holds: bool) -> None:
        await etcd_client.put(P + b"a", b"1")
        await etcd_client.put(P + b"a", b"2")
        assert (await etcd_client.txn([compare], [])).succeeded is holds

    async def test_a_range_is_unchanged_until_any_key_in_it_is_written(self, etcd_client: EtcdClient) -> None:
        revision = await fill(etcd_client, 3)
        unchanged = Compare.range_unchanged(P, revision)
        await etcd_client.put(b"/vcstack/elsewhere", b"")
        assert (await etcd_client.txn([unchanged], [])).succeeded
        await etcd_client.put(P + b"new", b"")
        assert not (await etcd_client.txn([unchanged], [])).succeeded

    async def test_a_range_is_absent_until_it_has_a_key(self, etcd_client: EtcdClient) -> None:
        absent = Compare.range_absent(P)
        await etcd_client.put(b"/vcstack/test0", b"")
        assert (await etcd_client.txn([absent, Compare.range_unchanged(P, 1)], [])).succeeded
        await etcd_client.put(P + b"a", b"")
        assert not (await etcd_client.txn([absent], [])).succeeded

    async def test_of_many_that_compete_for_a_key_one_wins(self, etcd_client: EtcdClient) -> None:
        async def claim(who: int) -> bool:
            return (await etcd_client.txn([Compare.absent(P)], [Put(P, b"%d" % who)])).succeeded

        assert sum(await asyncio.gather(*(claim(who) for who in range(50)))) == 1

    async def test_what_is_too_large_is_refused_and_nothing_written(self, etcd_client: EtcdClient) -> None:
        before = await etcd_client.current_revision()
        with pytest.raises(RequestTooLarge):
            await etcd_client.put(P, b"x" * 1_700_000)
        with pytest.raises(RequestTooLarge):
            await etcd_client.put(P, b"x" * 30_000_000)
        with pytest.raises(RequestTooLarge):
            await etcd_client.txn([], [Put(P + b"%d" % index, b"") for index in range(129)])
        assert await etcd_client.current_revision() == before

    async def test_a_senseless_request_is_refused(self, etcd_client: EtcdClient) -> None:
        with pytest.raises(EtcdRefused, match="duplicate key"):
            await etcd_client.txn([], [Put(P, b"1"), Put(P, b"2")])
        with pytest.raises(EtcdRefused, match="key is not provided"):
            await etcd_client.put(b"", b"")


class TestLeases:
    async def test_keys_go_with_their_lease(self, etcd_client: EtcdClient) -> None:
        lease = await etcd_client.lease_grant(60)
        await etcd_client.put(P + b"a", b"", lease=lease.id)
        left = await etcd_client.lease_time_to_live(lease.id)
        assert (left.keys, left.granted_seconds) == ((P + b"a",), 60)
        await etcd_client.lease_revoke(lease.id)
        assert (await etcd_client.get(P + b"a")).kv is None

    async def test_a_lease_runs_out_with_its_keys(self, etcd_client: EtcdClient) -> None:
        lease = await etcd_client.lease_grant(5)
        await etcd_client.put(P + b"a", b"", lease=lease.id)
        async with asyncio.timeout(60):
            while (await etcd_client.get(P + b"a")).kv is not None:
                await asyncio.sleep(0.1)
        with pytest.raises(LeaseNotFound):
            await etcd_client.lease_time_to_live(lease.id)

    async def test_a_lease_that_is_kept_alive_has_all_its_time_again(self, etcd_client: EtcdClient) -> None:
        kept, left_alone = await etcd_client.lease_grant(600), await etcd_client.lease_grant(600)
        await asyncio.sleep(2)  # etcd tells whole seconds
        assert await etcd_client.lease_keepalive_once(kept.id) == (kept.id, 600)
        left = [(await etcd_client.lease_time_to_live(each.id)).remaining_seconds for each in (kept, left_alone)]
        assert left[0] > left[1]

    async def test_a_lease_that_is_gone_cannot_be_used_but_revoked_again(self, etcd_client: EtcdClient) -> None:
        lease = await etcd_client.lease_grant(60)
        await etcd_client.lease_revoke(lease.id)
        await etcd_client.lease_revoke(lease.id)
        with pytest.raises(LeaseNotFound):
            await etcd_client.lease_keepalive_once(lease.id)
        with pytest.raises(LeaseNotFound):
            await etcd_client.lease_time_to_live(lease.id)
        with pytest.raises(LeaseNotFound):
            await etcd_client.put(P, b"", lease=lease.id)


class TestLifetime:
    async def test_status_names_version_and_leader(self, etcd_client: EtcdClient) -> None:
        status = await etcd_client.status()
        assert status.version.startswith("3.")
        assert status.leader == status.member_id != 0
        assert status.revision == await etcd_client.current_revision()

    async def test_a_closed_client_says_so(self, etcd_server: EtcdServer) -> None:
        async with EtcdClient(etcd_server.settings) as client:
            await client.put(P, b"")
        with pytest.raises(EtcdUnavailable, match="closed"):
            await client.get(P)

    async def test_no_task_is_left_behind(self, etcd_server: EtcdServer) -> None:
        before = asyncio.all_tasks()
        async with EtcdClient(etcd_server.settings) as client:
            await asyncio.gather(*(client.current_revision() for _ in range(10)))
            async with client.watch(P, await client.current_revision() + 1) as watch:
                await client.put(P, b"")
                await anext(watch)
        await eventually(lambda: asyncio.all_tasks() == before)
