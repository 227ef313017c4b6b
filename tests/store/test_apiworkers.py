"""Which API workers are there and what each applies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.store.apiworkers import PREFIX, ApiWorkers, Membership
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.ops import Put

Seen = Mapping[str, Mapping[str, int]]
PATIENCE = 60


@contextlib.asynccontextmanager
async def watching(etcd: MemoryEtcd | EtcdClient) -> AsyncIterator[AsyncIterator[Seen]]:
    live = ApiWorkers(etcd).live_workers()
    try:
        yield live
    finally:
        await live.aclose()  # type: ignore[attr-defined]


async def until(live: AsyncIterator[Seen], wanted: Seen) -> None:
    """Read on until that is seen."""
    async with asyncio.timeout(PATIENCE):
        async for seen in live:
            if seen == wanted:
                return
    raise AssertionError("the stream ended")


async def test_workers_come_say_what_they_apply_and_go(any_etcd: MemoryEtcd | EtcdClient) -> None:
    one, two = Membership(any_etcd, "one"), Membership(any_etcd, "two")
    await one.declare({"rlp-1": 1})
    async with watching(any_etcd) as live:
        await until(live, {"one": {"rlp-1": 1}})
        await two.declare({})
        await until(live, {"one": {"rlp-1": 1}, "two": {}})
        await two.declare({"rlp-1": 2})
        await until(live, {"one": {"rlp-1": 1}, "two": {"rlp-1": 2}})
        await two.leave()
        await until(live, {"one": {"rlp-1": 1}})


async def test_staying_costs_the_store_no_revision(any_etcd: MemoryEtcd | EtcdClient) -> None:
    member = Membership(any_etcd, "one")
    await member.declare({"rlp-1": 1})
    before = await any_etcd.current_revision()
    for _ in range(3):
        await member.declare({"rlp-1": 1})
        await member.renew()
    assert await any_etcd.current_revision() == before


async def test_who_has_lost_its_lease_is_there_again_with_the_next_word(any_etcd: MemoryEtcd | EtcdClient) -> None:
    member = Membership(any_etcd, "one")
    await member.declare({"rlp-1": 1})
    held = (await any_etcd.get(PREFIX + b"one")).kv
    assert held is not None
    await any_etcd.lease_revoke(held.lease)
    assert (await any_etcd.get(PREFIX + b"one")).kv is None
    await member.renew()
    await member.declare({"rlp-1": 1})
    assert (await any_etcd.get(PREFIX + b"one")).kv is not None


async def test_a_lease_lost_unnoticed_is_noticed_by_the_next_write(any_etcd: MemoryEtcd | EtcdClient) -> None:
    member = Membership(any_etcd, "one")
    await member.declare({})
    held = (await any_etcd.get(PREFIX + b"one")).kv
    assert held is not None
    await any_etcd.lease_revoke(held.lease)
    await member.declare({"rlp-1": 1})
    assert (await any_etcd.get(PREFIX + b"one")).kv is not None


@pytest.mark.parametrize("value", [b"", b"[]", b'{"policies": [1]}', b'{"policies": {"a": "x"}}', b"\xff"])
async def test_what_cannot_be_read_applies_nothing(memory_etcd: MemoryEtcd, value: bytes) -> None:
    await memory_etcd.txn([], [Put(PREFIX + b"odd", value, 0)])
    async with watching(memory_etcd) as live:
        await until(live, {"odd": {}})
