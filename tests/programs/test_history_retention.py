"""A manager removes old versions from history, as its settings say."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.apiserver.test_management import START_SECONDS, Manager, config_for, etcd, state
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.ports import free_port
from vcstack.programs.settings import SettingsError, load_settings
from vcstack.store.mirror.tables import HISTORY

__all__ = ["etcd", "state"]


async def record(engine: AsyncEngine, name: str, revisions: range, time: datetime) -> None:
    place = {"kind": "Network", "project": "demo", "name": name, "uid": name, "operation": "Updated"}
    same = {**place, "actor": "user:bob", "manager": "vcctl", "recorded_at": time, "object": {}, "diff": []}
    async with engine.begin() as connection:
        await connection.execute(insert(HISTORY), [{**same, "revision": revision} for revision in revisions])


async def left(engine: AsyncEngine) -> list[tuple[str, int]]:
    query = select(HISTORY.c.name, HISTORY.c.revision).where(HISTORY.c.kind == "Network")
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(query.order_by(HISTORY.c.name, HISTORY.c.revision))]


@pytest.mark.daemons
@pytest.mark.timeout(600)
async def test_what_is_too_old_and_what_is_too_much_goes(
    state: Path, etcd: EtcdServer, engine: AsyncEngine, postgres_dsn: str
) -> None:
    now, port = datetime.now(UTC), free_port()
    await record(engine, "many", range(1, 7), now)
    await record(engine, "old", range(1, 4), now - timedelta(days=9))
    settings = config_for(state, etcd.endpoint, port)
    settings["postgres"] = {"dsn": postgres_dsn, "historyDays": 7, "historyVersions": 4}
    config = state / "management.yaml"
    config.write_text(yaml.safe_dump(settings))
    manager = Manager(state, config, port)
    try:
        async with asyncio.timeout(START_SECONDS):
            while await left(engine) != [("many", 3), ("many", 4), ("many", 5), ("many", 6), ("old", 3)]:
                assert manager.process.poll() is None, manager.log.read_text()[-3000:]
                await asyncio.sleep(0.05)
    finally:
        manager.stop(signal.SIGKILL)


@pytest.mark.parametrize(("name", "value"), [("historyDays", 0), ("historyDays", "ever"), ("historyVersions", 0)])
def test_days_and_versions_that_make_no_sense_are_refused(state: Path, name: str, value: int | str) -> None:
    config = state / "management.yaml"
    config.write_text(yaml.safe_dump(config_for(state, "", 1) | {"postgres": {"dsn": "dbname=vcstack", name: value}}))
    with pytest.raises(SettingsError, match=f"postgres.{name}: Input should be"):
        load_settings(config)
