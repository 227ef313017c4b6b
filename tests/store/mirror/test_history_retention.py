"""Old versions go from history, and what they would have told is refused instead of told wrongly."""

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fakes.manual_clock import BEGINNING as BEGIN
from tests.fakes.manual_clock import ManualClock
from tests.fixtures.postgres import PostgresServer
from vcstack.specs.errors import Expired, NotFound
from vcstack.specs.reach import Reach
from vcstack.specs.resource import Ref
from vcstack.store.mirror import retention
from vcstack.store.mirror.database import ensure_database, ensure_schema, open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.records import Change
from vcstack.store.mirror.retention import HistoryRetention
from vcstack.store.mirror.writer import MirrorWriter

pytestmark = pytest.mark.daemons

WEB = Ref("Network", "demo", "web")
DB = Ref("Network", "demo", "db")


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def version(ref: Ref, revision: int, at: float, *, uid: str = "", status: int | None = None, mtu: int = 0) -> Change:
    """The object as it is from the revision on; every one differs in its spec, or in its status if given."""
    wire = {
        "kind": ref.kind,
        "metadata": {"project": ref.project, "name": ref.name, "uid": uid or ref.name},
        "spec": {"mtuBytes": mtu or (revision if status is None else 1)},
        "status": {"mtuBytes": status or 0},
    }
    return Change(ref, revision, wire, actor(at))


def removal(ref: Ref, revision: int, at: float) -> Change:
    return Change(ref, revision, None, actor(at))


def actor(at: float) -> dict[str, str]:
    return {"subject": "user:bob", "manager": "vcctl", "time": day(at).isoformat()}


async def write(engine: AsyncEngine, *changes: Change) -> None:
    writer = MirrorWriter(engine)
    for change in sorted(changes, key=lambda each: each.revision):
        await writer.write([change], change.revision)


async def sweep(engine: AsyncEngine, now: float, *, days: int = 90, versions: int = 1000) -> int:
    clock = ManualClock()
    clock.skip((day(now) - BEGIN).total_seconds())
    return await HistoryRetention(engine, "", clock, days=days, versions=versions).sweep()


async def left(engine: AsyncEngine, ref: Ref = WEB) -> list[int]:
    return [each.revision for each in await HistoryReader(engine).list_revisions(ref, limit=500)][::-1]


async def was(engine: AsyncEngine, revision: int, ref: Ref = WEB, **own: Any) -> str | int:
    """What the object was: its mtu, or that there was none, or that this is not told any more."""
    try:
        return int((await HistoryReader(engine).get_at_revision(ref, revision, **own))["spec"]["mtuBytes"])
    except Expired as error:
        (cause,) = error.causes
        assert cause.field == "query.atRevision"
        return f"gone, {cause.message}"
    except NotFound:
        return "none"


async def test_the_newest_that_is_older_than_the_days_stays_and_what_was_before_it_is_refused(
    engine: AsyncEngine,
) -> None:
    await write(engine, version(WEB, 10, 0), version(WEB, 20, 1), version(WEB, 30, 2), version(WEB, 40, 50))
    assert await sweep(engine, 90.5) == 0, "it was so within the days"
    assert await sweep(engine, 93) == 2
    assert await left(engine) == [30, 40]
    assert [await was(engine, revision) for revision in (40, 39, 30)] == [40, 30, 30]
    assert await was(engine, 29) == "gone, must be 30 or later"
    assert await was(engine, 5) == "gone, must be 30 or later"
    assert await sweep(engine, 93) == 0
    assert await sweep(engine, 1000) == 1, "of what there is the newest stays, however old"
    assert await left(engine) == [40]


async def test_all_of_what_was_deleted_goes_when_that_is_older_than_the_days(engine: AsyncEngine) -> None:
    await write(engine, version(WEB, 10, 0), version(WEB, 20, 1), removal(WEB, 30, 2), version(DB, 40, 80))
    assert await sweep(engine, 91.5) == 1
    assert await left(engine) == [20, 30]
    assert await sweep(engine, 92.5) == 2
    assert await left(engine) == []
    assert await was(engine, 30) == "none"
    assert await was(engine, 29) == "gone, must be 30 or later"
    assert await HistoryReader(engine).find_reach(WEB) == Reach(30, lacks=False)
    # Of what never was it cannot be known any more, later on it can.
    assert await was(engine, 39, DB) == "none"
    assert await was(engine, 29, DB) == "gone, must be 30 or later"


