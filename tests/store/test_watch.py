"""Watching: what was missed, what comes, selectors, bookmarks, slow readers, histories too old."""

import asyncio
import gc
from typing import Any

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    INSTANCE,
    NETWORK,
    PORT,
    PROJECT,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.access import EventType
from vcstack.specs.errors import BadRequest, Expired
from vcstack.specs.registry import KindDefinition
from vcstack.store.cache import CacheSettings
from vcstack.store.store import Store, StoreSettings
from vcstack.store.stream import WatchStream

SMALL = StoreSettings(cache=CacheSettings(ring=8, watcher_limit=4), bookmark_seconds=0.02)


async def take(stream: WatchStream, count: int) -> list[tuple[str, str]]:
    """Return (type, name) of the next events."""
    async with asyncio.timeout(60):
        items = [await anext(stream) for _ in range(count)]
    return [(item.type.value, orjson.loads(item.json)["metadata"]["name"]) for item in items]


async def revision_of(store: Store, definition: KindDefinition = NETWORK) -> int:
    return (await store.list(definition)).revision


async def label(store: Store, name: str, **labels: str | None) -> None:
    await store.merge_patch(NETWORK, "demo", name, {"metadata": {"labels": labels}}, actor=ADMIN)


async def destroy(store: Store, name: str) -> None:
    await store.finalize(NETWORK, "demo", name, list(NETWORK.finalizers), actor=CONTROLLER)
    await store.delete(NETWORK, "demo", name, actor=ADMIN)


async def test_a_watch_continues_where_the_list_ended(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store, "before")
    since = await revision_of(any_store)
    await make_network(any_store, "web")
    stream = await any_store.watch(NETWORK, since=since)
    await label(any_store, "web", a="b")
    await destroy(any_store, "web")
    assert await take(stream, 4) == [
        ("ADDED", "web"),
        ("MODIFIED", "web"),
        ("MODIFIED", "web"),
        ("DELETED", "web"),
    ]


async def test_a_watch_without_a_version_begins_with_what_is_there(memory_store: Store) -> None:
    await make_project(memory_store)
    await make_network(memory_store, "b")
    await make_network(memory_store, "a")
    stream = await memory_store.watch(NETWORK, "demo", since=None)
    assert await take(stream, 2) == [("ADDED", "a"), ("ADDED", "b")]
    bookmark = await anext(stream)
    assert (bookmark.type, bookmark.revision) == (EventType.BOOKMARK, await revision_of(memory_store))
    await make_network(memory_store, "c")
    assert await take(stream, 1) == [("ADDED", "c")]


async def test_events_carry_the_exact_bytes_and_versions(memory_store: Store) -> None:
    await make_project(memory_store)
    stream = await memory_store.watch(NETWORK, since=await revision_of(memory_store))
    made = await make_network(memory_store)
    item = await anext(stream)
    assert (item.json, item.revision) == (made.json, made.revision)
    assert orjson.loads(item.line) == {"type": "ADDED", "object": made.wire}
    assert item.line.endswith(b"\n")
    await destroy(memory_store, "web")
    await anext(stream)
    gone = await anext(stream)
    assert orjson.loads(gone.json)["metadata"]["resourceVersion"] == str(gone.revision)


async def test_other_projects_and_kinds_are_not_seen(memory_store: Store) -> None:
    await make_project(memory_store, "a")
    await make_project(memory_store, "a-b")
    stream = await memory_store.watch(NETWORK, "a", since=await revision_of(memory_store))
    everywhere = await memory_store.watch(NETWORK, since=await revision_of(memory_store))
    await make_network(memory_store, "n1", project="a-b")
    await make_network(memory_store, "n2", project="a")
    assert await take(stream, 1) == [("ADDED", "n2")]
    assert await take(everywhere, 2) == [("ADDED", "n1"), ("ADDED", "n2")]


async def test_beginning_to_match_is_added_and_ceasing_is_deleted(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store)
    stream = await any_store.watch(NETWORK, since=await revision_of(any_store), label_selector="env=prod")
    await label(any_store, "web", other="x")
    await label(any_store, "web", env="prod")
    await label(any_store, "web", other="y")
    await label(any_store, "web", env="test")
    await label(any_store, "web", env="prod")
    await destroy(any_store, "web")
    events = await take(stream, 6)
    assert [e[0] for e in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "MODIFIED", "DELETED"]


