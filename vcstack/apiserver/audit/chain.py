"""One chain on the disk: appended to by one process at a time, taken up again where a killed one left it."""

import fcntl
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from vcstack.apiserver.audit.segments import Segment, fsync_folder, list_segments, segment_path
from vcstack.pki.files import PRIVATE
from vcstack.specs.audit import GENESIS, Damaged, Sealed, read_line, seal

LOCK: Final = "lock"
_NAME: Final = re.compile(r"[^a-z0-9-]+")

logger = structlog.get_logger(__name__)


class Batch(NamedTuple):
    """Records that are written together."""

    lines: bytes
    end: tuple[int, str]
    """Number and hash of the last of them."""


class Chain:
    """The chain that this process writes. What writes blocks: call it from a thread, one at a time."""

    def __init__(self, folder: Path, lock: int, last: Sealed | None, *, segment_bytes: int) -> None:
        self.name = folder.name
        self.folder = folder
        self.end = (last.seq, last.hash) if last else (0, GENESIS)
        """Number and hash of the last record that is on the disk; one value, for others read it meanwhile."""
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._dirty = False

    @classmethod
    def open(cls, root: Path, host: str, known: Mapping[str, int], *, segment_bytes: int) -> "Chain":
        """Return a chain of this machine that nobody writes to now, or a new one.

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
        folder = root / f"{prefix}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        fsync_folder(root)
        lock = lock_folder(folder)
        assert lock is not None  # nobody knows it yet
        return cls(folder, lock, None, segment_bytes=segment_bytes)

    @property
    def seq(self) -> int:
        """Return the number of the last record that is on the disk."""
        return self.end[0]

    def seal(self, records: Sequence[Mapping[str, Any]]) -> Batch:
        """Return the records as they go on the chain's end. Does not block."""
        (seq, head), lines = self.end, []
        for record in records:
            seq += 1
            line, head = seal(record, self.name, seq, head)
            lines.append(line)
        return Batch(b"".join(lines), (seq, head))

    def append(self, batch: Batch) -> None:
        """Write what was sealed on the end and wait until it is on the disk. Raises OSError, then nothing of it is."""
        self._write(batch.lines)
        self.end = batch.end

    def close(self) -> None:
        """Let go of the chain."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _write(self, data: bytes) -> None:
        if self._dirty:
            self._undo()
        if self._file is None or self._size >= self._segment_bytes:
            self._open_next()
        assert self._file is not None
        try:
            rest = memoryview(data)
            while rest:  # O_DSYNC: on the disk when it returns, in one call, so that our thread waits but once
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # After a failed write nobody knows which pages are on the disk: cut back to what is, and go on in
            # another file.
            self._dirty = True
            self._undo()
            raise
        self._size += len(data)

    def _undo(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
            if not self._size:
                self._path.unlink(missing_ok=True)
        self._dirty = False

    def _open_next(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._path = segment_path(self.folder, self.seq + 1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC | os.O_TRUNC | os.O_CLOEXEC
        self._file, self._size = os.open(self._path, flags, PRIVATE), 0
        fsync_folder(self.folder)


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
    """Return the chain's last whole record. Raises Damaged."""
    for segment in reversed(list_segments(folder)):
        line = _last_line(segment)
        if line:
            return read_line(line)
    return None


def _recover(folder: Path) -> Sealed | None:
    """Cut off what a killed process had half written, which nobody was answered for; return the last record."""
    for segment in reversed(list_segments(folder)):
        with segment.path.open("r+b") as file:
            whole = _whole_bytes(segment)
            torn = segment.path.stat().st_size - whole
            if torn:
                logger.warning("a half written audit record is removed", chain=folder.name, bytes=torn)
                file.truncate(whole)
                os.fsync(file.fileno())
        if whole:
            return read_line(_last_line(segment))
        segment.path.unlink()
    return None


def _whole_bytes(segment: Segment) -> int:
    return segment.path.read_bytes().rfind(b"\n") + 1


def _last_line(segment: Segment) -> bytes:
    whole = segment.path.read_bytes()
    end = whole.rfind(b"\n")
    return whole[whole.rfind(b"\n", 0, end) + 1 : end] if end >= 0 else b""
