"""Moves records from segments into PostgreSQL, removes segments that are there for long, and records past retention.

How far it came is asked of PostgreSQL itself, so a database that was restored from a backup is filled again
from the segments that are still here. Chains of processes that are gone are moved by whoever finds them.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from vcstack.apiserver.audit import metrics
from vcstack.apiserver.audit.chain import Chain, lock_folder, read_last
from vcstack.apiserver.audit.segments import Place, find_place, list_segments, read_lines
from vcstack.apiserver.audit.settings import AuditSettings
from vcstack.clock import Clock
from vcstack.specs.audit import EXPIRE, AuditFilter, Damaged, format_instant
from vcstack.specs.errors import ApiError

PAUSE_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0
OTHERS_SECONDS: Final = 60.0
"""How often chains of processes that are gone are looked for."""
EXPIRE_SECONDS: Final = 6 * 3600.0
"""How often retention is looked after."""
LINES: Final = 1000
"""Of one transaction."""

logger = structlog.get_logger(__name__)


class Cut(Protocol):
    """The last record of a chain that retention removes."""

    @property
    def chain(self) -> str:
        """Return the chain's name."""

    @property
    def seq(self) -> int:
        """Return the record's number."""

    @property
    def hash(self) -> str:
        """Return the record's hash."""


RecordPlace = tuple[str, str, int]


class Archive(Protocol):
    """The trail in PostgreSQL. All raise Unavailable while it does not answer."""

    async def prepare(self) -> None:
        """Make what is missing."""

    async def read_last(self, chain: str) -> int:
        """Return the number of the chain's last record there."""

    async def store(self, lines: Sequence[bytes]) -> None:
        """Keep records."""

    async def select(
        self, wanted: AuditFilter, *, limit: int, before: RecordPlace | None = None
    ) -> list[tuple[RecordPlace, str]]:
        """Return the newest records first."""

    def scan(self, wanted: AuditFilter) -> AsyncIterator[str]:
        """Yield all records, each chain's in order."""

    async def find_expired(self, before: str) -> list[Any]:
        """Return where chains are to be cut."""

    async def remove(self, cuts: Sequence[Any]) -> int:
        """Remove what comes before the cuts."""


Note = Callable[[dict[str, Any]], None]


class Shipper:
    """Of one process: its own chain, and what others have left."""

    def __init__(
        self, chain: Chain, archive: Archive | None, note: Note, settings: AuditSettings, clock: Clock
    ) -> None:
        self._chain = chain
        self._archive = archive
        self._note = note
        self._settings = settings
        self._clock = clock
        self._prepared = False
        self._lock = asyncio.Lock()
        self._position: tuple[Place, int] | None = None
        """Where the next record of our chain stands, and its number."""

    async def run(self) -> None:
        """Move records until cancelled, through every fault of PostgreSQL."""
        others = expired = float("-inf")
        waiting = False
        while True:
            now = self._clock.monotonic()
            try:
                await self.ship()
                if now - others >= OTHERS_SECONDS:
                    await self.look_after_segments()
                    others = now
                if now - expired >= EXPIRE_SECONDS:
                    await self.look_after_retention()
                    expired = now
                if waiting:
                    logger.info("the audit trail's archive has caught up")
                waiting = False
                await self._clock.sleep(PAUSE_SECONDS)
            except (ApiError, OSError) as error:
                if not waiting:
                    logger.warning("audit records wait on the disk", why=str(error))
                waiting, self._prepared, self._position = True, False, None
                await self._clock.sleep(RETRY_SECONDS)

    def forget(self) -> None:
        """Ask PostgreSQL anew how far it has come."""
        self._position = None

    async def ship(self) -> None:
        """Move what is there now. Raises Unavailable."""
        async with self._turn():
            await self._ship_own()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One piece of work at a time, in a database that has its tables."""
        async with self._lock:
            if self._archive is not None and not self._prepared:
                await self._archive.prepare()
                self._prepared = True
            yield

    async def _ship_own(self) -> None:
        if self._archive is None:
            return
        while self._position is None or self._position[1] <= self._chain.durable[0]:
            if self._position is None:
                after = await self._archive.read_last(self._chain.name)
                self._position = await asyncio.to_thread(find_place, self._chain.folder, after)
                if self._position is None:
                    return
                continue
            moved = await self._ship_from(*self._position, up_to=self._chain.durable[0])
            if moved == self._position:
                return
            self._position = moved

    async def _ship_from(self, place: Place, seq: int, *, up_to: int) -> tuple[Place, int]:
        assert self._archive is not None
        lines, after = await asyncio.to_thread(read_lines, place)
        most = min(LINES, up_to - seq + 1)
        if len(lines) > most:
            lines = lines[: max(most, 0)]
            after = Place(place.segment, place.offset + sum(len(line) + 1 for line in lines))
        if lines:
            await self._archive.store(lines)
            metrics.SHIPPED.inc(len(lines))
        return after, max(seq + len(lines), after.segment.first)

    async def look_after_segments(self) -> None:
        """Ship chains that nobody writes, and remove segments that are no longer needed here."""
        async with self._turn():
            for folder in sorted(p for p in self._settings.folder.iterdir() if p.is_dir()):
                await self._look_after(folder)

    async def _look_after(self, folder: Path) -> None:
        if folder == self._chain.folder:
            await self._remove_segments(folder)
            return
        lock = await asyncio.to_thread(lock_folder, folder)
        if lock is None:
            return  # another process writes it
        try:
            await self._ship_other(folder)
            await self._remove_segments(folder)
        except Damaged as error:
            logger.error("this audit chain is damaged", chain=folder.name, why=str(error))
        finally:
            os.close(lock)

    async def _ship_other(self, folder: Path) -> None:
        last = await asyncio.to_thread(read_last, folder)
        if self._archive is None or last is None:
            return
        after = await self._archive.read_last(folder.name)
        position = await asyncio.to_thread(find_place, folder, after) if after < last.seq else None
        while position is not None and position[1] <= last.seq:
            moved = await self._ship_from(*position, up_to=last.seq)
            if moved == position:
                return
            position = moved

    async def _remove_segments(self, folder: Path) -> None:
        """Remove old segments that are in PostgreSQL; the newest always stays: the chain goes on from there."""
        shipped = await self._archive.read_last(folder.name) if self._archive else None
        days = self._settings.retention_days if shipped is None else self._settings.local_days
        oldest = self._clock.now().timestamp() - days * 86_400
        segments = await asyncio.to_thread(list_segments, folder)
        for segment, following in pairwise(segments):
            if shipped is not None and following.first - 1 > shipped:
                return
            if segment.path.stat().st_mtime > oldest or not following.path.stat().st_size:
                return
            segment.path.unlink()

    async def look_after_retention(self) -> None:
        """Tell what retention removes, then remove it: whoever verifies the trail finds the reason."""
        if self._archive is None:
            return
        async with self._turn():
            before = format_instant(self._clock.now() - timedelta(days=self._settings.retention_days))
            try:
                cuts = await self._archive.find_expired(before)
            except Damaged as error:
                logger.error("retention stops: an audit record at a chain's end is damaged", why=str(error))
                return
            if cuts:
                told = [{"chain": c.chain, "seq": c.seq, "hash": c.hash} for c in cuts]
                self._note({"verb": EXPIRE, "message": f"records before {before} were removed", "cuts": told})
                removed = await self._archive.remove(cuts)
                logger.info("old audit records were removed", records=removed, before=before)
