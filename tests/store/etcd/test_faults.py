"""What calls do while etcd restarts, freezes, or the connection is cut."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.fixtures.etcd import EtcdServer, eventually
from tests.fixtures.tcp_proxy import TcpProxy
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdError, EtcdUnavailable, OutcomeUnknown
from vcstack.store.etcd.ops import Compare, Delete, Get, Put
from vcstack.store.etcd.settings import EtcdSettings

pytestmark = pytest.mark.daemons

KEY = b"/vcstack/test/key"

MakeProxy = Callable[[int], Awaitable[TcpProxy]]


def settings(*endpoints: str, timeout: float = 60) -> EtcdSettings:
    """Where nothing has to run out, a busy machine has all the time; else a few seconds to connect in."""
    return EtcdSettings(endpoints=endpoints, request_timeout_seconds=timeout)


async def connected(client: EtcdClient) -> None:
    """Wait until a write was answered."""
    while True:
        with contextlib.suppress(EtcdError):
            await client.put(KEY, b"0")
            return


async def test_nobody_there_is_unavailable_for_reads_and_writes_alike() -> None:
    async with EtcdClient(settings("127.0.0.1:1", timeout=3)) as client:
        calls = (client.get(KEY), client.put(KEY, b""), client.lease_keepalive_once(1))
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [EtcdUnavailable] * 3
    assert "onnection refused" in str(errors[0])


async def test_calls_wait_for_an_etcd_that_comes_back_in_time(own_etcd: EtcdServer) -> None:
    async with EtcdClient(settings(own_etcd.endpoint)) as client:
        await client.put(KEY, b"before")
        own_etcd.kill()
        await eventually(lambda: not client._connection.endpoint.is_ready)
        read = asyncio.create_task(client.get(KEY))
        write = asyncio.create_task(client.put(KEY + b"2", b""))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_etcd.start)
        found = await read
        assert found.kv is not None
        assert found.kv.value == b"before"
        assert (await write).revision == 3


async def test_a_write_whose_answer_is_lost_has_an_unknown_outcome_and_was_applied(
    etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
) -> None:
    proxy = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(proxy.endpoint)) as client:
        first = await client.put(KEY, b"0")
        proxy.replies = False
        writing = asyncio.create_task(client.txn([Compare.version(KEY, "=", 1)], [Put(KEY, b"1")]))
        async with etcd_client.watch(KEY, first.revision + 1) as watch:
            await anext(watch)
        proxy.mend()
        with pytest.raises(OutcomeUnknown):
            await writing
        read_back = await client.get(KEY)
    assert read_back.kv is not None
    assert (read_back.kv.value, read_back.kv.version) == (b"1", 2)


async def test_a_write_that_never_arrived_has_an_unknown_outcome_and_was_not_applied(
    etcd_server: EtcdServer, proxy_of: MakeProxy
) -> None:
    proxy = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(proxy.endpoint)) as client:
        await client.put(KEY, b"0")
        proxy.requests = False
        writing = asyncio.create_task(client.delete(KEY))
        await eventually(lambda: KEY in proxy.swallowed)
        proxy.mend()
        with pytest.raises(OutcomeUnknown):
            await writing
        read_back = await client.get(KEY)
    assert read_back.kv is not None


async def test_a_write_without_an_answer_in_time_has_an_unknown_outcome(
    etcd_server: EtcdServer, proxy_of: MakeProxy
) -> None:
    proxy = await proxy_of(etcd_server.port)
    calm = replace(settings(proxy.endpoint, timeout=2), keepalive_seconds=60, ping_timeout_seconds=60)
    async with EtcdClient(calm) as client:
        await connected(client)
        proxy.blackhole()
        for write in (client.put(KEY, b""), client.delete(KEY), client.txn([], [Delete(KEY)])):
            with pytest.raises(OutcomeUnknown, match=proxy.endpoint):
                await write
        for read in (client.get(KEY), client.txn([], [Get(KEY)]), client.current_revision()):
            with pytest.raises(EtcdUnavailable):
                await read


async def test_reads_are_repeated_when_the_connection_is_cut(etcd_server: EtcdServer, proxy_of: MakeProxy) -> None:
    proxy = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(proxy.endpoint)) as client:
        await client.put(KEY, b"0")
        proxy.replies = False
        reads = [asyncio.create_task(client.get(KEY)) for _ in range(20)]
        await eventually(lambda: proxy.swallowed.count(KEY) >= len(reads))
        proxy.mend()
        for read in reads:
            assert (await read).kv is not None


async def test_no_acknowledged_write_is_lost_and_no_failed_one_applied_twice_under_cuts(
    etcd_server: EtcdServer, etcd_client: EtcdClient, proxy_of: MakeProxy
) -> None:
    proxy = await proxy_of(etcd_server.port)
    done = asyncio.Event()
    unknown = 0

    async def count_up(client: EtcdClient, key: bytes) -> int:
        """Add one by compare-and-swap until told to stop; how often it was acknowledged or read back."""
        nonlocal unknown
        value, may_come_late = 0, False
        while not done.is_set():
            swap = Compare.version(key, "=", value)
            try:
                succeeded = (await client.txn([swap], [Put(key, b"%d" % (value + 1))])).succeeded
            except EtcdUnavailable:
                continue  # promised not to be applied: the next swap fails if it was
            except OutcomeUnknown:
                unknown += 1
                may_come_late, succeeded = True, False
            # What was under way when the connection was cut may still be applied after it was looked for.
            assert succeeded or may_come_late
            found = (await etcd_client.get(key)).kv
            may_come_late = may_come_late and not succeeded
            value = found.version if found else 0
        return value

    async with EtcdClient(settings(proxy.endpoint, timeout=2)) as client, asyncio.TaskGroup() as group:
        counters = {b"%d" % n: group.create_task(count_up(client, KEY + b"%d" % n)) for n in range(20)}
        for cuts in itertools.count():
            if cuts >= 15 and unknown:
                break
            await asyncio.sleep(0.1)
            proxy.cut()
        done.set()
    for name, counter in counters.items():
        found = (await etcd_client.get(KEY + name)).kv
        assert found is not None
        assert counter.result() <= found.version == int(found.value)


async def test_the_next_endpoint_is_taken_when_one_fails(etcd_server: EtcdServer, proxy_of: MakeProxy) -> None:
    first, second = await proxy_of(etcd_server.port), await proxy_of(etcd_server.port)
    async with EtcdClient(settings("127.0.0.1:1", first.endpoint, second.endpoint)) as client:
        await client.put(KEY, b"0")
        first.refuse()
        async with asyncio.timeout(30):  # none waits until its time is up
            assert (await client.get(KEY)).kv is not None
            await client.put(KEY, b"1")
        first.mend()
        second.refuse()
        assert (await client.get(KEY)).kv is not None


async def test_an_endpoint_that_hangs_is_left_for_the_next_call(etcd_server: EtcdServer, proxy_of: MakeProxy) -> None:
    hanging = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(hanging.endpoint, etcd_server.endpoint, timeout=3)) as client:
        await connected(client)
        hanging.blackhole()
        with pytest.raises(OutcomeUnknown):
            await client.put(KEY, b"1")
        await client.put(KEY, b"2")


async def test_calls_under_way_fail_when_the_client_is_closed(etcd_server: EtcdServer, proxy_of: MakeProxy) -> None:
    proxy = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(proxy.endpoint)) as client:
        await client.put(KEY, b"0")
        proxy.blackhole()
        calls: list[tuple[Awaitable[object], type[EtcdError]]] = [
            (asyncio.create_task(client.get(KEY)), EtcdUnavailable),
            (asyncio.create_task(client.current_revision()), EtcdUnavailable),
            (asyncio.create_task(anext(client.watch(KEY, 1))), EtcdUnavailable),
            (asyncio.create_task(client.lease_keepalive_once(1)), EtcdUnavailable),
            (asyncio.create_task(client.put(KEY, b"")), OutcomeUnknown),
        ]
        await asyncio.sleep(0.1)
    for call, error in calls:
        with pytest.raises(error):
            await call


async def test_leases_are_renewed_again_when_etcd_came_back(own_etcd: EtcdServer) -> None:
    async with EtcdClient(settings(own_etcd.endpoint)) as client:
        leases = [(await client.lease_grant(600)).id for _ in range(5)]
        await asyncio.gather(*(client.lease_keepalive_once(each) for each in leases))
        own_etcd.kill()
        renewals = [asyncio.create_task(client.lease_keepalive_once(each)) for each in leases]
        await asyncio.to_thread(own_etcd.start)
        assert [lease.id for lease in await asyncio.gather(*renewals)] == leases


async def test_renewals_that_hang_or_are_given_up_do_not_spoil_later_ones(
    etcd_server: EtcdServer, proxy_of: MakeProxy
) -> None:
    hanging, well = await proxy_of(etcd_server.port), await proxy_of(etcd_server.port)
    async with EtcdClient(settings(hanging.endpoint, well.endpoint)) as client:
        leases = [(await client.lease_grant(60)).id for _ in range(3)]
        await client.lease_keepalive_once(leases[0])
        hanging.blackhole()
        given_up = asyncio.create_task(client.lease_keepalive_once(leases[1]))
        await asyncio.sleep(0.1)
        given_up.cancel()
        with pytest.raises(EtcdUnavailable):
            await client.lease_keepalive_once(leases[1], timeout_seconds=0.2)
        renewed = await asyncio.gather(*(client.lease_keepalive_once(each) for each in leases * 3))
        assert [lease.id for lease in renewed] == leases * 3


async def test_a_cancelled_call_is_cancelled_and_leaves_the_client_usable(
    etcd_server: EtcdServer, proxy_of: MakeProxy
) -> None:
    proxy = await proxy_of(etcd_server.port)
    async with EtcdClient(settings(proxy.endpoint)) as client:
        await client.put(KEY, b"0")
        proxy.replies = False
        for call in (client.get(KEY), client.put(KEY, b"1"), client.current_revision()):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        proxy.mend()
        assert (await client.get(KEY)).kv is not None
