"""One chain on the disk: appended to by one process at a time, taken up again where a killed one left it."""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from vcstack.apiserver.audit.segments import Segment, fsync_folder, list_segments, segment_path
from vcstack.pki.files import PRIVATE
from vcstack.specs.audit import GENESIS, Damaged, Sealed, read_line, seal

LOCK: Final = "lock"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_NAME: Final = re.compile(r"[^a-z0-9-]+")

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Written:
    """A segment that is written to, or was until the disk has all of it."""

    path: Path
    file: int
    size: int = 0
    """Bytes of whole records."""
    durable: int = 0
    """Of those, how many are on the disk."""
    waiting: bytearray = field(default_factory=bytearray)
    """The others, to be written again should the disk not take them."""


class Unsynced(NamedTuple):
    """What is written and not on the disk yet."""

    files: list[tuple[_Written, int]]
    """And up to where."""
    folder: Path
    end: tuple[int, str]
    """Number and hash of the last record."""

    def wait(self) -> None:
        """Return when the disk has it; call it from a thread, one at a time. Raises OSError: it may not have it."""
        for written, _ in self.files:
            os.fdatasync(written.file)
        if any(not written.durable for written, _ in self.files):
            fsync_folder(self.folder)


class Chain:
    """The chain that this process writes, in the event loop.

    What is written is the kernel's: it is there after this process is killed, whenever that is. It outlives the
    machine's end when it was waited for besides (``begin_sync``).
    """

    def __init__(self, folder: Path, lock: int, last: Sealed | None, *, segment_bytes: int) -> None:
        self.name = folder.name
        self.folder = folder
        self.end = (last.seq, last.hash) if last else (0, GENESIS)
        """Number and hash of the last record."""
        self.durable = self.end
        """Those of the last record that is on the disk. One value, for others read it meanwhile."""
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._files: list[_Written] = []
        """The last one is written to."""

    @classmethod
    def open(cls, root: Path, host: str, known: Mapping[str, int], *, segment_bytes: int) -> "Chain":
        """Return a chain of this machine that nobody writes to now, or a new one. Blocks.

        One that ends before its anchor (``known``: their numbers), or in a record that is not what was written,
        is left as it is for who looks into it.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = (_NAME.sub("-", host.lower()).strip("-") or "host")[:40]
        for folder in sorted(root.glob(f"{prefix}-" + "[0-9a-f]" * 8)):
            lock = lock_folder(folder)
            if lock is None:
                continue
            try:
                last = _recover(folder)
            except Damaged as error:
                logger.error("this audit chain is damaged, another one begins", chain=folder.name, why=str(error))
            else:
                if (last.seq if last else 0) >= known.get(folder.name, 0):
                    return cls(folder, lock, last, segment_bytes=segment_bytes)
                logger.error("records of the audit trail were cut off, another chain begins", chain=folder.name)
            os.close(lock)
        while True:
            folder = root / f"{prefix}-{secrets.token_hex(4)}"
            folder.mkdir(mode=0o700)
            fsync_folder(root)
            lock = lock_folder(folder)
            if lock is not None:  # else another process was looking for chains without a writer right then
                return cls(folder, lock, None, segment_bytes=segment_bytes)

    @property
    def seq(self) -> int:
        """Return the number of the last record."""
        return self.end[0]

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record on the end. Raises OSError, then nothing of it is; TypeError when it is not JSON."""
        files = self._files
        if not files or files[-1].size >= self._segment_bytes:
            self._open_next()
        written, (seq, digest) = files[-1], self.end
        line, digest = seal(record, self.name, seq + 1, digest)
        try:
            _write(written.file, line, written.size)
        except OSError:
            with contextlib.suppress(OSError):  # the next record is written over it, or the next process cuts it off
                os.ftruncate(written.file, written.size)
            raise
        written.waiting += line
        written.size += len(line)
        self.end = seq + 1, digest

    def begin_sync(self) -> Unsynced | None:
        """Return what is to be waited for, None for nothing."""
        if self.durable == self.end:
            return None
        return Unsynced([(each, each.size) for each in self._files], self.folder, self.end)

    def end_sync(self, synced: Unsynced) -> None:
        """Note that it was waited for."""
        for written, size in synced.files:
            del written.waiting[: size - written.durable]
            written.durable = size
        self.durable = synced.end
        while len(self._files) > 1 and not self._files[0].waiting:
            os.close(self._files.pop(0).file)

    def write_again(self) -> None:
        """Write into another file what the disk did not take: the kernel has forgotten what was to be written, and file
        systems may not use its place again. Blocks; nothing may be appended meanwhile. Raises OSError, then all is as
        it was.

        Killed in between, records are there twice; the next process cuts that off.
        """
        waiting = b"".join(written.waiting for written in self._files)
        path = segment_path(self.folder, self.durable[0] + 1)
        new = path.with_suffix(".again")
        file = os.open(new, _FLAGS, PRIVATE)
        try:
            _write(file, waiting, 0)
            os.fdatasync(file)
            os.rename(new, path)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        old, self._files = self._files, [_Written(path, file, len(waiting), 0, bytearray(waiting))]
        for written in reversed(old):
            with contextlib.suppress(OSError):
                if written.durable:
                    os.ftruncate(written.file, written.durable)
                elif written.path != path:
                    written.path.unlink(missing_ok=True)
            os.close(written.file)

    def close(self) -> None:
        """Let go of the chain."""
        for written in self._files:
            os.close(written.file)
        self._files = []
        os.close(self._lock)

    def _open_next(self) -> None:
        path = segment_path(self.folder, self.seq + 1)
        self._files.append(_Written(path, os.open(path, _FLAGS, PRIVATE)))


