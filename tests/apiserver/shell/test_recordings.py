# ruff: noqa: SIM117 (nested blocks read better here)
"""Recordings of shells in a real PostgreSQL: what is in them, who reads them, and that there is no shell without."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.apiserver.shell.conftest import SECONDS, add_member, talking
from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tickets import FastClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, error_of, serving
from tests.fixtures.guest import SshGuest, leading_to
from tests.fixtures.postgres import PostgresServer
from vcstack.apiclient.shellmessages import ShellEnd, TerminalSize
from vcstack.apiserver.shell.client import Size
from vcstack.apiserver.shell.recorder import TOTAL_LIMIT, Recorder, read_part
from vcstack.crypto.chunks import ChunkCipher
from vcstack.crypto.errors import Tampered
from vcstack.specs.errors import ApiError, Conflict, QuotaExceeded, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.specs.settings import KNOWN_SETTINGS, SHELL_RECORDING, SHELL_RECORDING_MIB
from vcstack.specs.shellrecordings import ShellRecording, Written
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.recordings import RecordingArchive
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons

DEMO = "/api/v1/projects/demo"
LIST = f"{DEMO}/instances/web-1/recordings"


@pytest.fixture
async def engine(own_postgres: PostgresServer) -> AsyncIterator[AsyncEngine]:
    found = open_engine(own_postgres.dsn("shells"))
    yield found
    await found.dispose()


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
async def cloud(
    memory_store: Store,
    memory_etcd: MemoryEtcd,
    api: Api,
    alice: str,
    guest: SshGuest,
    own_postgres: PostgresServer,
    engine: AsyncEngine,
    clock: FastClock,
    tmp_path: Path,
) -> AsyncIterator[Api]:
    """A server that keeps recordings, which the project demands."""
    folder = tmp_path / "recording"
    folder.mkdir()
    await put(api, "Setting", "recorded", {"setting": SHELL_RECORDING, "value": "Always"}, "demo")
    archive = RecordingArchive(engine, own_postgres.dsn("shells"))
    async with serving(memory_store, memory_etcd, api.installation, folder, recordings=archive, clock=clock) as found:
        async with leading_to(found, guest.port):
            yield found


async def recordings(api: Api, path: str = LIST, **query: Any) -> list[dict[str, Any]]:
    async with api.raw() as client:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


async def cast(api: Api, id_: str, path: str = LIST) -> list[Any]:
    async with api.raw() as client:
        answer = await client.get(f"{path}/{id_}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-asciicast"
    return [json.loads(line) for line in answer.content.splitlines()]


def shown(lines: list[Any]) -> str:
    return "".join(event[2] for event in lines[1:] if event[1] == "o")


async def test_what_is_shown_is_recorded_and_what_is_typed_is_not(cloud: Api, alice: str, engine: AsyncEngine) -> None:
    async with talking(cloud, alice, size=TerminalSize(columns=101, rows=31)) as shell:
        await shell.say("stty -echo; echo re''ady")
        await shell.until(b"ready\r\n")
        await shell.say("read password; printf 'caf\\303'; sleep 0.1; printf '\\251 \\377\\033[2J'; echo do''ne")
        await shell.say("hunter2-canary")
        await shell.until(b"done")
        await shell._socket.resize(TerminalSize(columns=120, rows=40))
        await shell.say("exit 5")
        assert await shell.to_the_end() == ShellEnd(status=5)
        assert shell.recorded
    [found] = await recordings(cloud)
    assert found["ended"]
    assert not found["brokenOff"]
    assert (found["instance"], found["user"], found["bytes"] > 0, found["seconds"] > 0) == (
        "web-1",
        "user:alice",
        True,
        True,
    )
    lines = await cast(cloud, found["id"])
    assert lines[0] | {"timestamp": 0} == {
        "version": 2,
        "width": 101,
        "height": 31,
        "timestamp": 0,
        "title": f"{found['login']}@web-1",
        "env": {"TERM": "xterm-256color"},
    }
    assert {event[1] for event in lines[1:]} == {"o", "r"}
    assert [event[2] for event in lines[1:] if event[1] == "r"] == ["120x40"]
    times = [event[0] for event in lines[1:]]
    assert times == sorted(times)
    assert "ready" in shown(lines)
    assert "café \ufffd\x1b[2Jdone" in shown(lines)
    assert "hunter2" not in json.dumps(lines)
    async with engine.connect() as connection:
        kept = str(
            (await connection.execute(text("SELECT r::text, c::text FROM shell_recordings r, shell_chunks c"))).all()
        )
    assert "alice" in kept
    assert "ready" not in kept
    assert b"ready".hex() not in kept
    [by_project] = await recordings(cloud, f"{DEMO}/recordings")
    assert by_project == found
    assert await cast(cloud, found["id"], f"{DEMO}/recordings") == lines
    async with cloud.raw() as client:
        for path in (f"{LIST}/rec-none", f"{DEMO}/recordings/rec-none", f"{LIST}/{found['id']}/x"):
            assert error_of(await client.get(path))["code"] == 404
        assert error_of(await client.get(f"{LIST}/%00"))["code"] == 422
        assert error_of(await client.get(LIST, params={"continue": "bm9uZQ=="}))["code"] == 400
        assert error_of(await client.post(LIST))["code"] == 405


async def test_a_recording_can_be_read_while_it_goes_on_and_is_known_to_have_broken_off(
    cloud: Api, alice: str, clock: FastClock, own_postgres: PostgresServer, engine: AsyncEngine
) -> None:
    async with talking(cloud, alice) as shell:
        await shell.say("echo go''ing")
        await shell.until(b"going")
        async with asyncio.timeout(SECONDS):
            while not (found := await recordings(cloud)) or "going" not in shown(await cast(cloud, found[0]["id"])):
                await asyncio.sleep(0.05)
        assert not found[0]["ended"]
    # What a killed server leaves: nobody writes to it any more.
    uids = [(await cloud.store.get(get_kind(k), p, n)).wire["metadata"]["uid"]
            for k, p, n in (("Project", None, "demo"), ("Instance", "demo", "web-1"))]  # fmt: skip
    killed = a_recording("rec-killed", project=uids[0], instance_uid=uids[1])
    killed = replace(killed, written_at=clock.now() - timedelta(minutes=5), expires_at=clock.now() + timedelta(days=1))
    await RecordingArchive(engine, own_postgres.dsn("shells")).begin(killed)
    [found] = [r for r in await recordings(cloud) if r["id"] == "rec-killed"]
    assert (found["ended"], found["brokenOff"]) == (True, True)


async def test_recordings_of_a_project_take_so_much_and_no_more(
    cloud: Api, alice: str, own_postgres: PostgresServer, engine: AsyncEngine
) -> None:
    await put(cloud, "Setting", "most", {"setting": SHELL_RECORDING_MIB, "value": 1})
    project = (await cloud.store.get(get_kind("Project"), None, "demo")).wire["metadata"]["uid"]
    archive = RecordingArchive(engine, own_postgres.dsn("shells"))
    await archive.begin(a_recording("rec-elsewhere", project="prj-another", size=2**20))
    await archive.begin(a_recording("rec-long", project=project, size=2**20 - 40_000))
    for left in (40_000 - 2 * 16_384, 40_000 - 3 * 16_384):  # however little they show
        async with talking(cloud, alice, command="true") as shell:
            await shell.to_the_end()
        assert 2**20 - await archive.measure(project) == left
    with pytest.raises(QuotaExceeded, match=r"recordings of project demo fill the 1 MiB that they may"):
        async with talking(cloud, alice):
            pass


async def test_who_may_read_recordings(cloud: Api, alice: str) -> None:
    async with talking(cloud, alice, command="echo hello") as shell:
        await shell.to_the_end()
    [found] = await recordings(cloud)
    await put(cloud, "User", "erin", {})
    tokens = {"member": alice, "stranger": await log_in(cloud, "erin")}
    for role in ("reader", "project-admin", "auditor"):
        tokens[role] = await add_member(cloud, f"u-{role}", role)
    expected = {"member": 403, "reader": 403, "stranger": 404, "project-admin": 200, "auditor": 200}
    for who, token in tokens.items():
        async with as_(cloud, token) as client:
            for path in (LIST, f"{LIST}/{found['id']}", f"{DEMO}/recordings", f"{DEMO}/recordings/{found['id']}"):
                assert (await client.get(path)).status_code == expected[who], (who, path)


async def test_recordings_outlive_the_instance_and_its_name_and_go_with_their_days(
    cloud: Api, alice: str, clock: FastClock, engine: AsyncEngine
) -> None:
    for word in ("one", "two"):
        async with talking(cloud, alice, command=f"echo {word}") as shell:
            await shell.to_the_end()
    second, first = await recordings(cloud)
    assert "one" in shown(await cast(cloud, first["id"]))
    async with cloud.raw() as client:
        page = (await client.get(LIST, params={"limit": 1})).json()
        assert [item["id"] for item in page["items"]] == [second["id"]]
        rest = (await client.get(LIST, params={"continue": page["metadata"]["continue"]})).json()
        assert [item["id"] for item in rest["items"]] == [first["id"]]
        assert "continue" not in rest["metadata"]
    wire = (await cloud.store.get(get_kind("Instance"), "demo", "web-1")).wire
    await cloud.store.delete(get_kind("Instance"), "demo", "web-1", actor=ADMIN)
    for finalizer in wire["metadata"]["finalizers"]:
        await cloud.store.finalize(get_kind("Instance"), "demo", "web-1", [finalizer], actor=SYSTEM)
    async with cloud.raw() as client:
        assert error_of(await client.get(LIST))["code"] == 404
    await put(cloud, "Instance", "web-1", {k: v for k, v in wire["spec"].items() if k != "networkInterfaces"}, "demo")
    assert await recordings(cloud) == []
    async with cloud.raw() as client:
        assert error_of(await client.get(f"{LIST}/{first['id']}"))["code"] == 404
    assert [r["id"] for r in await recordings(cloud, f"{DEMO}/recordings")] == [second["id"], first["id"]]
    routes = cloud.application._recordings
    assert await routes.remove_expired() == 0
    clock.ahead = timedelta(days=89)
    assert await routes.remove_expired() == 0
    clock.ahead = timedelta(days=91)
    assert await routes.remove_expired() == 2
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM shell_chunks"))).scalar() == 0


async def test_recordings_of_a_project_that_is_gone_are_removed_and_those_of_new_ones_are_not(
    cloud: Api, alice: str, clock: FastClock, own_postgres: PostgresServer, engine: AsyncEngine
) -> None:
    async with talking(cloud, alice, command="echo kept") as shell:
        await shell.to_the_end()
    archive, now = RecordingArchive(engine, own_postgres.dsn("shells")), clock.now()
    for age in (timedelta(minutes=5), timedelta(hours=2)):
        await archive.begin(a_recording(f"rec-{age.seconds}", started_at=now - age, expires_at=now + timedelta(days=9)))
    assert await cloud.application._recordings.remove_expired() == 1
    assert len(await recordings(cloud)) == 1
    assert await archive.find("pr-gone", "rec-300") is not None


def a_recording(id_: str, **changes: Any) -> ShellRecording:
    now = FastClock().now()
    made = ShellRecording(
        id=id_,
        project="pr-gone",
        instance="web-1",
        instance_uid="vm-1",
        subject="user:alice",
        login="root",
        started_at=now,
        written_at=now,
        expires_at=now,
    )
    return replace(made, **changes)


async def test_without_postgresql_there_is_no_shell_where_recordings_are_demanded(
    cloud: Api, api: Api, alice: str, own_postgres: PostgresServer
) -> None:
    with pytest.raises(Unavailable, match="no PostgreSQL is configured"):
        async with talking(api, alice):
            pass
    async with talking(cloud, alice) as shell:
        await shell.say("echo re''ady")
        await shell.until(b"ready")
        own_postgres.stop()
        with pytest.raises(ApiError, match="recording") as raised:
            await going_on(shell)
        assert "PostgreSQL" in raised.value.message
    with pytest.raises(Unavailable, match="recorded here"):
        async with talking(cloud, alice):
            pass


async def going_on(shell: Any) -> None:
    while True:
        await shell.say("echo more")
        await shell.until(b"more")


async def test_a_shell_that_is_not_recorded_ends_when_recordings_are_demanded(
    api: Api, alice: str, guest: SshGuest
) -> None:
    async with talking(api, alice) as shell:
        await shell.say("echo re''ady")
        await shell.until(b"ready")
        assert not shell.recorded
        await put(api, "Setting", "recorded", {"setting": SHELL_RECORDING, "value": "Always"})
        with pytest.raises(Conflict, match="recorded here from now on"):
            await shell.to_the_end()


def test_who_administers_less_may_demand_more_recording_and_not_less() -> None:
    known = KNOWN_SETTINGS[SHELL_RECORDING]
    assert known.is_within("Always", "Never")
    assert known.is_within("Always", "Always")
    assert known.is_within("Never", "Never")
    assert not known.is_within("Never", "Always")


def test_a_part_opens_at_its_place_only() -> None:
    cipher = ChunkCipher(bytes(range(32)), "x", "rec-1")
    sealed = cipher.seal(0, b"hello")
    assert cipher.open(0, sealed) == b"hello"
    others = ChunkCipher(bytes(range(32)), "x", "rec-2"), ChunkCipher(bytes(32), "x", "rec-1")
    for other, number, content in (
        (cipher, 1, sealed),
        (others[0], 0, sealed),
        (others[1], 0, sealed),
        (cipher, 0, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (cipher, 0, b"short"),
        (cipher, 0, b""),
    ):
        with pytest.raises(Tampered):
            other.open(number, content)


class Slow:
    """An archive that takes what it is given when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.written: list[Written] = []

    async def begin(self, recording: ShellRecording) -> None:
        pass

    async def write(self, written: Written) -> None:
        if written.number:
            await self.let.wait()
        self.written.append(written)