async def test_an_object_that_ceases_to_match_is_shown_as_it_matched_last(memory_store: Store) -> None:
    await make_project(memory_store)
    await make_network(memory_store)
    await label(memory_store, "web", env="prod")
    stream = await memory_store.watch(NETWORK, since=await revision_of(memory_store), label_selector="env=prod")
    await label(memory_store, "web", env="secret")
    item = await anext(stream)
    assert item.type is EventType.DELETED
    assert orjson.loads(item.json)["metadata"]["labels"] == {"env": "prod"}


async def test_a_host_sees_only_what_is_bound_to_it(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, INSTANCE, instance("a"))
    await create(memory_store, INSTANCE, instance("b"))
    since = await revision_of(memory_store, INSTANCE)
    h1 = await memory_store.watch(INSTANCE, since=since, field_selector="status.host=h1")
    h2 = await memory_store.watch(INSTANCE, since=since, field_selector="status.host=h2")

    async def bind(name: str, host: str) -> None:
        await memory_store.patch_status(INSTANCE, "demo", name, {"host": host}, actor=CONTROLLER)

    await bind("a", "h1")
    await bind("b", "h2")
    await bind("a", "h2")
    assert await take(h1, 2) == [("ADDED", "a"), ("DELETED", "a")]
    assert await take(h2, 2) == [("ADDED", "b"), ("ADDED", "a")]


async def test_a_selector_may_ask_for_any_item_of_a_list(memory_store: Store) -> None:
    await make_world(memory_store)
    await make_network(memory_store, "back")
    selector = "spec.networkInterfaces[*].network=back"
    stream = await memory_store.watch(
        INSTANCE, since=await revision_of(memory_store, INSTANCE), field_selector=selector
    )
    both = [{"name": "eth0", "network": "web"}, {"name": "eth1", "network": "back"}]
    await create(memory_store, INSTANCE, instance("a", networkInterfaces=both[:1]))
    await create(memory_store, INSTANCE, instance("b", networkInterfaces=both))
    assert await take(stream, 1) == [("ADDED", "b")]
    page = await memory_store.list(INSTANCE, field_selector=selector)
    assert [orjson.loads(item)["metadata"]["name"] for item in page.items] == ["b"]


async def test_resuming_with_a_selector_tells_what_was_missed(memory_store: Store) -> None:
    await make_project(memory_store)
    await make_network(memory_store)
    since = await revision_of(memory_store)
    await label(memory_store, "web", env="prod")
    await label(memory_store, "web", env="test")
    stream = await memory_store.watch(NETWORK, since=since, label_selector="env=prod")
    assert await take(stream, 2) == [("ADDED", "web"), ("DELETED", "web")]


async def test_all_watchers_share_one_event(memory_store: Store) -> None:
    await make_project(memory_store)
    since = await revision_of(memory_store)
    streams = [await memory_store.watch(NETWORK, since=since) for _ in range(3)]
    await make_network(memory_store)
    first, second, third = [await anext(s) for s in streams]
    assert first is second is third
    assert first.line is second.line


async def test_a_version_too_old_is_expired(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, settings=SMALL) as store:
        await make_project(store)
        await make_network(store)
        since = await revision_of(store)
        for i in range(8):
            await label(store, "web", n=str(i))
        stream = await store.watch(NETWORK, since=since)
        assert len(await take(stream, 8)) == 8
        await label(store, "web", n="last")
        with pytest.raises(Expired):
            await store.watch(NETWORK, since=since)


async def test_a_version_that_never_was_is_expired(memory_store: Store) -> None:
    with pytest.raises(Expired):
        await memory_store.watch(NETWORK, since=10_000)


async def test_a_slow_reader_is_dropped_and_resumes_without_loss(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, settings=SMALL) as store:
        await make_project(store)
        await make_network(store)
        since = await revision_of(store)
        slow = await store.watch(NETWORK, since=since)
        for i in range(6):
            await label(store, "web", n=str(i))
        assert [item async for item in slow] == []
        again = await store.watch(NETWORK, since=since)
        assert len(await take(again, 6)) == 6


