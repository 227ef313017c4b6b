"""A program that is started again when a file changed that it reads at its start only."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.lab.layout import CHECKOUT
from tests.deploy.observed import eventually

STUBBORN = 'trap \'\' TERM; cat "$0" >>"$1"; while :; do sleep 0.05; done'
"""Notes what the file says, and ends by force only."""


@dataclass
class Wrapped:
    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().split() if path.exists() else []

    @property
    def pid(self) -> int:
        """0 until it is written."""
        path = self.folder / "pid"
        return int((path.read_text() if path.exists() else "") or 0)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def wrapped(tmp_path: Path) -> Iterator[Wrapped]:
    (tmp_path / "watched").write_text("one\n")
    script = str(CHECKOUT / "deploy" / "lab" / "restarting.py")
    files = [str(tmp_path / name) for name in ("pid", "watched")]
    program = ["bash", "-c", STUBBORN, files[1], str(tmp_path / "notes")]
    with subprocess.Popen([sys.executable, "-IS", script, *files, *program]) as process:
        made = Wrapped(process, tmp_path)
        eventually("the first start", lambda: made.notes == ["one"] and made.pid)
        yield made
        process.kill()


def test_it_is_started_again_with_what_the_file_says_then_and_under_a_new_pid(wrapped: Wrapped) -> None:
    before = wrapped.pid
    fresh = wrapped.folder / "fresh"
    fresh.write_text("two\n")
    fresh.replace(wrapped.folder / "watched")
    eventually("the second start", lambda: wrapped.notes == ["one", "two"])
    eventually("the new pid", lambda: wrapped.pid not in (0, before))
    assert is_gone(before)
    assert wrapped.process.poll() is None


def test_when_the_program_ends_by_itself_so_does_the_wrapper(wrapped: Wrapped) -> None:
    os.kill(wrapped.pid, signal.SIGKILL)
    assert wrapped.process.wait(timeout=60) != 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_the_program_ends_with_its_wrapper(wrapped: Wrapped, sign: signal.Signals) -> None:
    pid = wrapped.pid
    wrapped.process.send_signal(sign)
    wrapped.process.wait(timeout=60)
    eventually("its end", lambda: is_gone(pid))
