"""Leader election: one leads, loss is noticed in time, and a frozen leader's late writes are refused."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fixtures import freezer
from tests.fixtures.etcd import EtcdServer, eventually
from tests.fixtures.tcp_proxy import TcpProxy
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.election import ELECTIONS_PREFIX, Election
from vcstack.store.etcd.lease import SharedLease
from vcstack.store.etcd.ops import Put
from vcstack.store.etcd.settings import EtcdSettings

pytestmark = pytest.mark.daemons

P = b"/vcstack/test/"
ROOT = Path(__file__).parents[3]

MakeProxy = Callable[[int], Awaitable[TcpProxy]]

PATIENCE = 60
"""For what has to come. Leases last so long that a process which stands still for seconds does not lose them."""


async def renewed(client: EtcdClient, lease_id: int) -> None:
    """Wait until etcd counts the lease's time anew."""
    left = (await client.lease_time_to_live(lease_id)).remaining_seconds
    while (now := (await client.lease_time_to_live(lease_id)).remaining_seconds) <= left:
        left = now
        await asyncio.sleep(0.1)


class TestSharedLease:
    async def test_it_is_kept_alive_and_revoked_at_the_end(self, etcd_client: EtcdClient) -> None:
        async with SharedLease(etcd_client, 10) as shared:
            held = await shared.acquire()
            await etcd_client.put(P, b"", lease=held.id)
            await renewed(etcd_client, held.id)
            assert held.alive
            assert (await etcd_client.get(P)).kv is not None
            assert await shared.acquire() is held
        assert not held.alive
        assert (await etcd_client.get(P)).kv is None

    async def test_many_who_ask_at_once_share_one(self, etcd_client: EtcdClient) -> None:
        async with SharedLease(etcd_client, 30) as shared:
            held = await asyncio.gather(*(shared.acquire() for _ in range(10)))
            assert len({each.id for each in held}) == 1

    async def test_a_revoked_lease_is_noticed_and_replaced(self, etcd_client: EtcdClient) -> None:
        async with SharedLease(etcd_client, 10) as shared:
            held = await shared.acquire()
            await etcd_client.lease_revoke(held.id)
            await asyncio.wait_for(held.lost.wait(), 7)  # by the renewal after 3 s, not because 8 s have passed
            again = await shared.acquire()
            assert again.alive
            assert again.id != held.id

    async def test_it_is_renewed_on_the_next_endpoint_when_one_hangs(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
    ) -> None:
        hanging = await proxy_of(etcd_server.port)
        settings = EtcdSettings(endpoints=(hanging.endpoint, etcd_server.endpoint))
        async with EtcdClient(settings) as client, SharedLease(client, 15) as shared:
            held = await shared.acquire()
            hanging.blackhole()
            await renewed(etcd_client, held.id)
            assert held.alive

    async def test_it_counts_as_lost_here_before_it_ends_in_etcd(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
    ) -> None:
        proxy = await proxy_of(etcd_server.port)
        settings = EtcdSettings(endpoints=(proxy.endpoint,))
        async with EtcdClient(settings) as cut_off, SharedLease(cut_off, 15) as shared:
            held = await shared.acquire()
            await etcd_client.put(P, b"", lease=held.id)
            proxy.blackhole()
            await asyncio.wait_for(held.lost.wait(), PATIENCE)
            assert (await etcd_client.get(P)).kv is not None, "etcd gave up before we did"
            assert not held.alive
            proxy.mend()


