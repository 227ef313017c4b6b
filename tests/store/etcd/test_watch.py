"""The watch against a real etcd that restarts, freezes, compacts, and connections that are cut."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from tests.fixtures.etcd import EtcdServer, eventually
from tests.fixtures.tcp_proxy import TcpProxy
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import Compacted, EtcdError
from vcstack.store.etcd.ops import Delete, Put
from vcstack.store.etcd.records import Event, EventType, WatchBatch
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.etcd.watch import Watch

pytestmark = pytest.mark.daemons

P = b"/vcstack/test/"

MakeProxy = Callable[[int], Awaitable[TcpProxy]]


async def next_batch(watch: Watch, seconds: float = 60) -> WatchBatch:
    async with asyncio.timeout(seconds):
        return await anext(watch)


async def events_until(watch: Watch, revision: int, seconds: float = 60) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(seconds):
        async for batch in watch:
            events += batch.events
            if batch.revision >= revision:
                return events
    raise AssertionError("the watch ended")


async def put_until_it_works(client: EtcdClient, key: bytes) -> int:
    while True:
        try:
            return (await client.put(key, b"")).revision
        except EtcdError:
            await asyncio.sleep(0.05)


class TestDelivery:
    async def test_puts_and_deletes_under_the_prefix_arrive_in_order(self, etcd_client: EtcdClient) -> None:
        start = await etcd_client.current_revision() + 1
        async with etcd_client.watch(P, start, prev_kv=True) as watch:
            await etcd_client.put(P + b"a", b"1")
            await etcd_client.put(b"/vcstack/other", b"")
            await etcd_client.put(P + b"a", b"2")
            last = await etcd_client.delete(P + b"a")
            first, second, third = await events_until(watch, last.revision)
        assert (first.type, first.kv.value, first.prev_kv) == (EventType.PUT, b"1", None)
        assert second.prev_kv is not None
        assert (second.kv.value, second.prev_kv.value) == (b"2", b"1")
        assert third.prev_kv is not None
        assert (third.type, third.kv.key, third.prev_kv.value) == (EventType.DELETE, P + b"a", b"2")
        assert third.kv.mod_revision == last.revision

    async def test_the_past_is_delivered_from_the_start_revision_on(self, etcd_client: EtcdClient) -> None:
        revisions = [(await etcd_client.put(P + b"%d" % n, b"")).revision for n in range(5)]
        async with etcd_client.watch(P, revisions[2]) as watch:
            events = await events_until(watch, revisions[-1])
        assert [event.kv.mod_revision for event in events] == revisions[2:]

    async def test_a_transaction_arrives_in_one_batch_though_it_is_larger_than_a_message(
        self, etcd_client: EtcdClient
    ) -> None:
        """Its previous values make the answer 4 MB, and etcd cuts its messages at 2 MB."""
        keys = [P + b"%d" % n for n in range(4)]
        for key in keys:
            last = await etcd_client.put(key, b"x" * 1_000_000)
        async with etcd_client.watch(P, last.revision + 1, prev_kv=True) as watch:
            await etcd_client.txn([], [Delete(key) for key in keys])
            await etcd_client.put(P + b"after", b"")
            batch = await next_batch(watch)
            assert {event.kv.key for event in batch.events} >= set(keys)
            rest = [event.kv.key for event in batch.events if event.kv.key not in keys]
            if not rest:
                rest = [event.kv.key for event in (await next_batch(watch)).events]
            assert rest == [P + b"after"]

    async def test_a_history_larger_than_a_message_arrives_in_several_batches(self, etcd_client: EtcdClient) -> None:
        start = await etcd_client.current_revision() + 1
        for n in range(12):
            last = await etcd_client.put(P + b"%d" % n, b"x" * 900_000)
        async with etcd_client.watch(P, start) as watch:
            first = await next_batch(watch)
            assert first.revision < last.revision
            events = [*first.events, *await events_until(watch, last.revision)]
        assert [event.kv.mod_revision for event in events] == list(range(start, last.revision + 1))

    async def test_a_cancelled_wait_loses_nothing(self, etcd_client: EtcdClient) -> None:
        start = await etcd_client.current_revision() + 1
        async with etcd_client.watch(P, start) as watch:
            for n in range(5):
                with pytest.raises(TimeoutError):
                    await next_batch(watch, 0.05)
                written = await etcd_client.put(P + b"%d" % n, b"")
                batch = await next_batch(watch)
                assert [event.kv.mod_revision for event in batch.events] == [written.revision]

    async def test_a_closed_watch_ends(self, etcd_client: EtcdClient) -> None:
        watch = etcd_client.watch(P, await etcd_client.current_revision() + 1)
        waiting = asyncio.create_task(anext(watch, None))
        await asyncio.sleep(0.1)
        await watch.aclose()
        assert await waiting is None
        assert [batch async for batch in watch] == []

    @pytest.mark.parametrize("steps", range(12))
    async def test_a_watch_closed_while_it_is_being_opened_ends(self, etcd_client: EtcdClient, steps: int) -> None:
        watch = etcd_client.watch(P, await etcd_client.current_revision() + 1)
        waiting = asyncio.create_task(anext(watch, None))
        for _ in range(steps):
            await asyncio.sleep(0)
        await watch.aclose()
        async with asyncio.timeout(60):
            assert await waiting is None

    async def test_a_quiet_watch_moves_on_with_etcds_periodic_progress(self) -> None:
        server = EtcdServer(extra=("--experimental-watch-progress-notify-interval", "200ms"))
        try:
            await asyncio.to_thread(server.start)
            async with EtcdClient(server.settings) as client, client.watch(P, 1) as watch:
                elsewhere = await client.put(b"/vcstack/other", b"")
                assert await next_batch(watch) == ((), elsewhere.revision)
        finally:
            server.discard()


class TestCompaction:
    async def test_a_start_before_the_compaction_is_refused_with_the_revision(self, etcd_client: EtcdClient) -> None:
        for n in range(5):
            last = await etcd_client.put(P + b"%d" % n, b"")
        await etcd_client.compact(last.revision)
        async with etcd_client.watch(P, last.revision - 2) as watch:
            with pytest.raises(Compacted) as caught:
                await next_batch(watch)
        assert caught.value.compact_revision == last.revision

    async def test_compaction_does_not_disturb_a_running_watch(self, etcd_client: EtcdClient) -> None:
        start = await etcd_client.current_revision() + 1
        async with etcd_client.watch(P, start) as watch:
            for n in range(10):
                last = await etcd_client.put(P, b"%d" % n)
                assert [e.kv.mod_revision for e in (await next_batch(watch)).events] == [last.revision]
                await etcd_client.compact(last.revision)

    async def test_a_deletion_at_the_compacted_revision_is_not_lost_in_silence(self, etcd_client: EtcdClient) -> None:
        """etcd 3.4 lets a watch start at the compacted revision, without the deletions made there."""
        await etcd_client.put(P + b"a", b"")
        deleted = await etcd_client.delete(P + b"a")
        later = await etcd_client.put(P + b"b", b"")
        await etcd_client.compact(deleted.revision)
        async with etcd_client.watch(P, deleted.revision) as watch:
            with pytest.raises(Compacted):
                await events_until(watch, later.revision)
        async with etcd_client.watch(P, later.revision) as watch:
            assert [e.kv.key for e in await events_until(watch, later.revision)] == [P + b"b"]

    async def test_a_watcher_that_was_away_during_compaction_is_told(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
    ) -> None:
        proxy = await proxy_of(etcd_server.port)
        start = await etcd_client.current_revision() + 1
        settings = EtcdSettings(endpoints=(proxy.endpoint,))
        async with EtcdClient(settings) as client, client.watch(P, start) as watch:
            await etcd_client.put(P + b"a", b"")
            await next_batch(watch)
            proxy.refuse()
            for n in range(5):
                last = await etcd_client.put(P + b"a", b"%d" % n)
            await etcd_client.compact(last.revision)
            proxy.mend()
            with pytest.raises(Compacted):
                await next_batch(watch)


class TestFaults:
    @pytest.mark.parametrize("end", [EtcdServer.stop, EtcdServer.kill])
    async def test_the_watch_lives_through_a_restart(
        self, own_etcd: EtcdServer, end: Callable[[EtcdServer], None]
    ) -> None:
        async with EtcdClient(own_etcd.settings) as client, client.watch(P, 1) as watch:
            before = await put_until_it_works(client, P + b"before")
            assert [e.kv.mod_revision for e in (await next_batch(watch)).events] == [before]
            waiting = asyncio.create_task(next_batch(watch))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(end, own_etcd)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(own_etcd.start)
            after = await put_until_it_works(client, P + b"after")
            assert [e.kv.mod_revision for e in (await waiting).events] == [after]

    async def test_a_frozen_etcd_is_noticed_in_seconds_and_left(
        self, own_etcd: EtcdServer, proxy_of: MakeProxy
    ) -> None:
        """A muted proxy stands for the frozen member, the server itself for another one."""
        frozen = await proxy_of(own_etcd.port)
        settings = EtcdSettings(
            endpoints=(frozen.endpoint, own_etcd.endpoint), keepalive_seconds=1, ping_timeout_seconds=1
        )
        async with (
            EtcdClient(own_etcd.settings) as writer,
            EtcdClient(settings) as client,
            client.watch(P, 1) as watch,
        ):
            await writer.put(P + b"a", b"")
            await next_batch(watch)
            frozen.blackhole()
            written = await writer.put(P + b"b", b"")
            batch = await next_batch(watch, 30)  # gRPC's own ping alone would take a minute
            assert [e.kv.mod_revision for e in batch.events] == [written.revision]

    async def test_a_freeze_longer_than_the_keepalive_loses_nothing(self, own_etcd: EtcdServer) -> None:
        settings = EtcdSettings(
            endpoints=(own_etcd.endpoint,), keepalive_seconds=1, ping_timeout_seconds=1, request_timeout_seconds=1
        )
        async with (
            EtcdClient(own_etcd.settings) as writer,
            EtcdClient(settings) as client,
            client.watch(P, 1) as watch,
        ):
            first = await writer.put(P + b"a", b"")
            assert [e.kv.mod_revision for e in (await next_batch(watch)).events] == [first.revision]
            reading = asyncio.create_task(next_batch(watch))
            await asyncio.sleep(0)
            own_etcd.freeze()
            await asyncio.sleep(4)
            own_etcd.thaw()
            second = await writer.put(P + b"b", b"")
            assert [e.kv.mod_revision for e in (await reading).events] == [second.revision]

    async def test_a_store_that_was_set_back_is_not_waited_for_in_silence(self, own_etcd: EtcdServer) -> None:
        async with EtcdClient(own_etcd.settings) as client, client.watch(P, 1) as watch:
            for n in range(5):
                last = await client.put(P + b"%d" % n, b"")
            await events_until(watch, last.revision)
            waiting = asyncio.create_task(next_batch(watch))
            await asyncio.to_thread(own_etcd.lose_everything)
            with pytest.raises(Compacted, match="was seen before"):
                await waiting

    async def test_every_event_once_while_connections_are_cut_and_keys_churn(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
    ) -> None:
        proxy = await proxy_of(etcd_server.port)
        start = await etcd_client.current_revision() + 1
        batches: list[WatchBatch] = []

        async def churn(worker: int) -> None:
            for n in itertools.count():
                if n >= 300 and proxy.accepted > 5:
                    return
                both = [Put(P + b"%d/%d" % (worker, n % 7), b"x" * 500), Put(P + b"twin/%d" % worker, b"")]
                await etcd_client.txn([], both)
                await etcd_client.delete(P + b"%d/%d" % (worker, (n + 3) % 7))

        async def cut() -> None:
            while True:
                await asyncio.sleep(0.07)
                proxy.cut()

        async def collect(watch: Watch) -> None:
            async for batch in watch:
                batches.append(batch)

        settings = EtcdSettings(endpoints=(proxy.endpoint,))
        async with EtcdClient(settings) as client, client.watch(P, start) as watch:
            cutting, collecting = asyncio.create_task(cut()), asyncio.create_task(collect(watch))
            async with asyncio.TaskGroup() as group:
                for worker in range(4):
                    group.create_task(churn(worker))
            cutting.cancel()
            last = await etcd_client.put(P + b"end", b"")
            await eventually(lambda: watch.revision >= last.revision)
            collecting.cancel()
        async with etcd_client.watch(P, start) as quiet:
            expected = await events_until(quiet, last.revision)
        assert len(expected) > 3000
        assert [event for batch in batches for event in batch.events] == expected
        for earlier, later in itertools.pairwise(batches):
            assert earlier.revision < later.events[0].kv.mod_revision, "a revision was torn apart"
