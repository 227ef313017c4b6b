"""The serial line of a machine: its log as a file, its console as a terminal that QEMU made."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator
from pathlib import Path

CHUNK_BYTES = 32 * 1024
FOLLOW_SECONDS = 0.25
"""How often a log that is followed is looked at."""
LOG_LIMIT_BYTES = 16 * 1024 * 1024
"""A guest may write without end; when its log is longer, only the last half is kept."""


async def read_log(path: Path, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
    """Yield the log's bytes; with follow, go on for ever with what comes."""
    offset = await asyncio.to_thread(_find_tail, path, tail_lines)
    while True:
        chunk, offset = await asyncio.to_thread(_read_from, path, offset)
        if chunk:
            yield chunk
        elif follow:
            await asyncio.sleep(FOLLOW_SECONDS)
        else:
            return


def _read_from(path: Path, offset: int) -> tuple[bytes, int]:
    """Return the next bytes and where they end; a log that became shorter is read from its beginning."""
    try:
        with path.open("rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                offset = 0
            file.seek(offset)
            chunk = file.read(CHUNK_BYTES)
            return chunk, offset + len(chunk)
    except FileNotFoundError:
        return b"", offset


def _find_tail(path: Path, lines: int | None) -> int:
    """Return where the last lines begin."""
    if lines is None:
        return 0
    try:
        with path.open("rb") as file:
            end = position = file.seek(0, os.SEEK_END)
            wanted, tail = lines + 1, b""
            while position > 0 and tail.count(b"\n") < wanted:
                step = min(CHUNK_BYTES, position)
                position -= step
                file.seek(position)
                tail = file.read(step) + tail
    except FileNotFoundError:
        return 0
    parts = tail.split(b"\n")
    body = parts[:-1] if not parts[-1] else parts
    kept = body[-lines:] if lines else []
    return end - len(b"\n".join(kept)) - (1 if not parts[-1] and kept else 0)


def trim_log(path: Path, limit: int = LOG_LIMIT_BYTES) -> bool:
    """Cut a log that is too long down to its last half. QEMU appends, so it writes on after what is kept."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= limit:
                return False
            file.seek(size - limit // 2)
            kept = file.read()
            file.truncate(0)
            file.seek(0)
            file.write(kept)
            return True
    except FileNotFoundError:
        return False


class Terminal:
    """The other end of a machine's serial line, opened raw."""

    def __init__(self, device: str) -> None:
        self._descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        tty.setraw(self._descriptor)
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable.set)

    async def read(self) -> bytes:
        """Return what the guest wrote; b"" when the machine is gone."""
        while True:
            self._readable.clear()
            try:
                return os.read(self._descriptor, CHUNK_BYTES)
            except BlockingIOError:
                await self._readable.wait()
            except OSError:  # EIO: QEMU closed its end
                return b""

    async def write(self, typed: bytes) -> None:
        """Give the guest what was typed."""
        view = memoryview(typed)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)
            except OSError:
                return

    def close(self) -> None:
        """Let go of it; the machine goes on."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