async def test_what_is_shown_waits_for_what_is_not_written_and_an_end_in_the_middle_loses_nothing() -> None:
    archive, cipher = Slow(), ChunkCipher(bytes(range(32)), "x", "rec-1")
    recorder = Recorder(archive, cipher, a_recording("rec-1"), FastClock())  # type: ignore[arg-type]
    await recorder.begin(size=TerminalSize(columns=80, rows=24))  # type: ignore[arg-type]
    running = asyncio.create_task(recorder.run())
    showing = asyncio.create_task(flood(recorder))
    async with asyncio.timeout(SECONDS):
        while recorder._writing is None:
            await asyncio.sleep(0.01)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not showing.done()  # a megabyte waits
    assert recorder._waiting < 300_000
    running.cancel()
    showing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    ending = asyncio.create_task(recorder.end())
    archive.let.set()
    await ending
    assert [w.number for w in archive.written] == list(range(len(archive.written)))
    assert archive.written[-1].ended
    parts = [read_part(cipher, w.number, w.content) for w in archive.written if w.content is not None]
    lines = [json.loads(line) for line in b"".join(parts).splitlines()]
    assert shown(lines) == "x" * archive.written[-1].size


async def test_a_recording_has_an_end_whatever_is_shown() -> None:
    archive = Slow()
    recorder = Recorder(archive, ChunkCipher(bytes(32), "x", "rec-1"), a_recording("rec-1"), FastClock())  # type: ignore[arg-type]
    archive.let.set()
    await recorder.begin(Size(80, 24))
    running = asyncio.create_task(recorder.run())
    with pytest.raises(Unavailable, match=r"the recording is full \(256 MiB\)"):
        await flood(recorder, 10**6)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await recorder.end()
    assert archive.written[-1].ended
    assert archive.written[-1].size <= TOTAL_LIMIT


async def test_what_says_nothing_but_sizes_is_not_for_nothing() -> None:
    archive = Slow()
    recorder = Recorder(archive, ChunkCipher(bytes(32), "x", "rec-1"), a_recording("rec-1"), FastClock())  # type: ignore[arg-type]
    archive.let.set()
    await recorder.begin(Size(80, 24))
    for _ in range(100):
        await recorder.resize(Size(100, 40))
    await recorder.end()
    assert archive.written[-1].size == 100 * len("100x40")


async def flood(recorder: Recorder, times: int = 64) -> None:
    for _ in range(times):
        await recorder.show(b"x" * 16384)