async def test_what_is_kept_for_watchers_is_bounded_in_bytes_too(memory_etcd: MemoryEtcd) -> None:
    """Both what those have missed that come again, and what waits for one that does not read."""
    settings = StoreSettings(cache=CacheSettings(ring_bytes=24_000, watcher_bytes=12_000))
    async with Store(memory_etcd, settings=settings) as store:
        await make_project(store)
        await make_network(store)
        since = await revision_of(store)
        slow = await store.watch(NETWORK, since=since)
        for i in range(4):
            await label(store, "web", n=str(i), **{f"l{j}": "x" * 60 for j in range(60)})
        assert [item async for item in slow] == []
        again = await store.watch(NETWORK, since=since)
        assert len(await take(again, 4)) == 4
        for i in range(4):
            await label(store, "web", n=f"more-{i}")
        with pytest.raises(Expired):
            await store.watch(NETWORK, since=since)


async def test_a_fast_reader_is_never_dropped(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, settings=SMALL) as store:
        await make_project(store)
        await make_network(store)
        stream = await store.watch(NETWORK, since=await revision_of(store))
        for i in range(30):
            await label(store, "web", n=str(i))
            assert await take(stream, 1) == [("MODIFIED", "web")]


async def test_idle_watchers_get_bookmarks_to_resume_from(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, settings=SMALL) as store:
        await make_project(store)
        stream = await store.watch(NETWORK, since=await revision_of(store))
        for i in range(12):
            await store.merge_patch(PROJECT, None, "demo", {"metadata": {"labels": {"n": str(i)}}}, actor=ADMIN)
        async with asyncio.timeout(60):
            item = await anext(stream)
        assert item.type is EventType.BOOKMARK
        wire = orjson.loads(item.json)
        assert (wire["kind"], wire["metadata"]) == ("Network", {"resourceVersion": str(item.revision)})
        assert item.revision == store.cache.revision
        assert await store.watch(NETWORK, since=item.revision)


async def test_nothing_new_gives_no_bookmark(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd, settings=SMALL) as store:
        stream = await store.watch(NETWORK, since=store.cache.revision)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(stream)


async def test_a_closed_or_forgotten_stream_is_fed_no_more(memory_store: Store) -> None:
    await make_project(memory_store)
    table = memory_store.cache.table(NETWORK)
    closed = await memory_store.watch(NETWORK, since=memory_store.cache.revision)
    forgotten: Any = await memory_store.watch(
        NETWORK, since=memory_store.cache.revision, field_selector="metadata.name=x"
    )
    assert table.watcher_count == 2
    await closed.aclose()
    assert [item async for item in closed] == []
    del forgotten
    gc.collect()
    assert table.watcher_count == 0


async def test_streams_end_when_the_store_closes(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd) as store:
        stream = await store.watch(NETWORK, since=store.cache.revision)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await reading


async def test_a_watch_read_under_a_timeout_loses_nothing(memory_store: Store) -> None:
    await make_project(memory_store)
    stream = await memory_store.watch(NETWORK, since=await revision_of(memory_store))
    for i in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(stream)
        await make_network(memory_store, f"n{i}")
        assert await take(stream, 1) == [("ADDED", f"n{i}")]


@pytest.mark.parametrize("selector", ["status.hots=h1", "status", "status.host"])
async def test_selectors_of_fields_that_do_not_exist_are_refused(memory_store: Store, selector: str) -> None:
    with pytest.raises(BadRequest):
        await memory_store.watch(PORT, since=None, field_selector=selector)
    with pytest.raises(BadRequest):
        await memory_store.list(PORT, field_selector=selector)


async def test_many_writers_and_a_watcher_see_every_change_in_order(any_store: Store) -> None:
    await make_project(any_store)
    stream = await any_store.watch(NETWORK, since=await revision_of(any_store))
    made = await asyncio.gather(*(create(any_store, NETWORK, wire(f"n{i}")) for i in range(100)))
    async with asyncio.timeout(60):
        items = [await anext(stream) for _ in made]
    assert [i.revision for i in items] == sorted(m.revision for m in made)


async def test_a_watch_by_a_label_of_ones_own_leaves_nothing_behind(memory_store: Store) -> None:
    """Its key is a path, and there are as many as people like; each would be looked up at every change."""
    await make_project(memory_store)
    table = memory_store.cache.table(NETWORK)
    for n in range(3):
        stream = await memory_store.watch(NETWORK, field_selector=f"metadata.labels[key-{n}]=a")
        await make_network(memory_store, f"n{n}")
        await stream.aclose()
    assert table.watcher_count == 0
    assert not table._anchored