class TestElection:
    async def test_one_leads_and_the_next_follows_when_it_resigns(self, etcd_client: EtcdClient) -> None:
        async with Election(etcd_client, "e", "one") as one, Election(etcd_client, "e", "two") as two:
            first = await one.campaign()
            waiting = asyncio.create_task(two.campaign())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            assert first.held
            assert await two.leader() == "one"
            await one.resign()
            second = await asyncio.wait_for(waiting, PATIENCE)
            assert await one.leader() == "two"
            assert second.held
            assert not first.held
            assert second.fence.create_revision > first.fence.create_revision
        assert await one.leader() is None

    async def test_a_second_campaign_of_the_leader_gives_the_same_leadership(self, etcd_client: EtcdClient) -> None:
        async with Election(etcd_client, "e", "one") as election:
            assert await election.campaign() is await election.campaign()

    async def test_elections_of_one_process_share_a_lease(self, etcd_client: EtcdClient) -> None:
        async with SharedLease(etcd_client, 30) as lease:
            a = Election(etcd_client, "a", "me", lease=lease)
            b = Election(etcd_client, "b", "me", lease=lease)
            await a.campaign()
            leads_b = await b.campaign()
            await a.aclose()
            assert leads_b.held
            kvs = (await etcd_client.range(ELECTIONS_PREFIX)).kvs
            assert [(kv.key, kv.lease) for kv in kvs] == [(b.key, (await lease.acquire()).id)]
            await b.aclose()

    async def test_only_the_present_leaders_transactions_are_taken(self, etcd_client: EtcdClient) -> None:
        async with Election(etcd_client, "e", "one") as one, Election(etcd_client, "e", "two") as two:
            first = (await one.campaign()).fence
            assert (await etcd_client.txn([first.compare], [Put(P, b"1")])).succeeded
            await one.resign()
            assert not (await etcd_client.txn([first.compare], [Put(P, b"2")])).succeeded
            second = (await two.campaign()).fence
            assert not (await etcd_client.txn([first.compare], [Put(P, b"3")])).succeeded
            assert (await etcd_client.txn([second.compare], [Put(P, b"4")])).succeeded

    async def test_a_leader_whose_key_is_deleted_notices(self, etcd_client: EtcdClient) -> None:
        async with Election(etcd_client, "e", "one") as election:
            leadership = await election.campaign()
            await etcd_client.delete(election.key)
            await asyncio.wait_for(leadership.lost.wait(), PATIENCE)  # its lease is kept alive
            again = await election.campaign()
            assert again.held
            assert again.fence.create_revision > leadership.fence.create_revision

    async def test_a_leader_that_is_cut_off_stops_before_another_begins(
        self, etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
    ) -> None:
        proxy = await proxy_of(etcd_server.port)
        settings = EtcdSettings(endpoints=(proxy.endpoint,), request_timeout_seconds=1)
        async with EtcdClient(settings) as cut_off, Election(cut_off, "e", "one", 5) as one:
            first = await one.campaign()
            async with Election(etcd_client, "e", "two", 30) as two:
                waiting = asyncio.create_task(two.campaign())
                proxy.blackhole()
                await asyncio.wait_for(first.lost.wait(), PATIENCE)
                assert not waiting.done(), "two leaders at once"
                assert (await asyncio.wait_for(waiting, PATIENCE)).held
            proxy.mend()

    async def test_a_campaign_waits_for_an_etcd_that_is_away(self, own_etcd: EtcdServer) -> None:
        settings = EtcdSettings(endpoints=(own_etcd.endpoint,), request_timeout_seconds=1)
        own_etcd.kill()
        async with EtcdClient(settings) as client, Election(client, "e", "one") as election:
            waiting = asyncio.create_task(election.campaign())
            await asyncio.sleep(1)
            assert not waiting.done()
            await asyncio.to_thread(own_etcd.start)
            assert (await asyncio.wait_for(waiting, PATIENCE)).held

    async def test_leadership_lives_through_a_short_restart(self, own_etcd: EtcdServer) -> None:
        async with EtcdClient(own_etcd.settings) as client, Election(client, "e", "one", 60) as election:
            leadership = await election.campaign()
            own_etcd.kill()
            await asyncio.to_thread(own_etcd.start)
            await asyncio.sleep(0.5)
            assert leadership.held
            assert (await client.txn([leadership.fence.compare], [Put(P, b"")])).succeeded

    async def test_a_key_won_by_a_write_with_a_lost_answer_is_taken_up(
        self, etcd_server: EtcdServer, proxy_of: MakeProxy
    ) -> None:
        proxy = await proxy_of(etcd_server.port)
        settings = EtcdSettings(endpoints=(proxy.endpoint,), request_timeout_seconds=30)
        async with EtcdClient(settings) as client, SharedLease(client, 60) as lease:
            await lease.acquire()
            election = Election(client, "e", "one", lease=lease)
            proxy.replies = False
            waiting = asyncio.create_task(election.campaign())
            await eventually(lambda: election.key in proxy.swallowed)
            proxy.mend()
            leadership = await asyncio.wait_for(waiting, PATIENCE)
            assert (await client.txn([leadership.fence.compare], [Put(P, b"")])).succeeded
            await election.aclose()

    async def test_observers_see_every_change(self, etcd_client: EtcdClient) -> None:
        async with (
            Election(etcd_client, "e", "one") as one,
            Election(etcd_client, "e", "two") as two,
            contextlib.aclosing(two.observe()) as seen,
        ):
            assert await anext(seen) is None
            await one.campaign()
            assert await asyncio.wait_for(anext(seen), PATIENCE) == "one"
            await one.resign()
            assert await asyncio.wait_for(anext(seen), PATIENCE) is None
            await two.campaign()
            assert await asyncio.wait_for(anext(seen), PATIENCE) == "two"

    async def test_no_task_is_left_behind(self, etcd_client: EtcdClient) -> None:
        before = asyncio.all_tasks()
        async with Election(etcd_client, "e", "one") as election:
            await election.campaign()
        await eventually(lambda: asyncio.all_tasks() == before)


LEADER = """
import asyncio, json, sys
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.election import Election
from vcstack.store.etcd.ops import Put
from vcstack.store.etcd.settings import EtcdSettings

async def main():
    patient = EtcdSettings(endpoints=(sys.argv[1],), request_timeout_seconds=600, keepalive_seconds=600)
    async with EtcdClient(patient) as client:
        leadership = await Election(client, "e", "frozen", 5).campaign()
        print(json.dumps({"leads": leadership.fence.create_revision}), flush=True)
        while True:  # a careless leader: it never looks whether it still leads
            result = await client.txn([leadership.fence.compare], [Put(b"/vcstack/test/by", b"frozen")])
            if not result.succeeded:
                print(json.dumps({"refused": True}), flush=True)
                return

asyncio.run(main())
"""


async def test_the_late_writes_of_a_leader_that_was_frozen_are_refused(
    etcd_server: EtcdServer, etcd_client: EtcdClient
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEADER, etcd_server.endpoint, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        leads = json.loads(await process.stdout.readline())["leads"]
        freezer.freeze(process.pid)
        async with Election(etcd_client, "e", "successor", 60) as successor:
            leadership = await asyncio.wait_for(successor.campaign(), PATIENCE)
            assert leadership.fence.create_revision > leads
            mine = Put(b"/vcstack/test/by", b"successor")
            written = await etcd_client.txn([leadership.fence.compare], [mine])
            freezer.thaw(process.pid)
            assert json.loads(await process.stdout.readline())["refused"]
            found = (await etcd_client.get(b"/vcstack/test/by")).kv
            assert found is not None
            assert (found.value, found.mod_revision) == (b"successor", written.revision)
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):  # as a rule it has ended
            process.kill()
        await process.wait()
