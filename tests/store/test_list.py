"""Lists: order, selectors, pages over one revision, tokens."""

import base64
from typing import Any

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    IMAGE,
    INSTANCE,
    NETWORK,
    PROJECT,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.errors import BadRequest, Expired, NotFound, Unavailable
from vcstack.store.cache import CacheSettings
from vcstack.store.etcd.errors import EtcdUnavailable
from vcstack.store.records import ListPage
from vcstack.store.store import Store, StoreSettings


def names(page: ListPage) -> list[str]:
    return [orjson.loads(item)["metadata"]["name"] for item in page.items]


async def walk(store: Store, **options: Any) -> list[ListPage]:
    pages = [await store.list(NETWORK, **options)]
    while pages[-1].continue_:
        pages.append(await store.list(NETWORK, continue_=pages[-1].continue_, **options))
    return pages


async def fill(store: Store, count: int = 7) -> None:
    await make_project(store)
    for i in range(count):
        await create(store, NETWORK, wire(f"n{i}", labels={"parity": "even" if i % 2 == 0 else "odd"}))


async def test_a_list_is_ordered_by_project_and_name(memory_store: Store) -> None:
    for project in ("b", "a"):
        await make_project(memory_store, project)
        for name in ("y", "x"):
            await make_network(memory_store, name, project=project)
    page = await memory_store.list(NETWORK)
    places = [(m["project"], m["name"]) for m in (orjson.loads(i)["metadata"] for i in page.items)]
    assert places == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert names(await memory_store.list(NETWORK, "b")) == ["x", "y"]
    assert names(await memory_store.list(NETWORK, "none")) == []


async def test_projects_whose_names_begin_alike_are_kept_apart(memory_store: Store) -> None:
    for project in ("a", "a-b", "ab", "a0"):
        await make_project(memory_store, project)
        await make_network(memory_store, f"in-{project}", project=project)
    for project in ("a", "a-b", "ab", "a0"):
        assert names(await memory_store.list(NETWORK, project)) == [f"in-{project}"]


async def test_global_and_project_objects_of_one_kind_are_listed_together_or_apart(memory_store: Store) -> None:
    await make_project(memory_store)
    await create(memory_store, IMAGE, wire("public", {"format": "Raw"}, project=None))
    await create(memory_store, IMAGE, wire("own", {"format": "Raw"}))
    assert sorted(names(await memory_store.list(IMAGE))) == ["own", "public"]
    assert names(await memory_store.list(IMAGE, "demo")) == ["own"]
    with pytest.raises(NotFound):
        await memory_store.get(IMAGE, "demo", "public")


async def test_items_are_the_exact_bytes_of_get(memory_store: Store) -> None:
    await fill(memory_store, 2)
    page = await memory_store.list(NETWORK)
    assert page.items == [(await memory_store.get(NETWORK, "demo", n)).json for n in ("n0", "n1")]


