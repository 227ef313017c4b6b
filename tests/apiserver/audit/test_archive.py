"""The trail in a real PostgreSQL: shipped, found, exported, verified; tampered with; down; expired."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.apiserver.audit.conftest import Audited, Open
from tests.apiserver.audit.trails import audit_settings, verified
from tests.fakes.manual_clock import ManualClock
from tests.fixtures.api import create_samples
from tests.fixtures.postgres import PostgresServer
from vcstack.apiserver.audit.segments import list_segments
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.specs.audit import Anchor, AuditFilter, Problem
from vcstack.specs.errors import Unavailable
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine

pytestmark = pytest.mark.daemons

NETWORKS = "/api/v1/projects/demo/networks"
COUNT = 12


@pytest.fixture
async def shipped(open_audited: Open, archive: AuditArchive) -> AsyncIterator[Audited]:
    """A server whose trail of some creates is in PostgreSQL."""
    async with open_audited(archive) as audited:
        await create_samples(audited.api, "Project")
        async with audited.api.raw() as http:
            for n in range(COUNT):
                assert (await http.post(NETWORKS, json={"metadata": {"name": f"n-{n}"}, "spec": {}})).status_code == 201
        await audited.trail.flush()
        await audited.trail.shipper.ship()
        await audited.trail.anchor()
        yield audited


async def get(audited: Audited, path: str, **params: Any) -> Any:
    async with audited.api.raw() as http:
        answer = await http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer


async def problems(audited: Audited) -> set[str]:
    report = (await get(audited, "/api/v1/audit/verify")).json()
    assert report["intact"] is (not report["findings"])
    return {f["problem"] for f in report["findings"]}


async def change(engine: AsyncEngine, statement: str, **values: Any) -> None:
    async with engine.begin() as connection:
        assert (await connection.execute(text(statement), values)).rowcount > 0


async def test_records_are_found_by_who_what_and_when(shipped: Audited) -> None:
    page = (await get(shipped, "/api/v1/audit", kind="Network", limit=5)).json()
    assert [r["name"] for r in page["items"]] == [f"n-{n}" for n in range(COUNT - 1, COUNT - 6, -1)]
    rest = (await get(shipped, "/api/v1/audit", kind="Network", **{"continue": page["metadata"]["continue"]})).json()
    assert [r["name"] for r in rest["items"]] == [f"n-{n}" for n in range(COUNT - 6, -1, -1)]
    assert "continue" not in rest["metadata"]
    since = page["items"][0]["time"]
    assert len((await get(shipped, "/api/v1/audit", kind="Network", since=since)).json()["items"]) == 1
    assert len((await get(shipped, "/api/v1/audit", kind="Network", until=since)).json()["items"]) == COUNT - 1
    for found in ({"subject": "admin", "name": "n-3"}, {"requestId": page["items"][0]["requestId"]}):
        assert len((await get(shipped, "/api/v1/audit", **found)).json()["items"]) == 1
    assert (await get(shipped, "/api/v1/audit", subject="user:nobody")).json()["items"] == []


async def test_an_export_is_verified_by_itself(shipped: Audited) -> None:
    lines = (await get(shipped, "/api/v1/audit/export")).content.split(b"\n")[:-1]
    assert verified(lines, shipped.trail.anchors.read()).intact
    assert sum(json.loads(line).get("kind") == "Network" for line in lines) == COUNT


async def test_who_reads_the_trail_stands_in_it(shipped: Audited) -> None:
    await get(shipped, "/api/v1/audit/export")
    assert (shipped.records[-1]["verb"], shipped.records[-1]["subject"]) == ("audit/export", "admin")


@pytest.mark.parametrize("path", ["", "/export", "/verify", "/anchors", "/nothing"])
async def test_hosts_and_nobody_do_not_read_the_trail(shipped: Audited, path: str) -> None:
    settings = await shipped.api.register("h1")
    for caller, code in ((settings, 403), (shipped.api.settings(token=None), 401)):
        async with shipped.api.raw(caller) as http:
            assert (await http.get(f"/api/v1/audit{path}")).status_code == code


@pytest.mark.parametrize(
    "params",
    [{"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"continue": "x"}, {"limit": 0}, {"user": "a"},
     {"name": "a\x00b"}, {"continue": "WyJhIiwiYiIsLTFd"},
     {"continue": "WyJhIiwiYiIsdHJ1ZV0="}],
)  # fmt: skip
async def test_a_wrong_query_is_refused(shipped: Audited, params: dict[str, Any]) -> None:
    async with shipped.api.raw() as http:
        assert (await http.get("/api/v1/audit", params=params)).status_code == 400


async def test_an_untouched_archive_is_intact(shipped: Audited) -> None:
    assert await problems(shipped) == set()


async def test_what_was_anchored_a_moment_ago_is_not_missing(shipped: Audited, archive: AuditArchive) -> None:
    """By this process, and by one that is gone: neither has been moved yet."""
    settings = shipped.trail.settings
    async with Trail(settings, SystemClock(), None, archive) as gone:
        gone._note({"verb": "test"})
    async with shipped.api.raw() as http:
        assert (await http.post(NETWORKS, json={"metadata": {"name": "late"}, "spec": {}})).status_code == 201
    await shipped.trail.anchor()
    assert await problems(shipped) == set()
    anchors = (await get(shipped, "/api/v1/audit/anchors")).content
    exported = (await get(shipped, "/api/v1/audit/export")).content.splitlines()
    assert verified(exported, [Anchor.from_wire(line) for line in anchors.splitlines()]).intact


async def test_a_changed_record_is_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    await change(archive_engine, "UPDATE audit SET record = replace(record, 'n-4', 'n-9') WHERE name = 'n-4'")
    assert Problem.CHANGED in await problems(shipped)


async def test_a_removed_record_is_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    await change(archive_engine, "DELETE FROM audit WHERE name = 'n-4'")
    assert await problems(shipped) == {Problem.REMOVED}


async def test_a_cut_off_end_is_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    await change(archive_engine, "DELETE FROM audit WHERE name IN ('n-10', 'n-11')")
    assert await problems(shipped) == {Problem.TRUNCATED}


async def test_a_removed_beginning_is_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    await change(archive_engine, "DELETE FROM audit WHERE seq <= 3")
    assert await problems(shipped) == {Problem.REMOVED}


async def test_an_emptied_archive_is_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    await change(archive_engine, "DELETE FROM audit")
    assert await problems(shipped) == {Problem.TRUNCATED}


async def test_exchanged_records_are_found(shipped: Audited, archive_engine: AsyncEngine) -> None:
    def renumber(old: int, new: int) -> str:
        return rf"""UPDATE audit SET record = replace(record, '"seq"\:{old},', '"seq"\:{new},') WHERE seq = {old}"""

    for old, new in ((5, 999), (6, 5), (999, 6)):
        await change(archive_engine, renumber(old, new))
    assert Problem.CHANGED in await problems(shipped)


async def test_what_queries_find_by_cannot_be_changed_by_itself(shipped: Audited, archive_engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError, match="generated column"):
        await change(archive_engine, "UPDATE audit SET subject = 'user:innocent' WHERE name = 'n-4'")


async def test_the_cloud_works_on_without_postgres_and_the_archive_catches_up(
    open_audited: Open, own_postgres: PostgresServer
) -> None:
    dsn = own_postgres.dsn("trail")
    engine = open_engine(dsn)
    archive = AuditArchive(engine, dsn)
    try:
        async with open_audited(archive) as audited:
            await create_samples(audited.api, "Project")
            async with audited.api.raw() as http:
                await http.post(NETWORKS, json={"metadata": {"name": "before"}, "spec": {}})
                await audited.trail.flush()
                await audited.trail.shipper.ship()
                own_postgres.stop()
                made = await http.post(NETWORKS, json={"metadata": {"name": "meanwhile"}, "spec": {}})
                assert made.status_code == 201
                assert (await http.get("/api/v1/audit")).status_code == 503
                own_postgres.start()
                async with asyncio.timeout(60):
                    while "meanwhile" not in (await http.get("/api/v1/audit")).text:
                        await asyncio.sleep(0.2)
            assert await problems(audited) == set()
    finally:
        await engine.dispose()


async def test_a_database_that_was_lost_is_filled_again(
    shipped: Audited, archive: AuditArchive, archive_engine: AsyncEngine
) -> None:
    async with shipped.trail.shipper._turn():  # nothing is moved meanwhile
        await change(archive_engine, "DELETE FROM audit WHERE seq > 4")
        left = [r.encode() async for r in archive.scan(AuditFilter())]
        assert not verified(left, shipped.trail.anchors.read()).intact
        shipped.trail.shipper.forget()
    await shipped.trail.flush()
    await shipped.trail.shipper.ship()
    assert await problems(shipped) == set()


async def test_the_chain_of_a_process_that_is_gone_is_shipped_by_another(tmp_path: Path, archive: AuditArchive) -> None:
    first, second = (Trail(audit_settings(tmp_path), SystemClock()) for _ in range(2))
    async with first as one, second as two:
        names = {one.chain.name, two.chain.name}
    # And perhaps one without records: where the first looked for chains just when the second began one.
    there = {path.name for path in audit_settings(tmp_path).folder.iterdir() if path.is_dir()}
    async with Trail(audit_settings(tmp_path), SystemClock(), None, archive) as three:
        await three.flush()
        await three.shipper.ship()
        async with asyncio.timeout(60):
            while not names <= {json.loads(r)["chain"] async for r in archive.scan(AuditFilter())}:
                await asyncio.sleep(0.1)
        assert three.chain.name in there, "it goes on with one of these"


async def test_retention_tells_what_it_removes_and_the_rest_verifies(tmp_path: Path, archive: AuditArchive) -> None:
    clock = ManualClock()
    settings = audit_settings(tmp_path, retention_days=30)
    async with Trail(settings, clock, None, archive) as trail:
        await trail.flush()
        await trail.shipper.ship()
        clock.skip(60 * 86_400)
        await trail.shipper.look_after_retention()
        await trail.flush()
        await trail.shipper.ship()
        await trail.shipper.look_after_retention()
        records = [json.loads(r) async for r in archive.scan(AuditFilter())]
        assert [r["verb"] for r in records] == ["expire"]
        assert records[0]["cuts"][0]["seq"] == 1
        lines = [r.encode() async for r in archive.scan(AuditFilter())]
        assert verified(lines, trail.anchors.read()).intact


async def test_old_segments_go_once_they_are_shipped(tmp_path: Path, archive: AuditArchive) -> None:
    settings = audit_settings(tmp_path, segment_mib=1, local_days=1)
    async with Trail(settings, SystemClock(), None, archive) as trail:
        for n in range(3):
            trail._note({"verb": "test", "padding": "x" * 2**20, "n": n})
        for segment in list_segments(trail.chain.folder):
            os.utime(segment.path, (0, 0))
        await trail.flush()
        await trail.shipper.ship()
        await trail.shipper.look_after_segments()
        assert len(list_segments(trail.chain.folder)) == 1
        last = trail.chain.seq
    async with Trail(settings, SystemClock(), None, archive) as trail:
        assert trail.chain.seq == last + 2  # stop, start
        await trail.flush()
        await trail.shipper.ship()
    assert verified([r.encode() async for r in archive.scan(AuditFilter())]).intact


async def test_an_archive_that_never_answers_keeps_no_request(tmp_path: Path) -> None:
    dsn = f"postgresql://nobody@/none?host={tmp_path}"
    engine = open_engine(dsn)
    with contextlib.suppress(Unavailable):
        async with Trail(audit_settings(tmp_path), SystemClock(), None, AuditArchive(engine, dsn)) as trail:
            assert trail.chain.seq == 1
    await engine.dispose()