async def test_how_far_back_all_reaches_is_as_far_as_what_went_of_any_name(engine: AsyncEngine) -> None:
    await write(engine, version(DB, 12, 0), version(DB, 15, 1), version(WEB, 20, 1), removal(WEB, 30, 2))
    assert await sweep(engine, 100) == 3
    assert await was(engine, 29) == "gone, must be 30 or later"
    assert await was(engine, 15, DB) == 15
    assert await was(engine, 14, DB) == "gone, must be 15 or later"


async def test_what_is_newer_stays_though_its_revision_is_lower(engine: AsyncEngine) -> None:
    # A store that was restored from a backup counts from a lower one again.
    older = [version(WEB, 5, 0), version(WEB, 10, 0), version(WEB, 30, 1)]
    await write(engine, *older, version(WEB, 20, 50), version(WEB, 40, 51))
    assert await sweep(engine, 100) == 1
    assert await left(engine) == [10, 20, 30, 40]
    assert await sweep(engine, 140.5) == 2


async def test_an_earlier_life_of_the_name_goes_by_itself(engine: AsyncEngine) -> None:
    first = [version(WEB, 10, 0, uid="one"), removal(WEB, 20, 1)]
    await write(engine, *first, version(WEB, 30, 80, uid="two"), version(WEB, 40, 81, uid="two"))
    assert await sweep(engine, 100) == 2
    assert await left(engine) == [30, 40]
    assert [await was(engine, revision) for revision in (30, 29, 20)] == [30, "none", "none"]
    assert await was(engine, 15) == "gone, must be 20 or later"


async def test_of_one_name_so_many_stay_at_most_and_others_are_not_concerned(engine: AsyncEngine) -> None:
    await write(engine, *(version(WEB, revision, 1) for revision in range(10, 20)), version(DB, 5, 1))
    before = removed("number")
    assert await sweep(engine, 2, versions=4) == 6
    assert removed("number") - before == 6
    assert await left(engine) == [16, 17, 18, 19]
    assert await was(engine, 16) == 16
    assert await was(engine, 15) == "gone, must be 16 or later"
    assert await HistoryReader(engine).find_reach(WEB) == Reach(16, lacks=True)
    assert await was(engine, 4, DB) == "none"
    assert await HistoryReader(engine).find_reach(DB) is None
    await write(engine, version(WEB, 20, 1))
    assert await sweep(engine, 2, versions=4) == 1
    assert await was(engine, 16) == "gone, must be 17 or later"
    # When its age would have taken them as well, it need not be noted any more.
    assert await sweep(engine, 100, versions=4) == 3
    assert await was(engine, 19) == "gone, must be 20 or later"
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT * FROM history_cuts"))).all() == []


def removed(why: str) -> float:
    return REGISTRY.get_sample_value("vcstack_history_removed_total", {"why": why}) or 0


async def test_what_went_of_another_ones_object_of_that_name_says_nothing_to_who_has_it_now(
    engine: AsyncEngine,
) -> None:
    old = [version(WEB, revision, 1, uid="old") for revision in range(10, 15)]
    await write(engine, *old, removal(WEB, 20, 2), version(WEB, 30, 4, uid="new"))
    assert await sweep(engine, 5, versions=4) == 3
    assert await was(engine, 10) == "gone, must be 13 or later"
    reader = HistoryReader(engine)
    for own in ({"since": day(3)}, {"uid": "new"}):
        assert await was(engine, 10, **own) == "none"
        assert await reader.find_reach(WEB, **own) is None  # type: ignore[arg-type]
    assert await reader.find_project_reach("demo", since=day(3)) is None
    assert await sweep(engine, 93.5) == 3
    assert await reader.find_project_reach("demo", since=day(3.5)) is None
    found = await reader.find_project_reach("demo", since=day(3))
    assert found is not None
    assert (found.revision, found.time, found.cuts) == (20, day(3.5), 0)