async def test_selectors_choose(memory_store: Store) -> None:
    await fill(memory_store)
    assert names(await memory_store.list(NETWORK, label_selector="parity=odd")) == ["n1", "n3", "n5"]
    assert names(await memory_store.list(NETWORK, field_selector="metadata.name=n4")) == ["n4"]
    both = await memory_store.list(NETWORK, label_selector="parity=odd", field_selector="metadata.name!=n3")
    assert names(both) == ["n1", "n5"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_cover_everything_once(memory_store: Store, limit: int) -> None:
    await fill(memory_store)
    pages = await walk(memory_store, limit=limit)
    assert [n for p in pages for n in names(p)] == [f"n{i}" for i in range(7)]
    assert all(len(p.items) <= limit for p in pages)
    assert [p.remaining for p in pages] == [max(0, 7 - limit * (i + 1)) for i in range(len(pages))]


async def test_pages_show_the_revision_of_the_first_whatever_happens_between(any_store: Store) -> None:
    await fill(any_store)
    first = await any_store.list(NETWORK, limit=3)
    await create(any_store, NETWORK, wire("n25"))
    await any_store.merge_patch(NETWORK, "demo", "n4", {"metadata": {"labels": {"new": "x"}}}, actor=ADMIN)
    await any_store.merge_patch(NETWORK, "demo", "n6", {"spec": {"mtuBytes": 1400}}, actor=ADMIN)
    second = await any_store.list(NETWORK, limit=3, continue_=first.continue_)
    third = await any_store.list(NETWORK, limit=3, continue_=second.continue_)
    assert (names(second), names(third)) == (["n3", "n4", "n5"], ["n6"])
    assert {p.revision for p in (first, second, third)} == {first.revision}
    assert (second.remaining, third.remaining) == (1, 0)
    assert b"new" not in second.items[1]
    assert orjson.loads(third.items[0])["spec"] == {}


async def test_pages_with_selectors_over_the_past_are_complete(any_store: Store) -> None:
    await fill(any_store, 9)
    first = await any_store.list(NETWORK, "demo", limit=2, label_selector="parity=even")
    assert first.remaining is None
    await create(any_store, NETWORK, wire("n00", labels={"parity": "even"}))
    rest = []
    token = first.continue_
    while token:
        page = await any_store.list(NETWORK, "demo", limit=2, label_selector="parity=even", continue_=token)
        rest += names(page)
        token = page.continue_
    assert names(first) + rest == ["n0", "n2", "n4", "n6", "n8"]


async def test_a_page_of_the_past_stays_within_its_project(memory_store: Store) -> None:
    await fill(memory_store, 4)
    await make_project(memory_store, "zoo")
    await make_network(memory_store, "z", project="zoo")
    first = await memory_store.list(NETWORK, "demo", limit=2)
    await make_network(memory_store, "late", project="zoo")
    second = await memory_store.list(NETWORK, "demo", continue_=first.continue_)
    assert names(second) == ["n2", "n3"]


async def test_a_list_that_took_too_long_is_expired(any_store: Store, any_etcd: Any) -> None:
    await fill(any_store)
    first = await any_store.list(NETWORK, limit=3)
    for i in range(3):
        last = await any_store.merge_patch(NETWORK, "demo", "n0", {"spec": {"mtuBytes": 1400 + i}}, actor=ADMIN)
    await any_etcd.compact(last.revision)
    with pytest.raises(Expired):
        await any_store.list(NETWORK, limit=3, continue_=first.continue_)


async def test_the_list_of_a_hosts_own_objects_follows_every_binding_and_end(
    memory_etcd: MemoryEtcd, memory_store: Store
) -> None:
    await make_world(memory_store)

    async def bind(name: str, host: str | None) -> None:
        await memory_store.patch_status(INSTANCE, "demo", name, {"host": host}, actor=CONTROLLER)

    async def on(store: Store, host: str, **options: Any) -> list[str]:
        return names(await store.list(INSTANCE, field_selector=f"status.host={host}", **options))

    for name in ("c", "a", "b"):
        await create(memory_store, INSTANCE, instance(name))
        await bind(name, "h1")
    assert await on(memory_store, "h1") == ["a", "b", "c"]
    await bind("b", "h2")
    assert (await on(memory_store, "h1"), await on(memory_store, "h2")) == (["a", "c"], ["b"])
    await bind("a", None)
    gone = await memory_store.delete(INSTANCE, "demo", "c", actor=ADMIN)
    assert gone is not None
    await memory_store.finalize(INSTANCE, "demo", "c", gone.wire["metadata"]["finalizers"], actor=CONTROLLER)
    assert (await on(memory_store, "h1"), await on(memory_store, "")) == ([], ["a"])
    await bind("a", "h2")
    page = await memory_store.list(INSTANCE, field_selector="status.host=h2", limit=1)
    assert names(page) == ["a"]
    assert await on(memory_store, "h2", limit=1, continue_=page.continue_) == ["b"]
    assert await on(memory_store, "h2", project="other") == []
    async with Store(memory_etcd) as other:
        assert await on(other, "h2") == ["a", "b"]


@pytest.mark.parametrize("token", ["x", "%%%", base64.urlsafe_b64encode(b'{"a":1}').decode(), "W10=", "WzAsImEiXQ=="])
async def test_a_made_up_token_is_a_bad_request(memory_store: Store, token: str) -> None:
    with pytest.raises(BadRequest):
        await memory_store.list(NETWORK, continue_=token)


async def test_a_list_shows_the_writes_of_another_store_at_once(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_project(memory_store)
    async with Store(memory_etcd) as other:
        for i in range(20):
            await make_network(memory_store, f"n{i}")
            assert len((await other.list(NETWORK)).items) == i + 1
            assert await other.get(NETWORK, "demo", f"n{i}")


async def test_reads_say_unavailable_when_etcd_does_not_answer(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    def cut(call: str, phase: str) -> None:
        raise EtcdUnavailable("cut")

    memory_etcd.hook = cut
    with pytest.raises(Unavailable):
        await memory_store.list(PROJECT)
    memory_etcd.hook = lambda call, phase: None
    assert (await memory_store.list(PROJECT)).items == []


async def test_reads_say_unavailable_when_the_cache_does_not_catch_up(memory_etcd: MemoryEtcd) -> None:
    settings = StoreSettings(cache=CacheSettings(freshness_seconds=1, nudge_seconds=60))
    async with Store(memory_etcd, settings=settings) as store:
        # A key beyond our prefix raises the revision without an event for us.
        await memory_etcd.put(b"/elsewhere", b"")
        with pytest.raises(Unavailable):
            await store.list(PROJECT)
        await make_project(store)
        assert names(await store.list(PROJECT)) == ["demo"]


async def test_a_page_ends_before_it_becomes_too_large(any_store: Store, any_etcd: Any) -> None:
    """By its bytes, in the present and the past, and what remains is told rightly; who wants no pages gets all."""
    await fill(any_store)
    size = sum(len(item) for item in (await any_store.list(NETWORK)).items[:3])
    async with Store(any_etcd, settings=StoreSettings(page_bytes=size)) as store:
        first = await store.list(NETWORK, limit=7)
        assert (names(first), first.remaining) == (["n0", "n1", "n2"], 4)
        second = await store.list(NETWORK, limit=7, continue_=first.continue_)
        assert names(second) == ["n3", "n4", "n5"]
        await make_network(any_store, "later")
        past = await store.list(NETWORK, limit=7, continue_=first.continue_)
        assert (past.items, past.remaining) == (second.items, 1)
        assert len((await store.list(NETWORK)).items) == 8
    async with Store(any_etcd, settings=StoreSettings(page_bytes=1)) as store:
        assert len(await walk(store, limit=100)) == 8


async def test_a_list_for_some_projects_looks_through_no_others(any_store: Store) -> None:
    """In the order of all, page by page, in the present and the past."""
    for project in ("a", "a-b", "b", "c"):
        await make_project(any_store, project)
        for name in ("one", "two"):
            await make_network(any_store, name, project)
    seen: list[str] = []

    def visible(wire: Any) -> bool:
        seen.append(wire["metadata"]["project"])
        return True

    def places(page: ListPage) -> list[str]:
        metadata = [orjson.loads(item)["metadata"] for item in page.items]
        return [f"{m['project']}/{m['name']}" for m in metadata]

    options: Any = {"visible": visible, "projects": frozenset({"c", "a", "a-b", "gone"})}
    whole = await any_store.list(NETWORK, **options)
    assert places(whole) == [f"{p}/{n}" for p in ("a-b", "a", "c") for n in ("one", "two")]
    pages = await walk(any_store, limit=2, **options)
    assert [places(p) for p in pages] == [places(whole)[i : i + 2] for i in (0, 2, 4)]
    first = await any_store.list(NETWORK, limit=2, **options)
    await make_network(any_store, "later", "b")
    assert places(await any_store.list(NETWORK, continue_=first.continue_, **options)) == places(whole)[2:]
    assert "b" not in seen
