"""A tenant that floods a real server on a real etcd keeps neither hosts nor the administrator from their work.

Counted is who was refused and what was written, not how long it took.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from tests.apiserver.limits.conftest import OBJECT, OTHERS, fill, users
from tests.apiserver.test_accounts import put
from tests.fakes.master_keys import open_store
from tests.fixtures.api import SYSTEM, Api, serving
from vcstack.apiserver.limits.defaults import LEVELS, TENANTS, LevelSettings
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.client import EtcdClient

pytestmark = pytest.mark.daemons

SEATS = LevelSettings(seats=3, most_of_one=2, queue_length=2, queues=64, hand=4, wait_seconds=120)
AT_ONCE = 40
"""Of the flood: far more than the seats and the queues of its hand hold, which are 2 and 8."""
WORK = 40
ROUTES = f"/api/v1/projects/{OTHERS}/networks"
HEARTBEAT, STATUS = "/api/v1/hosts/h1/heartbeat", "/api/v1/hosts/h1/status"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
async def api(etcd_client: EtcdClient, pki_installation: Installation, tmp_path: Path) -> AsyncIterator[Api]:
    limits = LimitSettings(levels={**LEVELS, TENANTS: SEATS})
    async with (
        open_store(etcd_client) as store,
        serving(store, etcd_client, pki_installation, tmp_path, limits=limits) as found,
    ):
        await fill(found)
        fast = {"name": "all", "per": "Subject", "requestsPerMinute": 60_000_000, "burst": 1_000_000}
        await put(found, "RateLimitPolicy", "seats-only", {"limits": [fast, {**fast, "name": "p", "per": "Project"}]})
        yield found


class Flood:
    """One tenant's many requests at once, all writes, until it is ended."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: Counter[int] = Counter()
        self._number = 0

    async def __aenter__(self) -> "Flood":
        self._tasks = [asyncio.create_task(self._send()) for _ in range(AT_ONCE)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            self._number += 1
            wire = {"metadata": {"name": f"n{self._number}"}, "spec": {}}
            self.answers[(await self._client.post(ROUTES, json=wire)).status_code] += 1

    async def refused(self, times: int) -> None:
        """Wait until so many were refused: the flood is under way."""
        while self.answers[429] < times:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def flooded(api: Api) -> AsyncIterator[Flood]:
    async with users(api, "mallory") as (mallory,), Flood(mallory) as flood:
        await flood.refused(AT_ONCE)
        yield flood


async def test_no_host_is_refused_and_all_that_it_reports_is_written(api: Api) -> None:
    host = await api.register("h1")
    refused_before = 0
    async with api.raw(host) as agent, flooded(api) as flood:
        refused_before = flood.answers[429]
        for number in range(WORK):
            beat = await agent.post(HEARTBEAT)
            assert beat.status_code == 200, beat.text
            patch = {"status": {"agentVersion": f"1.0.{number}"}}
            wrote = await agent.patch(STATUS, json=patch, headers=MERGE)
            assert wrote.status_code == 200, wrote.text
            assert wrote.json()["status"]["agentVersion"] == f"1.0.{number}"
        assert api.application.gate.levels[TENANTS].executing <= SEATS.most_of_one
        assert flood.answers[429] > refused_before, "the flood went on all the time"
        while not flood.answers[201]:  # and is let through as far as its seats go
            await asyncio.sleep(0.01)


async def test_the_administrator_is_not_refused(api: Api) -> None:
    async with api.raw() as admin, flooded(api) as flood:
        for number in range(WORK):
            wire = {"metadata": {"name": f"p{number}"}, "spec": {}}
            made = await admin.post("/api/v1/projects", json=wire)
            assert made.status_code == 201, made.text
        stopped = await admin.patch("/api/v1/users/mallory", content=b'{"spec":{"enabled":false}}', headers=MERGE)
        assert stopped.status_code == 200, "the administrator can end it"
        while not flood.answers[401]:
            await asyncio.sleep(0.01)


async def test_controllers_write_on(api: Api) -> None:
    definition = get_kind("Flavor")
    async with flooded(api):
        for number in range(WORK):
            spec = {"vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1}
            await api.store.create(definition, {"metadata": {"name": f"f{number}"}, "spec": spec}, actor=SYSTEM)


async def test_another_tenant_is_not_refused(api: Api) -> None:
    async with users(api, "alice") as (alice,), flooded(api) as flood:
        for number in range(WORK):
            made = await alice.post(OBJECT, json={"metadata": {"name": f"a{number}"}, "spec": {}})
            assert made.status_code == 201, made.text
        assert flood.answers[429] > AT_ONCE


async def test_without_seats_of_their_own_hosts_would_be_refused(
    etcd_client: EtcdClient, pki_installation: Installation, tmp_path: Path
) -> None:
    """What the other tests would see if the limits did nothing: a level that is flooded refuses its own."""
    tight = replace(SEATS, seats=1, most_of_one=1, queue_length=1, queues=1, hand=1, wait_seconds=0.01)
    limits = LimitSettings(levels={**LEVELS, "hosts": tight})
    async with (
        open_store(etcd_client) as store,
        serving(store, etcd_client, pki_installation, tmp_path, limits=limits) as api,
    ):
        host = await api.register("h1")
        async with api.raw(host) as agent:
            patches = (
                agent.patch(STATUS, json={"status": {"agentVersion": f"1.{n}"}}, headers=MERGE) for n in range(AT_ONCE)
            )
            answers = Counter(answer.status_code for answer in await asyncio.gather(*patches))
        assert answers[429] > 0
