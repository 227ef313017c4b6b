"""The journal on a real disk: groups, kills, a full disk, several processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from tests.apiserver.audit.trails import audit_settings, lines_of, records_of, verified
from vcstack.apiserver.audit.anchors import AnchorFile
from vcstack.apiserver.audit.chain import Chain, lock_folder
from vcstack.apiserver.audit.journal import Journal
from vcstack.apiserver.audit.segments import list_segments, segment_path
from vcstack.apiserver.audit.settings import OnFailure
from vcstack.specs.audit import Anchor, seal
from vcstack.specs.errors import InternalError, Unavailable

ROOT = Path(__file__).parents[3]
SEGMENT = 20_000
BLOCK = 4096


@contextlib.asynccontextmanager
async def opened(folder: Path, segment_bytes: int = SEGMENT, **changes: object) -> AsyncIterator[Journal]:
    settings = audit_settings(folder, **changes)
    journal = Journal(Chain.open(settings.folder, "host", {}, segment_bytes=segment_bytes), settings)
    try:
        yield journal
    finally:
        await journal.close()


async def test_records_form_one_chain_and_are_on_the_disk_soon(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(500):
            journal.append({"verb": "create", "name": str(n)})
        assert [int(r["name"]) for r in records_of(tmp_path / "audit")] == list(range(500))
        assert journal.chain.durable[0] < 500
        await journal.flush()
        assert journal.chain.durable == journal.chain.end
        assert journal.chain.seq == 500
    report = verified(lines_of(tmp_path / "audit"))
    assert report.intact
    assert len(report.chains) == 1


async def test_who_waits_for_the_disk_does_not_wait_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcstack.apiserver.audit.journal.SYNC_SECONDS", 3600.0)
    async with opened(tmp_path) as journal:
        for n in range(5):
            journal.append({"name": str(n)})
            await journal.flush()
            assert journal.chain.durable == journal.chain.end
        journal.append({"name": "last"})
    assert len(records_of(tmp_path / "audit")) == 6


async def test_a_record_that_is_no_json_disturbs_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.append({"name": "before"})
        with pytest.raises(InternalError):
            journal.append({"name": object()})
        journal.append({"name": "after"})
    assert [r["name"] for r in records_of(tmp_path / "audit")] == ["before", "after"]


async def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.append({"name": "a"})
        files = [p for p in (tmp_path / "audit").rglob("*") if p.is_file()]
        assert {p.stat().st_mode & 0o777 for p in files} == {0o600}
        assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700


async def test_segments_follow_each_other_without_a_seam(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(300):
            journal.append({"name": str(n), "padding": "x" * 200})
        assert len(list_segments(journal.chain.folder)) > 3
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_the_next_process_goes_on_with_the_chain(tmp_path: Path) -> None:
    for round_ in range(3):
        async with opened(tmp_path) as journal:
            journal.append({"name": str(round_)})
    report = verified(lines_of(tmp_path / "audit"))
    assert report.intact
    assert [c.last for c in report.chains] == [3]


async def test_two_processes_at_once_have_a_chain_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as two:
        one.append({"name": "a"})
        two.append({"name": "b"})
        assert one.chain.name != two.chain.name
    assert verified(lines_of(tmp_path / "audit")).intact


def test_processes_that_look_for_chains_without_a_writer_are_in_nobodys_way(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for folder in tmp_path.iterdir():
                lock = lock_folder(folder)
                if lock is not None:
                    os.close(lock)

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        chains: list[Chain] = []
        try:
            chains += [Chain.open(tmp_path, "host", {}, segment_bytes=SEGMENT) for _ in range(100)]
        finally:
            done.set()
            for chain in chains:
                chain.close()
        assert [each.result() for each in looking] == [None, None]
    assert len({chain.name for chain in chains}) == 100


async def test_half_a_record_left_by_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.append({"name": "whole"})
        segment = list_segments(journal.chain.folder)[0].path
    with segment.open("ab") as file:
        file.write(b'{"hash":"0123')
    async with opened(tmp_path) as journal:
        journal.append({"name": "next"})
    assert [r["name"] for r in records_of(tmp_path / "audit")] == ["whole", "next"]
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_an_empty_segment_left_by_a_killed_process_is_no_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.append({"name": "whole"})
        (journal.chain.folder / "000000000000002.jsonl").touch()
    async with opened(tmp_path) as journal:
        journal.append({"name": "next"})
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_a_chain_that_ends_before_its_anchor_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(3):
            journal.append({"name": str(n)})
        name = journal.chain.name
    other = Chain.open(tmp_path / "audit", "host", {name: 5}, segment_bytes=SEGMENT)
    assert other.name != name
    other.close()


async def test_a_damaged_chain_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.append({"name": "good"})
        name, segment = journal.chain.name, list_segments(journal.chain.folder)[0].path
    segment.write_bytes(segment.read_bytes().replace(b"good", b"evil"))
    other = Chain.open(tmp_path / "audit", "host", {}, segment_bytes=SEGMENT)
    assert other.name != name
    other.close()
    assert b"evil" in segment.read_bytes()


@pytest.mark.parametrize("round_", range(5))
def test_a_kill_at_any_moment_loses_nothing_that_was_confirmed(tmp_path: Path, round_: int) -> None:
    confirmed: list[str] = []
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.apiserver.audit.writer", str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout is not None
            try:
                for _ in range(10 + 17 * round_ + 5 * life):
                    confirmed.append(process.stdout.readline().split()[1])
            finally:  # also when the disk is too slow for this test: what is left behind would fail others
                process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
            confirmed += [line.split()[1] for line in rest.split("\n")[:-1]]
    whole = [line for line in lines_of(tmp_path / "audit") if line]
    if not _is_record(whole[-1]):
        whole.pop()  # half written by the last one, confirmed to nobody
    report = verified(whole)
    assert report.intact, report.findings
    assert len(report.chains) == 1
    assert set(confirmed) <= {orjson.loads(line)["name"] for line in whole}


def _is_record(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 200 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class HollowDisk:
    """A real file system that believes to have room when there is none: it takes records and cannot keep them."""

    def __init__(self, folder: Path) -> None:
        self._below, self.folder = folder / "below", folder / "disk"
        self._image, self._ballast = self._below / "image", self._below / "ballast"
        self._below.mkdir()
        self.folder.mkdir()

    def make(self) -> None:
        """Mount it."""
        self._run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(self._below))
        self._run("truncate", "-s", "16M", str(self._image))
        # Its own tables have their room: what cannot be kept is what files hold.
        options = ("-b", str(BLOCK), "-N", "64", "-m", "0", "-O", "^has_journal,^uninit_bg", "-E", "lazy_itable_init=0")
        self._run("mkfs.ext4", "-q", *options, str(self._image))
        self.attach()

    def attach(self) -> None:
        """Mount it; nothing is in memory of what it held before."""
        self._run("mount", "-o", "loop", str(self._image), str(self.folder))

    def detach(self) -> None:
        """Unmount it."""
        self._run("umount", str(self.folder))

    def fill(self) -> None:
        """Leave no room below it."""
        os.sync()
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * BLOCK)

    def empty(self) -> None:
        """Have room again."""
        self._ballast.unlink()

    def remove(self) -> None:
        """Take all of it away."""
        for folder in (self.folder, self._below):
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def hollow_disk(tmp_path: Path) -> Iterator[HollowDisk]:
    disk = HollowDisk(tmp_path)
    try:
        disk.make()
    except (subprocess.CalledProcessError, FileNotFoundError):
        disk.remove()
        pytest.skip("mounting a file system is not allowed here")
    yield disk
    disk.remove()


def _append(journal: Journal, name: str) -> None:
    """Append a record that fills blocks: the loop device tells nothing of a write that was done in part."""
    chain = journal.chain
    line, _ = seal({"name": name, "padding": ""}, chain.name, chain.seq + 1, chain.end[1])
    journal.append({"name": name, "padding": "x" * (2 * BLOCK - len(line))})


async def test_what_the_disk_took_and_did_not_keep_is_written_again(hollow_disk: HollowDisk) -> None:
    async with opened(hollow_disk.folder) as journal:
        for n in range(5):
            _append(journal, str(n))
            await journal.flush()
        hollow_disk.fill()
        for n in range(5, 8):
            _append(journal, str(n))
        await journal.flush()
        assert (journal.chain.durable[0], journal.chain.seq) == (5, 8)
        with pytest.raises(Unavailable, match=r"nothing was done.*No space left"):
            journal.demand()
        hollow_disk.empty()
        await _demand(journal)
        _append(journal, "after")
    hollow_disk.detach()
    hollow_disk.attach()
    lines = lines_of(hollow_disk.folder / "audit")
    assert [orjson.loads(line)["name"] for line in lines] == [*map(str, range(8)), "after"]
    assert verified(lines).intact


async def test_records_that_a_killed_process_was_writing_again_stand_there_once(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=2**20) as journal:
        for n in range(6):
            journal.append({"name": str(n)})
        folder = journal.chain.folder
    (first,) = list_segments(folder)
    lines = first.path.read_bytes().splitlines(keepends=True)
    segment_path(folder, 4).write_bytes(b"".join(lines[3:]))
    segment_path(folder, 3).with_suffix(".again").write_bytes(lines[2])
    async with opened(tmp_path) as journal:
        journal.append({"name": "next"})
    assert [r["name"] for r in records_of(tmp_path / "audit")] == [*map(str, range(6)), "next"]
    assert verified(lines_of(tmp_path / "audit")).intact
    assert [p for p in folder.iterdir() if p.suffix == ".again"] == []


async def _demand(journal: Journal) -> None:
    """Wait until records are taken."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                journal.demand()
                return
            await asyncio.sleep(0.05)