async def test_the_timeline_tells_of_an_object_whose_changes_were_too_many(engine: AsyncEngine) -> None:
    reports = [version(WEB, revision, 3, status=revision, mtu=1400) for revision in range(30, 35)]
    await write(engine, version(WEB, 10, 1), version(WEB, 20, 2, mtu=1400), version(DB, 25, 2), *reports)
    reader = HistoryReader(engine)

    async def lines(**page: Any) -> list[tuple[int, str]]:
        found = await reader.list_of_project("demo", since=BEGIN, **page)
        return [(each.revision, each.ref.name) for each in found]

    assert await lines() == [(25, "db"), (20, "web"), (10, "web")]
    assert await reader.find_project_reach("demo", since=BEGIN) is None
    await sweep(engine, 4, versions=3)
    assert await lines() == [(32, "web"), (25, "db")]
    assert await lines(limit=1) == [(32, "web")]
    assert await lines(before=32) == [(25, "db")]
    found = await reader.find_project_reach("demo", since=BEGIN)
    assert found is not None
    assert (found.revision, found.time, found.cuts) == (0, None, 32)
    other = await reader.find_project_reach("other", since=BEGIN)
    assert other is None


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happened_nothing_is_told_otherwise_than_before(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(retention, "PAGE_NAMES", 2)
    monkeypatch.setattr(retention, "PAGE_VERSIONS", 3)
    dice = random.Random(seed)
    names = [Ref("Network", "demo", f"n{number}") for number in range(5)]
    there: dict[Ref, str] = {}
    changes: list[Change] = []
    for revision in range(1, 80):
        ref = dice.choice(names[: 1 + revision % 5])
        at = revision + dice.uniform(-1, 1)  # clocks of several machines differ
        if ref in there and dice.random() < 0.25:
            changes.append(removal(ref, revision, at))
            del there[ref]
        else:
            uid = there.setdefault(ref, f"uid-{revision}")
            changes.append(version(ref, revision, at, uid=uid))
    await write(engine, *changes)
    moments = range(1, 81)
    told = {ref: [await was(engine, revision, ref) for revision in moments] for ref in names}
    cut = 40
    await sweep(engine, 90 + cut, versions=dice.choice((4, 8, 1000)))
    for ref in names:
        kept = await left(engine, ref)
        for revision, before in zip(moments, told[ref], strict=True):
            now = await was(engine, revision, ref)
            if now == before:
                continue
            oldest = int(str(now).removeprefix("gone, must be ").removesuffix(" or later"))
            assert revision < oldest
            assert await was(engine, oldest, ref) == told[ref][oldest - 1], "that can be had"
            by_number = kept and min(kept) > cut + 2
            assert by_number or revision <= cut + 2, "it was so within the days"
    assert await sweep(engine, 90 + cut) == 0


async def test_a_large_table_goes_in_small_transactions_and_what_broke_off_is_done_by_the_next(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE_VERSIONS", 10)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO history SELECT 'Network', 'demo', 'n' || n % 50, n, 'u', 'Updated', 'a', 'm', :begin,"
                " '{}', '[]' FROM generate_series(1, 20000) n"
            ),
            {"begin": BEGIN},
        )
    sizes: list[int] = []
    remove = retention._remove

    async def watched(connection: Any, cuts: Any) -> int:
        size = await remove(connection, cuts)
        sizes.append(size)
        if len(sizes) == 30:
            raise asyncio.CancelledError
        return size

    monkeypatch.setattr(retention, "_remove", watched)
    with pytest.raises(asyncio.CancelledError):
        await sweep(engine, 200)
    async with engine.connect() as connection:
        rest = (await connection.execute(text("SELECT count(*) FROM history"))).scalar_one()
    assert 50 < rest < 20_000
    # Two at once do no harm.
    counts = await asyncio.gather(sweep(engine, 200), sweep(engine, 200))
    assert sum(counts) == rest - 50
    assert max(sizes) <= 200
    assert await left(engine, Ref("Network", "demo", "n7")) == [19957]


async def test_while_postgresql_is_away_it_waits(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.dsn("mirrored")
    engine = open_engine(dsn)
    clock = ManualClock()
    clock.skip(timedelta(days=93).total_seconds())
    own_postgres.stop()
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(HistoryRetention(engine, dsn, clock).run())
        async with asyncio.timeout(60):
            while not logs:
                await asyncio.sleep(0.01)
    assert logs[0]["event"] == "history's retention waits"
    own_postgres.start()
    await ensure_database(dsn)
    await ensure_schema(engine)
    await write(engine, version(WEB, 10, 0), version(WEB, 20, 1))
    async with asyncio.timeout(60):
        while await left(engine) != [20]:
            await clock.advance(retention.RETRY_SECONDS)
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await engine.dispose()
