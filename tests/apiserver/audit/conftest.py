"""An API server that keeps an audit trail, alone or with an archive in a real PostgreSQL."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.apiserver.audit.trails import audit_settings, records_of
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, serving
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.pki.installation import Installation
from vcstack.store.etcd_api import Etcd
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.store import Store


@dataclass
class Audited:
    """A server and its trail."""

    api: Api
    trail: Trail

    @property
    def records(self) -> list[dict[str, Any]]:
        """What has been recorded of requests."""
        return [r for r in records_of(self.trail.settings.folder) if r["verb"] not in ("start", "stop")]


@contextlib.asynccontextmanager
async def serving_audited(
    store: Store,
    etcd: Etcd,
    installation: Installation,
    folder: Path,
    archive: AuditArchive | None = None,
    **changes: Any,
) -> AsyncIterator[Audited]:
    """Serve an API that keeps a trail below the folder; ``changes`` are of the trail's settings."""
    trail = Trail(audit_settings(folder, **changes), SystemClock(), store.cache, archive)
    async with trail, serving(store, etcd, installation, folder, audit=trail) as api:
        yield Audited(api, trail)


Open = Callable[..., AbstractAsyncContextManager[Audited]]


@pytest.fixture
def open_audited(memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path) -> Open:
    return functools.partial(serving_audited, memory_store, memory_etcd, pki_installation, tmp_path)


@pytest.fixture
async def audited(open_audited: Open) -> AsyncIterator[Audited]:
    async with open_audited() as found:
        yield found


@pytest.fixture
async def archive_engine(postgres_dsn: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(postgres_dsn)
    yield engine
    await engine.dispose()


@pytest.fixture
def archive(archive_engine: AsyncEngine, postgres_dsn: str) -> AuditArchive:
    return AuditArchive(archive_engine, postgres_dsn)