async def _fill(journal: Journal) -> int:
    """Record until the disk is full; return how many were taken."""
    for count in range(10_000):
        try:
            journal.append({"name": str(count), "padding": "x" * 500})
        except Unavailable:
            return count
    raise AssertionError("the disk never got full")


async def test_a_full_disk_refuses_what_comes_and_is_taken_up_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 50_000)
    async with opened(small_disk) as journal:
        count = await _fill(journal)
        with pytest.raises(Unavailable, match=r"nothing was done.*No space left"):
            journal.demand()
        ballast.unlink()
        await _demand(journal)
        journal.append({"name": "after"})
    names = [r["name"] for r in records_of(small_disk / "audit")]
    assert names == [*(str(n) for n in range(count + 1)), "after"]  # the one that failed is there as well
    assert verified(lines_of(small_disk / "audit")).intact


async def test_a_full_disk_may_be_set_to_stop_nobody(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    async with opened(small_disk, on_failure=OnFailure.CONTINUE) as journal:
        for n in range(150):
            journal.demand()
            journal.append({"name": str(n), "padding": "x" * 500})
        assert len(records_of(small_disk / "audit")) < 150
        ballast.unlink()
    assert [r["name"] for r in records_of(small_disk / "audit")] == [str(n) for n in range(150)]
    assert verified(lines_of(small_disk / "audit")).intact


async def test_a_disk_that_is_nearly_full_refuses_before_anything_is_done(tmp_path: Path) -> None:
    async with opened(tmp_path, reserve_mib=2**40) as journal:
        with pytest.raises(Unavailable, match="kept in reserve"):
            journal.demand()


def test_anchors_of_several_processes_stand_in_one_file(tmp_path: Path) -> None:
    file = AnchorFile(tmp_path / "new" / "anchors.jsonl")
    file.append(Anchor(chain="a", seq=1, hash="0" * 64))
    file.append(Anchor(chain="b", seq=4, hash="1" * 64))
    with file.path.open("ab") as torn:
        torn.write(b'{"chain":"a","se')
    assert file.read_heads() == {"a": 1, "b": 4}
    assert file.path.stat().st_mode & 0o777 == 0o600
