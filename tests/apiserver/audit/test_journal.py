"""The journal on a real disk: groups, kills, a full disk, several processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from tests.apiserver.audit.conftest import audit_settings, lines_of, records_of, verified
from vcstack.apiserver.audit.anchors import AnchorFile
from vcstack.apiserver.audit.chain import Chain
from vcstack.apiserver.audit.journal import Journal
from vcstack.apiserver.audit.segments import list_segments
from vcstack.apiserver.audit.settings import OnFailure
from vcstack.specs.audit import Anchor
from vcstack.specs.errors import Unavailable

ROOT = Path(__file__).parents[3]
SEGMENT = 20_000


@contextlib.asynccontextmanager
async def opened(folder: Path, **changes: object) -> AsyncIterator[Journal]:
    settings = audit_settings(folder, **changes)
    journal = Journal(Chain.open(settings.folder, "host", {}, segment_bytes=SEGMENT), settings)
    try:
        yield journal
    finally:
        await journal.close()


async def test_records_of_many_callers_share_writes_and_form_one_chain(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await asyncio.gather(*(journal.append({"verb": "create", "name": str(n)}) for n in range(500)))
        assert journal.chain.seq == 500
        assert sorted(int(r["name"]) for r in records_of(tmp_path / "audit")) == list(range(500))
    report = verified(lines_of(tmp_path / "audit"))
    assert report.intact
    assert len(report.chains) == 1


async def test_a_cancelled_caller_disturbs_nobody_and_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        tasks = [asyncio.create_task(journal.append({"name": str(n)})) for n in range(50)]
        await asyncio.sleep(0)
        tasks[7].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(records_of(tmp_path / "audit")) == 50


async def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append({"name": "a"})
        files = [p for p in (tmp_path / "audit").rglob("*") if p.is_file()]
        assert {p.stat().st_mode & 0o777 for p in files} == {0o600}
        assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700


async def test_segments_follow_each_other_without_a_seam(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(300):
            await journal.append({"name": str(n), "padding": "x" * 200})
        assert len(list_segments(journal.chain.folder)) > 3
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_the_next_process_goes_on_with_the_chain(tmp_path: Path) -> None:
    for round_ in range(3):
        async with opened(tmp_path) as journal:
            await journal.append({"name": str(round_)})
    report = verified(lines_of(tmp_path / "audit"))
    assert report.intact
    assert [c.last for c in report.chains] == [3]


async def test_two_processes_at_once_have_a_chain_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as two:
        await asyncio.gather(one.append({"name": "a"}), two.append({"name": "b"}))
        assert one.chain.name != two.chain.name
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_half_a_record_left_by_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append({"name": "whole"})
        segment = list_segments(journal.chain.folder)[0].path
    with segment.open("ab") as file:
        file.write(b'{"hash":"0123')
    async with opened(tmp_path) as journal:
        await journal.append({"name": "next"})
    assert [r["name"] for r in records_of(tmp_path / "audit")] == ["whole", "next"]
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_an_empty_segment_left_by_a_killed_process_is_no_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append({"name": "whole"})
        (journal.chain.folder / "000000000000002.jsonl").touch()
    async with opened(tmp_path) as journal:
        await journal.append({"name": "next"})
    assert verified(lines_of(tmp_path / "audit")).intact


async def test_a_chain_that_ends_before_its_anchor_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(3):
            await journal.append({"name": str(n)})
        name = journal.chain.name
    other = Chain.open(tmp_path / "audit", "host", {name: 5}, segment_bytes=SEGMENT)
    assert other.name != name
    other.close()


async def test_a_damaged_chain_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append({"name": "good"})
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
                for _ in range(40 + 37 * round_ + 11 * life):
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


async def _fill(journal: Journal) -> int:
    """Record until the disk is full; return how many were taken."""
    for count in range(10_000):
        try:
            await journal.append({"name": str(count), "padding": "x" * 500})
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
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Unavailable):
                    journal.demand()
                    break
                await asyncio.sleep(0.05)
        await journal.append({"name": "after"})
    names = [r["name"] for r in records_of(small_disk / "audit")]
    assert names == [*(str(n) for n in range(count + 1)), "after"]  # the one that failed is there as well
    assert verified(lines_of(small_disk / "audit")).intact


async def test_a_full_disk_may_be_set_to_stop_nobody(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    async with opened(small_disk, on_failure=OnFailure.CONTINUE) as journal:
        for n in range(150):
            journal.demand()
            await journal.append({"name": str(n), "padding": "x" * 500})
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
