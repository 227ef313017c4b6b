"""An API server that keeps an audit trail, alone or with an archive in a real PostgreSQL."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, serving
from vcstack.apiserver.audit.segments import list_segments
from vcstack.apiserver.audit.settings import AuditSettings
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.pki.installation import Installation
from vcstack.specs.audit import VerificationReport, Verifier
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.store import Store


def audit_settings(folder: Path, **changes: Any) -> AuditSettings:
    """Settings of a trail below a folder."""
    values: dict[str, Any] = {"folder": folder / "audit", "anchor_file": folder / "anchors.jsonl", "reserve_mib": 0}
    return AuditSettings(**{**values, **changes})


def lines_of(folder: Path) -> list[bytes]:
    """All lines of all chains below the trail's folder."""
    chains = sorted(p for p in folder.iterdir() if p.is_dir())
    return [line for chain in chains for s in list_segments(chain) for line in s.path.read_bytes().splitlines()]


def records_of(folder: Path) -> list[dict[str, Any]]:
    """What they say."""
    return [orjson.loads(line) for line in lines_of(folder)]


def verified(lines: list[bytes], anchors: Any = ()) -> VerificationReport:
    """What the verifier says of lines."""
    verifier = Verifier(anchors)
    for line in lines:
        verifier.add(line)
    return verifier.finish()


@dataclass
class Audited:
    """A server and its trail."""

    api: Api
    trail: Trail

    @property
    def records(self) -> list[dict[str, Any]]:
        """What has been recorded of requests."""
        return [r for r in records_of(self.trail.settings.folder) if r["verb"] not in ("start", "stop")]


Open = Callable[..., AbstractAsyncContextManager[Audited]]


@pytest.fixture
def open_audited(memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path) -> Open:
    @contextlib.asynccontextmanager
    async def opened(archive: AuditArchive | None = None, **changes: Any) -> AsyncIterator[Audited]:
        settings = audit_settings(tmp_path, **changes)
        trail = Trail(settings, SystemClock(), memory_store.cache, archive)
        server = serving(memory_store, memory_etcd, pki_installation, tmp_path, audit=trail)
        async with trail, server as api:
            yield Audited(api, trail)

    return opened


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
