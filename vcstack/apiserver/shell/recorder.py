"""Recording one shell as asciicast v2: what is shown, and sizes; what is typed is never kept.

What was shown is sealed part by part and written while it goes on: a killed process loses what it has not written,
seconds at most. What cannot be written ends the shell.
"""

import asyncio
import codecs
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Final

import orjson

from vcstack.apiserver.shell.archive import Archive
from vcstack.apiserver.shell.client import TERMINAL, Size
from vcstack.clock import Clock
from vcstack.crypto.chunks import ChunkCipher
from vcstack.specs.errors import ApiError, Unavailable
from vcstack.specs.shellrecordings import ShellRecording, Written

WRITE_SECONDS: Final = 1.0
"""How often what was shown is written."""
ALIVE_SECONDS: Final = 10.0
"""How often it is said that nothing was shown."""
PART_BYTES: Final = 64 * 1024
"""So much is written at once, and what is shown waits for it."""
PATIENCE_SECONDS: Final = 10.0
"""How long PostgreSQL may take."""
TOTAL_LIMIT: Final = 256 * 1024 * 1024
"""Of one recording, before it is compressed."""


@contextlib.asynccontextmanager
async def beginning() -> AsyncIterator[None]:
    """Raise Unavailable, for whoever wants a shell, when the archive does not do what a recording needs first."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError as error:
        raise Unavailable("shells are recorded here, and PostgreSQL takes no recording; try again") from error
    except ApiError as error:
        raise Unavailable(f"shells are recorded here, but {error.message}") from error


class Recorder:
    """One recording. ``begin``, then ``run`` beside the shell, then ``end``."""

    def __init__(self, archive: Archive, cipher: ChunkCipher, recording: ShellRecording, clock: Clock) -> None:
        self.id = recording.id
        self.ended = False
        """Whether it was tried to end it."""
        self._archive = archive
        self._cipher = cipher
        self._recording = recording
        self._clock = clock
        self._began = clock.monotonic()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines: list[bytes] = []
        self._waiting = 0
        self._size = self._total = 0
        self._number = 0
        self._writing: asyncio.Future[None] | None = None
        self._full = asyncio.Event()
        self._written = asyncio.Condition()

    async def begin(self, size: Size) -> None:
        """Write the beginning. Raises Unavailable."""
        header = {
            "version": 2,
            "width": size.columns,
            "height": size.rows,
            "timestamp": int(self._recording.started_at.timestamp()),
            "title": f"{self._recording.login}@{self._recording.instance}",
            "env": {"TERM": TERMINAL},
        }
        self._lines.append(orjson.dumps(header))
        async with beginning():
            await self._archive.begin(self._recording)
        await self._write()

    async def show(self, data: bytes) -> None:
        """Take in what is shown; wait when much is not written yet. Raises Unavailable when the recording is full."""
        await self._take("o", self._decoder.decode(data), len(data))

    async def resize(self, size: Size) -> None:
        """Take in the terminal's new size; as ``show``."""
        text = f"{size.columns}x{size.rows}"
        await self._take("r", text, len(text))

    async def run(self) -> None:
        """Write what was shown, until cancelled. Raises Unavailable when that fails."""
        idle = 0.0
        while True:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._full.wait()
            except TimeoutError:
                idle += WRITE_SECONDS
            self._full.clear()
            if self._lines or idle >= ALIVE_SECONDS:
                # Cancelled in the middle, nobody would know whether this part is there.
                self._writing = asyncio.ensure_future(self._write())
                await asyncio.shield(self._writing)
                idle = 0.0

    async def end(self) -> None:
        """Write the rest, and that it is over. Raises Unavailable, also when it could not go on before."""
        self.ended = True
        if self._writing is not None:
            await self._writing
        if rest := self._decoder.decode(b"", final=True):
            self._lines.append(orjson.dumps([round(self._elapsed(), 6), "o", rest]))
        await self._write(ended=True)

    async def _take(self, kind: str, text: str, size: int) -> None:
        self._size += size
        if text:
            line = orjson.dumps([round(self._elapsed(), 6), kind, text])
            self._lines.append(line)
            self._waiting += len(line)
            self._total += len(line)
        if self._total > TOTAL_LIMIT:
            raise Unavailable(f"the recording is full ({TOTAL_LIMIT // 1024**2} MiB); connect again for another one")
        if self._waiting >= PART_BYTES:
            self._full.set()
            async with self._written:
                await self._written.wait_for(lambda: self._waiting < PART_BYTES)

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._began

    async def _write(self, *, ended: bool = False) -> None:
        lines, self._lines = self._lines, []
        waiting, size = self._waiting, self._size
        content = None
        if lines:
            content = self._cipher.seal(self._number, zlib.compress(b"".join(line + b"\n" for line in lines)))
        written = Written(
            id=self.id,
            number=self._number,
            content=content,
            seconds=round(self._elapsed(), 3),
            size=size,
            at=self._clock.now(),
            ended=ended,
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._archive.write(written)
        except TimeoutError as error:
            raise Unavailable("the recording cannot be written: PostgreSQL does not answer in time") from error
        except ApiError as error:
            raise Unavailable(f"the recording cannot go on: {error.message}") from error
        self._number += content is not None
        async with self._written:
            self._waiting -= waiting
            self._written.notify_all()


def read_part(cipher: ChunkCipher, number: int, sealed: bytes) -> bytes:
    """Return a part as lines of asciicast. Raises Tampered."""
    return zlib.decompress(cipher.open(number, sealed))
