# ruff: noqa: SIM117 (nested blocks read better here)
"""Watches: events, bookmarks, resuming, what is gone, and the end of streams."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, create_samples, serving
from tests.fixtures.samples import sample
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.specs.access import EventType
from vcstack.specs.errors import Expired, Unavailable
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store, StoreSettings

FLAVOR = get_kind("Flavor")
PATIENCE = 60


@contextlib.asynccontextmanager
async def watching(raw: httpx2.AsyncClient, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with raw.stream("GET", path) as answer:
        assert answer.status_code == 200, await answer.aread()

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in answer.aiter_lines():
                if line:
                    yield json.loads(line)

        yield events()


async def names_until(client: ApiClient, since: str, count: int) -> list[tuple[EventType, str]]:
    found: list[tuple[EventType, str]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in client.watch(Flavor, since=since):
            if event.object is not None:
                found.append((event.type, event.object.metadata.name))
            if len(found) == count:
                return found
    raise AssertionError("the watch ended")


async def test_a_watch_tells_what_happens_after_a_version(admin: ApiClient) -> None:
    first = await admin.create_wire(FLAVOR, sample("Flavor", name="a"))
    await admin.create_wire(FLAVOR, sample("Flavor", name="b"))
    await admin.merge_patch_wire(FLAVOR, "b", {"metadata": {"labels": {"x": "y"}}})
    found = await names_until(admin, first["metadata"]["resourceVersion"], 2)
    assert found == [(EventType.ADDED, "b"), (EventType.MODIFIED, "b")]


async def test_a_watch_without_version_begins_with_what_there_is(api: Api, admin: ApiClient) -> None:
    await admin.create_wire(FLAVOR, sample("Flavor", name="a"))
    async with api.raw() as raw, watching(raw, "/api/v1/flavors?watch=true") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


async def test_an_object_that_begins_or_ceases_to_match_comes_and_goes(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    instance = get_kind("Instance")
    since = (await admin.list_wire(instance)).resource_version
    async with contextlib.aclosing(
        admin.watch_wire(instance, since=since, project="demo", fields="status.host=h1")
    ) as stream:
        for host in ("h1", "h2"):
            await api.store.patch_status(instance, "demo", "web-1", {"host": host}, actor=SYSTEM)
        types = [(await anext(stream)).type for _ in range(2)]
    assert types == [EventType.ADDED, EventType.DELETED]


@pytest.mark.parametrize("version", ["1", "999999"])
async def test_a_version_that_is_not_kept_is_410(api: Api, admin: ApiClient, version: str) -> None:
    await admin.create_wire(FLAVOR, sample("Flavor", name="a"))
    if version == "1":
        await api.store.close()
        await api.etcd.compact(api.etcd.revision)
        await api.store.start()
    with pytest.raises(Expired):
        async for _ in admin.watch(Flavor, since=version):
            pass


@pytest.mark.parametrize(
    "query", ["resourceVersion=x", "resourceVersion=-1", "labelSelector=a%3D%3D%3Db", "fieldSelector=spec.nothing%3D1"]
)
async def test_a_watch_that_cannot_be_understood_is_refused_before_it_begins(api: Api, query: str) -> None:
    async with api.raw() as raw:
        answer = await raw.get(f"/api/v1/flavors?watch=true&{query}")
    assert answer.status_code == 400


async def test_bookmarks_come_to_those_who_ask(
    memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with Store(memory_etcd, settings=StoreSettings(bookmark_seconds=0.05)) as store:
        async with serving(store, memory_etcd, api.installation, tmp_path_factory.mktemp("x")) as other:
            async with other.raw() as raw, Connection(other.settings()) as connection:
                path = f"/api/v1/flavors?watch=true&resourceVersion={store.cache.revision}&allowWatchBookmarks=true"
                async with watching(raw, path) as events, asyncio.timeout(PATIENCE):
                    made = await ApiClient(connection).create_wire(get_kind("Project"), sample("Project"))
                    version = ""
                    while version != made["metadata"]["resourceVersion"]:  # one may come of what was before
                        event = await anext(events)
                        assert event["type"] == "BOOKMARK"
                        version = event["object"]["metadata"]["resourceVersion"]


async def test_an_idle_watch_gets_keep_alives(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("x")
    async with serving(memory_store, memory_etcd, api.installation, folder, keep_alive_seconds=0.02) as other:
        async with other.raw() as raw, raw.stream("GET", "/api/v1/flavors?watch=true") as answer:
            async with asyncio.timeout(PATIENCE):
                assert await anext(answer.aiter_raw()) == b"\n"


async def test_a_client_takes_silence_for_death(api: Api) -> None:
    async with Connection(api.settings(watch_silence_seconds=3)) as connection:
        with pytest.raises(Unavailable, match="dead"):
            async for _ in ApiClient(connection).watch_wire(FLAVOR, since="1"):
                pass


async def test_a_watch_ends_after_the_time_asked_for_and_is_taken_up_again(admin: ApiClient, api: Api) -> None:
    async with api.raw() as raw:
        answer = await raw.get("/api/v1/flavors?watch=true&timeoutSeconds=1")
        assert (answer.status_code, answer.content.strip()) == (200, b"")


async def test_a_stop_ends_watches_in_order_and_clients_go_on_elsewhere(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with serving(memory_store, memory_etcd, api.installation, tmp_path_factory.mktemp("x")) as other:
        async with other.raw() as raw, watching(raw, "/api/v1/flavors?watch=true") as events:
            other.stop.set()
            async with asyncio.timeout(PATIENCE):
                assert [e async for e in events] == []


async def test_a_watcher_that_leaves_is_forgotten(api: Api) -> None:
    table = api.store.cache.table(FLAVOR)
    async with api.raw() as raw, watching(raw, "/api/v1/flavors?watch=true"):
        async with asyncio.timeout(PATIENCE):
            while not table.watcher_count:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE):
        while table.watcher_count:
            await asyncio.sleep(0.01)


async def test_a_watcher_that_is_too_slow_loses_its_stream_and_nothing_else(admin: ApiClient, api: Api) -> None:
    table = api.store.cache.table(FLAVOR)
    async with api.raw() as raw, raw.stream("GET", "/api/v1/flavors?watch=true") as answer:
        async with asyncio.timeout(PATIENCE):
            while not table.watcher_count:
                await asyncio.sleep(0.01)
        table.drop_watchers()
        async with asyncio.timeout(PATIENCE):
            assert [line async for line in answer.aiter_lines() if line] == []
    assert await admin.create_wire(FLAVOR, sample("Flavor"))


async def test_a_thousand_events_arrive_in_order(admin: ApiClient) -> None:
    made = await admin.create_wire(FLAVOR, sample("Flavor"))

    async def write() -> None:
        for n in range(1000):
            await admin.merge_patch_wire(FLAVOR, "tiny", {"metadata": {"labels": {"n": str(n)}}})

    writing = asyncio.create_task(write())
    seen: list[str] = []
    async with asyncio.timeout(150):
        async for event in admin.watch(Flavor, since=made["metadata"]["resourceVersion"]):
            if event.object is not None:
                seen.append(event.object.metadata.labels["n"])
            if len(seen) == 1000:
                break
    await writing
    assert seen == [str(n) for n in range(1000)]
