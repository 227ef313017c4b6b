"""Events stay in the mirror when the store has let them go, until their own retention is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from vcstack.specs.resource import Ref
from vcstack.store.mirror.records import Change
from vcstack.store.mirror.writer import MirrorWriter

pytestmark = pytest.mark.daemons

REF = Ref("Event", "demo", "web.1")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def event(revision: int, count: int, last: str) -> Change:
    regarding = {"kind": "Instance", "name": "web", "uid": "i-1"}
    spec = {
        "regarding": regarding, "type": "Warning", "reason": "Failed", "message": "it failed", "actor": "vc-compute",
        "count": count, "firstTime": "2026-08-01T00:00:00Z", "lastTime": last,
    }  # fmt: skip
    wire = {"kind": "Event", "metadata": {"project": "demo", "name": "web.1", "uid": "ev-1"}, "spec": spec}
    return Change(REF, revision, wire, {"subject": "system"})


async def rows(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list(await connection.execute(text("SELECT uid, count, regarding_name, revision FROM events")))


async def test_an_event_stays_as_it_was_last(engine: AsyncEngine) -> None:
    writer = MirrorWriter(engine)
    await writer.write([event(5, 1, "2026-11-20T00:00:00Z"), event(6, 2, "2026-11-21T00:00:00Z")], 6)
    await writer.write([Change(REF, 7, None, {"subject": "system"})], 7)
    assert await rows(engine) == [("ev-1", 2, "web", 6)]
    await writer.write([event(5, 1, "2026-11-20T00:00:00Z")], None)
    assert await rows(engine) == [("ev-1", 2, "web", 6)]


async def test_it_goes_when_its_retention_is_over(engine: AsyncEngine) -> None:
    writer = MirrorWriter(engine)
    await writer.write([event(5, 1, "2026-11-20T00:00:00Z")], 5)
    assert await writer.expire_events(timedelta(days=90), NOW) == 0
    assert await writer.expire_events(timedelta(days=90), NOW + timedelta(days=90)) == 1
    assert await rows(engine) == []
