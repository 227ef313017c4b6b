"""vcctl audit, against the real API server with its trail in a real PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import create_samples, serving
from tests.vcctl.harness import Vcctl
from vcstack.apiserver.audit.settings import AuditSettings
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.pki.installation import Installation
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.store import Store
from vcstack.vcctl.errors import ExitCode

pytestmark = pytest.mark.daemons


@pytest.fixture
async def engine(postgres_dsn: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(postgres_dsn)
    yield made
    await made.dispose()


@pytest.fixture
async def trail(engine: AsyncEngine, postgres_dsn: str, memory_store: Store, tmp_path: Path) -> AsyncIterator[Trail]:
    settings = AuditSettings(folder=tmp_path / "audit", anchor_file=tmp_path / "anchors.jsonl", reserve_mib=0)
    async with Trail(settings, SystemClock(), memory_store.cache, AuditArchive(engine, postgres_dsn)) as opened:
        yield opened


@pytest.fixture
async def vcctl(
    trail: Trail, memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> AsyncIterator[Vcctl]:
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, audit=trail) as api:
        await create_samples(api, "Project")
        async with api.raw() as http:
            for name in ("one", "two", "three"):
                await http.post("/api/v1/projects/demo/networks", json={"metadata": {"name": name}, "spec": {}})
        await trail.flush()
        await trail.shipper.ship()
        await trail.anchor()
        yield Vcctl(api, tmp_path)


async def test_list_shows_who_did_what(vcctl: Vcctl) -> None:
    out = (await vcctl.ok("audit", "list", "network", "--since", "1h")).splitlines()
    assert out[0].split() == ["TIME", "SUBJECT", "VERB", "OBJECT", "OUTCOME", "STATUS", "FROM", "REQUEST"]
    assert out[1].split()[1:8] == ["admin", "create", "Network", "demo/three", "Allowed", "201", "127.0.0.1"]
    assert len(out) == 4
    assert len((await vcctl.ok("audit", "list", "network/two", "-o", "json")).splitlines()) == 1
    assert "Nothing" in (await vcctl("audit", "list", "--user", "nobody")).err
    assert (await vcctl("audit", "list", "--since", "whenever")).code == ExitCode.USAGE


async def test_an_export_is_verified_with_the_anchors_kept_elsewhere(
    vcctl: Vcctl, trail: Trail, tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    await vcctl.ok("audit", "export", "--file", str(file))
    anchors = ("--anchors", str(trail.anchors.path))
    assert "intact" in await vcctl.ok("audit", "verify", str(file), *anchors)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2]))
    ended = await vcctl("audit", "verify", str(file), *anchors)
    assert ended.code == ExitCode.DIFFERENCE
    assert "Truncated" in ended.out
    file.write_bytes(b"".join([lines[0], *lines[2:]]))
    report = orjson.loads((await vcctl("audit", "verify", str(file), "-o", "json")).out)
    assert [f["problem"] for f in report["findings"]] == ["Removed"]


async def test_verify_finds_what_was_done_to_the_database(vcctl: Vcctl, engine: AsyncEngine) -> None:
    assert "intact" in await vcctl.ok("audit", "verify")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE audit SET record = replace(record, 'two', 'owt') WHERE name = 'two'"))
    ended = await vcctl("audit", "verify")
    assert ended.code == ExitCode.DIFFERENCE
    assert "Changed" in ended.out


async def test_segments_are_verified_where_they_lie(vcctl: Vcctl, trail: Trail) -> None:
    segments = [str(p) for p in trail.chain.folder.glob("*.jsonl")]
    assert "intact" in await vcctl.ok("audit", "verify", *segments)


def without(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:number] + lines[number + 1 :]


def reorder(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def change(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"two"', b'"owt"') for line in lines]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [(change, "Changed"), (without(2), "Removed"), (reorder, "Reordered"), (lambda lines: lines[:-1], "Truncated")],
    ids=["changed", "removed", "reordered", "cut off"],
)
async def test_verify_finds_what_was_done_to_the_files(
    vcctl: Vcctl, trail: Trail, tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], problem: str
) -> None:
    (segment,) = trail.chain.folder.glob("*.jsonl")
    anchors = tmp_path / "kept-elsewhere.jsonl"
    anchors.write_bytes(trail.anchors.path.read_bytes())
    command = ("audit", "verify", str(segment), "--anchors", str(anchors), "-o", "json")
    whole = segment.read_bytes().splitlines(keepends=True)
    report = orjson.loads(last_line(await vcctl.ok(*command)))
    assert report["intact"]
    spoiled = spoil(whole)
    assert spoiled != whole
    segment.write_bytes(b"".join(spoiled))
    ended = await vcctl(*command)
    segment.write_bytes(b"".join(whole))
    assert ended.code == ExitCode.DIFFERENCE
    assert problem in {f["problem"] for f in orjson.loads(last_line(ended.out))["findings"]}


def last_line(output: str) -> str:
    """What is printed after the server's own log, which goes the same way here."""
    return output.splitlines()[-1]


async def test_a_file_without_records_proves_nothing(vcctl: Vcctl) -> None:
    empty = vcctl.folder / "empty.jsonl"
    empty.touch()
    refused = await vcctl("audit", "verify", str(empty))
    assert (refused.code, "nothing was verified" in refused.err) == (ExitCode.LOCAL, True), refused


async def test_what_cannot_be_meant_is_refused_instead_of_finding_nothing(vcctl: Vcctl) -> None:
    refused = await vcctl("audit", "list", "--outcome", "denid")
    assert (refused.code, "Allowed, Denied or Failed" in refused.err) == (ExitCode.REFUSED, True), refused
    for time in ("yesterday", "2026-13-01T00:00:00Z", "99999999999h"):
        refused = await vcctl("audit", "list", "--since", time)
        assert (refused.code, "2026-11-22T08:00:00Z" in refused.err) == (ExitCode.USAGE, True), refused