def _write(file: int, data: bytes, offset: int) -> None:
    while data:  # a disk that gets full takes a part
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def lock_folder(folder: Path) -> int | None:
    """Return the lock of the chain, to be closed; None when another process has it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def read_last(folder: Path) -> Sealed | None:
    """Return the chain's last whole record, once all of it is on the disk; nobody may write it. Raises Damaged."""
    for segment in reversed(list_segments(folder)):
        line = _last_line(segment)
        if line:
            _sync(folder)
            return read_line(line)
    return None


def _recover(folder: Path) -> Sealed | None:
    """Cut off what a killed process had half written, which nobody was answered for; return the last record."""
    _cut_overlaps(folder)
    for segment in reversed(list_segments(folder)):
        whole = _whole_bytes(segment)
        torn = segment.path.stat().st_size - whole
        if torn:
            logger.warning("a half written audit record is removed", chain=folder.name, bytes=torn)
            os.truncate(segment.path, whole)
        if whole:
            _sync(folder)
            return read_line(_last_line(segment))
        segment.path.unlink()
    return None


def _cut_overlaps(folder: Path) -> None:
    """Cut off records that stand in the next segment as well: a killed process was writing them again."""
    for path in folder.glob("*.again"):
        path.unlink()
    for segment, following in pairwise(list_segments(folder)[-3:]):
        with segment.path.open("rb") as file:
            end = sum(len(line) for line in islice(file, following.first - segment.first))
        if segment.path.stat().st_size > end:
            logger.warning("audit records that stand twice are removed once", chain=folder.name)
            os.truncate(segment.path, end)


def _sync(folder: Path) -> None:
    """Have on the disk what a process that is gone has written: of the last segment, and of one filled just before."""
    for segment in list_segments(folder)[-2:]:
        with segment.path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def _whole_bytes(segment: Segment) -> int:
    return segment.path.read_bytes().rfind(b"\n") + 1


def _last_line(segment: Segment) -> bytes:
    whole = segment.path.read_bytes()
    end = whole.rfind(b"\n")
    return whole[whole.rfind(b"\n", 0, end) + 1 : end] if end >= 0 else b""
