"""The informer: true to list and watch, never going back, and surviving whatever breaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.feed import Feed, flavor, names
from tests.fakes.manual_clock import ManualClock, breathe
from vcstack.runtime.informer import Informer
from vcstack.specs.access import EventType
from vcstack.specs.errors import Expired, Unavailable
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.resource import Ref


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def informer(feed: Feed, clock: ManualClock) -> Informer[Flavor]:
    return Informer(feed, Flavor, clock=clock)  # type: ignore[arg-type]


@pytest.fixture
async def running(informer: Informer[Flavor]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    yield
    assert not task.done()
    task.cancel()


@pytest.fixture
def seen(informer: Informer[Flavor]) -> list[tuple[str | None, str | None]]:
    """The versions before and after of each change told to a handler."""
    told: list[tuple[str | None, str | None]] = []

    def handler(old: Flavor | None, new: Flavor | None) -> None:
        told.append((old and old.metadata.resource_version, new and new.metadata.resource_version))

    informer.add_handler(handler)
    return told


async def test_it_is_synced_after_the_first_list(feed: Feed, informer: Informer[Flavor], running: None) -> None:
    assert not informer.synced
    feed.will_list(5, flavor("a", 3), flavor("b", 5))
    await informer.wait_synced()
    assert names(informer.list()) == ["a", "b"]
    assert len(informer) == 2
    await breathe()
    assert feed.watched_since == ["5"]


async def test_events_change_the_copy_and_are_told(
    feed: Feed, informer: Informer[Flavor], running: None, seen: list[tuple[str | None, str | None]]
) -> None:
    feed.will_list(5, flavor("a", 3))
    await informer.wait_synced()
    feed.send(EventType.ADDED, flavor("b", 6), 6)
    feed.send(EventType.MODIFIED, flavor("a", 7), 7)
    feed.send(EventType.DELETED, flavor("b", 6), 8)
    await breathe()
    assert names(informer.list()) == ["a"]
    assert seen == [(None, "3"), (None, "6"), ("3", "7"), ("6", None)]


async def test_a_broken_watch_resumes_where_it_was(
    feed: Feed, informer: Informer[Flavor], running: None, clock: ManualClock
) -> None:
    feed.will_list(5)
    await informer.wait_synced()
    feed.send(EventType.BOOKMARK, None, 9)
    feed.break_watch(Unavailable("gone"))
    await clock.advance(1.0)
    feed.break_watch()  # the stream ends, as for a slow watcher
    await clock.advance(1.0)
    assert feed.watched_since == ["5", "9", "9"]
    assert feed.lists == 1


async def test_an_expired_watch_lists_again_and_tells_what_was_missed(
    feed: Feed,
    informer: Informer[Flavor],
    running: None,
    clock: ManualClock,
    seen: list[tuple[str | None, str | None]],
) -> None:
    feed.will_list(5, flavor("gone", 3), flavor("same", 4), flavor("changed", 5))
    await informer.wait_synced()
    seen.clear()
    feed.will_list(20, flavor("same", 4), flavor("changed", 15), flavor("new", 16))
    feed.break_watch(Expired("compacted"))
    await clock.advance(1.0)
    assert names(informer.list()) == ["changed", "new", "same"]
    assert sorted(seen, key=str) == [("3", None), ("5", "15"), (None, "16")]
    assert feed.watched_since == ["5", "20"]


async def test_an_object_made_anew_under_the_same_name_is_told_as_gone_and_new(
    feed: Feed,
    informer: Informer[Flavor],
    running: None,
    clock: ManualClock,
    seen: list[tuple[str | None, str | None]],
) -> None:
    feed.will_list(5, flavor("a", 3, uid="fl-1"))
    await informer.wait_synced()
    feed.will_list(9, flavor("a", 8, uid="fl-2"))
    feed.break_watch(Expired("compacted"))
    await clock.advance(1.0)
    assert seen == [(None, "3"), ("3", None), (None, "8")]


async def test_the_last_known_state_stays_while_the_store_is_away(
    feed: Feed, informer: Informer[Flavor], running: None, clock: ManualClock
) -> None:
    feed.will_list(5, flavor("a", 3))
    await informer.wait_synced()
    feed.away = True
    feed.break_watch(Expired("compacted"))
    await clock.advance(600.0)
    assert names(informer.list()) == ["a"]
    assert 10 < feed.lists < 100, "it backs off"
    feed.away = False
    feed.will_list(50, flavor("b", 40))
    await clock.advance(20.0)
    assert names(informer.list()) == ["b"]


async def test_an_error_of_ours_does_not_end_it(
    feed: Feed, informer: Informer[Flavor], running: None, clock: ManualClock
) -> None:
    feed.pages.put_nowait(RuntimeError("a fault"))
    feed.will_list(5, flavor("a", 3))
    await clock.advance(1.0)
    assert informer.synced


async def test_an_observed_write_is_there_at_once_and_its_echo_is_not_told(
    feed: Feed, informer: Informer[Flavor], running: None, seen: list[tuple[str | None, str | None]]
) -> None:
    feed.will_list(5, flavor("a", 3))
    await informer.wait_synced()
    informer.observe(flavor("a", 8))
    feed.send(EventType.MODIFIED, flavor("a", 7), 7)
    feed.send(EventType.MODIFIED, flavor("a", 8), 8)
    await breathe()
    assert seen == [(None, "3"), ("3", "8")]


async def test_an_older_write_observed_late_changes_nothing(
    feed: Feed, informer: Informer[Flavor], running: None
) -> None:
    feed.will_list(5, flavor("a", 3))
    await informer.wait_synced()
    feed.send(EventType.DELETED, flavor("a", 3), 9)
    await breathe()
    informer.observe(flavor("a", 8))
    assert informer.list() == []
    informer.observe(flavor("a", 12))
    informer.observe(flavor("a", 11))
    assert [f.metadata.resource_version for f in informer.list()] == ["12"]


async def test_an_observed_object_that_no_longer_matches_goes(
    feed: Feed, informer: Informer[Flavor], running: None
) -> None:
    feed.will_list(5, flavor("a", 3))
    await informer.wait_synced()
    informer.observe(flavor("a", 8))
    feed.send(EventType.DELETED, flavor("a", 8), 8)  # a selector: the write itself made it cease to match
    await breathe()
    assert informer.list() == []


async def test_an_observed_write_newer_than_a_list_outlives_it(
    feed: Feed, informer: Informer[Flavor], running: None, clock: ManualClock
) -> None:
    feed.will_list(5)
    await informer.wait_synced()
    informer.observe(flavor("a", 30))
    feed.will_list(20)
    feed.break_watch(Expired("compacted"))
    await clock.advance(1.0)
    assert names(informer.list()) == ["a"]


async def test_indexes_follow_every_change(feed: Feed, informer: Informer[Flavor], running: None) -> None:
    informer.add_index("zone", lambda f: f.metadata.labels.values())
    feed.will_list(5, flavor("a", 1, labels={"zone": "x"}), flavor("b", 2, labels={"zone": "x"}))
    await informer.wait_synced()
    informer.add_index("late", lambda f: [f.spec.vcpus])
    assert names(informer.by_index("late", 1)) == ["a", "b"]
    feed.send(EventType.MODIFIED, flavor("a", 6, labels={"zone": "y"}), 6)
    feed.send(EventType.DELETED, flavor("b", 2, labels={"zone": "x"}), 7)
    await breathe()
    assert names(informer.by_index("zone", "y")) == ["a"]
    assert informer.by_index("zone", "x") == []
    assert list(informer.index_values("zone")) == ["y"]


async def test_a_handler_may_be_given_what_is_there_and_can_be_removed(
    feed: Feed, informer: Informer[Flavor], running: None
) -> None:
    feed.will_list(5, flavor("a", 1))
    await informer.wait_synced()
    told: list[str] = []
    remove = informer.add_handler(lambda old, new: told.append(str(new and new.metadata.name)), replay=True)
    remove()
    feed.send(EventType.ADDED, flavor("b", 6), 6)
    await breathe()
    assert told == ["a"]


async def test_find_looks_up_by_name(feed: Feed, informer: Informer[Flavor], running: None) -> None:
    feed.will_list(5, flavor("a", 1))
    await informer.wait_synced()
    assert informer.find("a") is informer.get(Ref("Flavor", None, "a"))
    assert informer.find("b") is None
