"""Two API workers on a real etcd: each holds its share, so that both together let through what the limit says."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apiserver.limits.conftest import OBJECT, count, fill, policy
from tests.apiserver.test_accounts import as_, log_in
from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import open_store
from tests.fixtures.api import Api, serving
from tests.fixtures.etcd import eventually
from vcstack.apiserver.limits.defaults import STREAMS, TENANTS, StreamSettings
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.pki.installation import Installation
from vcstack.specs.kinds.ratelimitpolicy import RateLimitPolicy
from vcstack.specs.registry import get_kind
from vcstack.store.apiworkers import ApiWorkers
from vcstack.store.etcd.client import EtcdClient

pytestmark = pytest.mark.daemons

FEW_STREAMS = LimitSettings(streams={**STREAMS, TENANTS: StreamSettings(of_one=4, in_all=100)})


class Pair:
    """Two workers, the first of which can be stopped."""

    def __init__(self, one: Api, two: Api, clock: ManualClock, ending: contextlib.AsyncExitStack) -> None:
        self.one, self.two, self.clock, self._ending = one, two, clock, ending

    async def count(self, workers: int, *apis: Api) -> None:
        """Wait until these count so many workers."""
        await eventually(lambda: all(api.application.gate.book.parts == workers for api in apis))

    async def stop_one(self) -> None:
        await self._ending.aclose()


@pytest.fixture
async def pair(etcd_client: EtcdClient, pki_installation: Installation, tmp_path: Path) -> AsyncIterator[Pair]:
    clock = ManualClock()
    async with contextlib.AsyncExitStack() as lasting, contextlib.AsyncExitStack() as ending:
        apis = []
        for number, stack in enumerate((ending, lasting)):
            folder = tmp_path / str(number)
            folder.mkdir()
            store = await stack.enter_async_context(open_store(etcd_client))
            limits = LimitSettings(streams=FEW_STREAMS.streams)
            started = serving(store, etcd_client, pki_installation, folder, clock=clock, limits=limits)
            apis.append(await stack.enter_async_context(started))
        await fill(apis[0])
        yield Pair(*apis, clock, ending)


async def test_both_together_let_through_what_the_limit_says(pair: Pair) -> None:
    await policy(pair.one, "lists", "Subject", 20, "List")
    token = await log_in(pair.one, "alice")
    await pair.count(2, pair.one, pair.two)
    async with as_(pair.one, token) as here, as_(pair.two, token) as there:
        assert (await there.get(f"{OBJECT}/none")).status_code == 404  # the policy and the session are seen there, too
        assert [await count(here, 25), await count(there, 25)] == [10, 10]
        pair.clock.skip(60.0)  # six a minute
        assert await count(here, 10) + await count(there, 10) == 6


async def test_when_one_stops_the_other_takes_over_its_share(pair: Pair) -> None:
    await policy(pair.two, "lists", "Subject", 20, "List")
    token = await log_in(pair.two, "alice")
    await pair.count(2, pair.one, pair.two)
    async with as_(pair.two, token) as there:
        assert await count(there, 25) == 10
        await pair.stop_one()
        await pair.count(1, pair.two)
        pair.clock.skip(300.0)
        assert await count(there, 30) == 20


async def test_a_limit_smaller_than_the_number_of_workers_lets_one_through_at_each(pair: Pair) -> None:
    """What is stated: a share is never less than one at once. In the long run the rate holds all the same."""
    await policy(pair.one, "once", "Subject", 1, "List")
    token = await log_in(pair.one, "alice")
    await pair.count(2, pair.one, pair.two)
    async with as_(pair.one, token) as here, as_(pair.two, token) as there:
        assert (await there.get(f"{OBJECT}/none")).status_code == 404
        assert [await count(here, 5), await count(there, 5)] == [1, 1]
        passed = 0
        for _ in range(6):
            pair.clock.skip(10.0)
            passed += await count(here, 2) + await count(there, 2)
        assert passed == 6


async def test_streams_of_one_are_shared_out_as_well(pair: Pair) -> None:
    token = await log_in(pair.one, "alice")
    await pair.count(2, pair.one, pair.two)
    async with as_(pair.one, token) as here, as_(pair.two, token) as there, contextlib.AsyncExitStack() as open_:
        assert (await there.get(f"{OBJECT}/none")).status_code == 404
        for client in (here, there):
            for _ in range(2):
                stream = await open_.enter_async_context(client.stream("GET", f"{OBJECT}?watch=true"))
                assert stream.status_code == 200
            assert (await client.get(f"{OBJECT}?watch=true")).status_code == 429


async def test_each_says_which_generation_of_a_policy_it_applies(pair: Pair, etcd_client: EtcdClient) -> None:
    await policy(pair.one, "lists", "Subject", 20, "List")
    stored = await pair.one.store.get(get_kind(RateLimitPolicy.KIND), None, "lists")
    uid = stored.wire["metadata"]["uid"]
    names = {api.application.gate.settings.worker for api in (pair.one, pair.two)}
    assert len(names) == 2
    live = ApiWorkers(etcd_client).live_workers()
    async for seen in live:
        if seen == {name: {uid: 1} for name in names}:
            break
    await live.aclose()  # type: ignore[attr-defined]
