"""The mirror against a real etcd and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.etcd import EtcdServer
from tests.fixtures.mirrors import reached, running
from tests.fixtures.postgres import PostgresServer
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.resource import Ref
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.ops import Delete, Put
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.mirror.records import TOMBSTONE

pytestmark = pytest.mark.daemons

ALICE = {"subject": "alice", "manager": "vcctl", "time": "2026-01-02T03:04:05Z"}
WEB = Ref("Network", "demo", "web")


def stored(name: str = "web", generation: int = 1, uid: str = "net-1", **rest: Any) -> bytes:
    meta = {"project": "demo", "name": name, "uid": uid, "generation": generation}
    return orjson.dumps({"kind": "Network", "metadata": meta, "spec": {}, "status": {}, "actor": ALICE, **rest})


def key(name: str = "web") -> bytes:
    return f"/vcstack/networks/demo/{name}".encode()


@pytest.fixture
async def engine(postgres_dsn: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(postgres_dsn)
    yield made
    await made.dispose()


async def rows(engine: AsyncEngine, query: str) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(r) for r in await connection.execute(text(query))]


async def test_objects_appear_with_their_history_and_typed_view(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
        last = await etcd_client.put(key(), stored(generation=2, spec={"mtuBytes": 1400}, status={"mtuBytes": 1400}))
        await reached(mirror, last.revision)
        assert await rows(engine, "SELECT project, name, uid, mtu_bytes, generation FROM networks") == [
            ("demo", "web", "net-1", 1400, 2)
        ]
        history = await HistoryReader(engine).list_revisions(WEB)
    assert [(h.operation, h.actor, h.manager) for h in history] == [
        ("Updated", "alice", "vcctl"),
        ("Created", "alice", "vcctl"),
    ]
    assert {"path": "spec.mtuBytes", "old": None, "new": 1400} in history[0].diff


async def test_an_object_is_read_as_it_was_at_a_revision(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    reader = HistoryReader(engine)
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, await etcd_client.current_revision())
        first = (await etcd_client.put(key(), stored())).revision
        second = (await etcd_client.put(key(), stored(spec={"mtuBytes": 1400}))).revision
        gone = (await etcd_client.delete(key())).revision
        await reached(mirror, gone)
        past = await reader.get_at_revision(WEB, first)
        assert past["spec"] == {}
        # PostgreSQL keeps keys in an order of its own; people read it as any other object.
        assert list(past) == ["kind", "metadata", "spec", "status"]
        assert (await reader.get_at_revision(WEB, second))["spec"] == {"mtuBytes": 1400}
        for revision in (gone, first - 1):
            with pytest.raises(NotFound):
                await reader.get_at_revision(WEB, revision)


async def test_a_removal_names_who_did_it(etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
        stone = orjson.dumps({"key": key().decode(), "actor": {"subject": "bob", "manager": "vcctl"}})
        gone = await etcd_client.txn([], [Delete(key()), Put(TOMBSTONE, stone)])
        await reached(mirror, gone.revision)
        newest = (await HistoryReader(engine).list_revisions(WEB))[0]
    assert (newest.operation, newest.actor, newest.uid) == ("Deleted", "bob", "net-1")
    assert not await rows(engine, "SELECT * FROM networks")


async def test_what_happened_while_the_mirror_was_down_is_caught_up(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
    for generation in range(2, 6):
        last = await etcd_client.put(key(), stored(generation=generation, spec={"mtuBytes": 1300 + generation}))
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, last.revision)
    assert len(await HistoryReader(engine).list_revisions(WEB)) == 5


async def test_compaction_while_down_leads_to_a_new_listing_that_finds_removed_objects(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await etcd_client.put(key("old"), stored("old"))
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
    await etcd_client.delete(key("old"))
    await etcd_client.put(key("new"), stored("new"))
    last = await etcd_client.put(key(), stored(spec={"mtuBytes": 1400}))
    await etcd_client.compact(last.revision)
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, last.revision)
    assert await rows(engine, "SELECT name, (object #>> '{spec,mtuBytes}') FROM resources ORDER BY name") == [
        ("new", None),
        ("web", "1400"),
    ]
    assert (await HistoryReader(engine).list_revisions(Ref("Network", "demo", "old")))[0].operation == "Deleted"
    assert len(await HistoryReader(engine).list_revisions(WEB)) == 2


async def test_a_dropped_database_is_made_and_filled_again(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str, postgres_server: PostgresServer
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
        postgres_server.drop("mirrored")
        last = await etcd_client.put(key("two"), stored("two"))
        await reached(mirror, last.revision)
        assert await rows(engine, "SELECT name FROM networks ORDER BY name") == [("two",), ("web",)]


async def test_the_history_of_a_project_has_all_kinds_and_pages_but_no_reports_of_status(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, await etcd_client.current_revision())
        await etcd_client.put(key("a"), stored("a"))
        await etcd_client.put(key("a"), stored("a", status={"x": 1}))
        project = orjson.dumps(
            {"kind": "Project", "metadata": {"name": "demo", "uid": "p-1", "generation": 1}, "spec": {}, "actor": ALICE}
        )
        await etcd_client.put(b"/vcstack/projects/-/demo", project)
        other = stored("b").replace(b'"project":"demo"', b'"project":"other"')
        await etcd_client.put(b"/vcstack/networks/other/b", other)
        await reached(mirror, (await etcd_client.put(key("c"), stored("c"))).revision)
        reader, ever = HistoryReader(engine), datetime(2000, 1, 1, tzinfo=UTC)
        found = await reader.list_of_project("demo", since=ever)
        page = await reader.list_of_project("demo", since=ever, limit=1, before=found[0].revision)
        none = await reader.list_of_project("demo", since=datetime(2030, 1, 1, tzinfo=UTC))
    refs = [Ref("Network", "demo", "c"), Ref("Project", None, "demo"), Ref("Network", "demo", "a")]
    assert [f.ref for f in found] == refs
    assert [f.ref for f in page] == refs[1:2]
    assert none == []
    assert {"kind": "Network", "project": "demo", "name": "c", "operation": "Created"}.items() <= found[
        0
    ].to_wire().items()


async def test_a_page_of_a_projects_history_ends_with_a_revision_and_not_within_it(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, await etcd_client.current_revision())
        await etcd_client.put(key("a"), stored("a"))
        await etcd_client.txn([], [Put(key(name), stored(name)) for name in ("c", "b", "d")])
        await reached(mirror, (await etcd_client.put(key("e"), stored("e"))).revision)
        reader, ever = HistoryReader(engine), datetime(2000, 1, 1, tzinfo=UTC)
        found = await reader.list_of_project("demo", since=ever, limit=2)
        rest = await reader.list_of_project("demo", since=ever, limit=2, before=found[-1].revision)
    assert [each.ref.name for each in found] == ["e", "b", "c", "d"]
    assert [each.ref.name for each in rest] == ["a"]


async def test_it_waits_for_postgresql_and_history_says_so(
    etcd_client: EtcdClient, own_postgres: PostgresServer
) -> None:
    engine = open_engine(own_postgres.dsn("mirrored"))
    async with running(Mirror(etcd_client, engine, own_postgres.dsn("mirrored"))) as mirror:
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
        own_postgres.stop()
        last = await etcd_client.put(key("two"), stored("two"))
        with pytest.raises(Unavailable):
            await HistoryReader(engine).list_revisions(WEB)
        own_postgres.start()
        await reached(mirror, last.revision)
        assert await rows(engine, "SELECT count(*) FROM networks") == [(2,)]
    await engine.dispose()


async def test_it_follows_through_a_restart_of_etcd(
    own_etcd: EtcdServer, engine: AsyncEngine, postgres_dsn: str
) -> None:
    async with EtcdClient(own_etcd.settings) as client, running(Mirror(client, engine, postgres_dsn)) as mirror:
        await reached(mirror, (await client.put(key(), stored())).revision)
        own_etcd.kill()
        own_etcd.start()
        last = await client.put(key("two"), stored("two"))
        await reached(mirror, last.revision)
    assert await rows(engine, "SELECT count(*) FROM history") == [(2,)]


async def test_two_mirrors_at_once_double_nothing(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    mirrors = [Mirror(etcd_client, engine, postgres_dsn) for _ in range(2)]
    async with running(mirrors[0]), running(mirrors[1]):
        for mirror in mirrors:
            await reached(mirror, await etcd_client.current_revision())
        for i in range(50):
            last = await etcd_client.put(
                key(f"n{i % 5}"), stored(f"n{i % 5}", generation=i, spec={"mtuBytes": 1280 + i})
            )
        for mirror in mirrors:
            await reached(mirror, last.revision)
    assert await rows(engine, "SELECT count(*) FROM history") == [(50,)]


@pytest.mark.parametrize("kill_after", [1, 2, 3, 5, 8])
async def test_killed_at_any_point_it_loses_and_doubles_nothing(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str, kill_after: int
) -> None:
    names = [f"n{i}" for i in range(40)]
    writes: list[Callable[[], Any]] = [lambda n=n: etcd_client.put(key(n), stored(n, uid=f"net-{n}")) for n in names]
    for i, write in enumerate(writes):
        if i % kill_after == 0:
            async with running(Mirror(etcd_client, engine, postgres_dsn)):
                await write()
                await asyncio.sleep(0.001 * kill_after * 7)
        else:
            await write()
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await reached(mirror, await etcd_client.current_revision())
    assert await rows(engine, "SELECT count(*), count(DISTINCT name) FROM history") == [(40, 40)]
    assert await rows(engine, "SELECT count(*) FROM networks") == [(40,)]


async def test_what_postgresql_cannot_hold_keeps_nobody_waiting(
    etcd_client: EtcdClient, engine: AsyncEngine, postgres_dsn: str
) -> None:
    odd = {"project": "demo", "name": "odd", "uid": "net-2", "annotations": {"note\0": "a\0b", "path": "C:\\u0000"}}
    async with running(Mirror(etcd_client, engine, postgres_dsn)) as mirror:
        await etcd_client.put(key("odd"), stored(metadata=odd))
        said = {"lastTime": "9999-12-31T23:59:59-01:00", "firstTime": "0001-01-01T00:00:00+01:00", "count": 2**63}
        event = stored(kind="Event", metadata={"project": "demo", "name": "e", "uid": "ev-1"}, spec=said)
        await etcd_client.put(b"/vcstack/events/demo/e", event)
        await reached(mirror, (await etcd_client.put(key(), stored())).revision)
        query = "SELECT object->'metadata'->'annotations' FROM resources WHERE name = 'odd'"
        assert await rows(engine, query) == [({"note\ufffd": "a\ufffdb", "path": "C:\\u0000"},)]
        assert len(await HistoryReader(engine).list_revisions(WEB)) == 1
