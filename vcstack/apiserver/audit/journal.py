"""Writes each record before its request is answered, and has the disk take what is written once a second.

A record that is written is there whatever becomes of this process: it is the kernel's. A machine that loses power loses
those of its last moment, up to ``SYNC_SECONDS`` and what the disk takes: waiting for the disk before each answer, or
ten times a second, costs a tenth of all creates (docs/adr/0016-audit.md). Anchors and PostgreSQL get what is
on the disk only, so what was lost was nowhere.

While the disk takes none, records wait in memory, writes are refused before they are done (or, if so set, done and
recorded later), and it is tried again every second.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from vcstack.apiserver.audit import metrics
from vcstack.apiserver.audit.chain import Chain
from vcstack.apiserver.audit.settings import AuditSettings, OnFailure
from vcstack.specs.errors import ErrorDetails, InternalError, Unavailable

SYNC_SECONDS: Final = 1.0
"""How long after one the next wait for the disk begins, unless somebody wants it at once."""
SLOW_SECONDS: Final = 10.0
"""A disk that takes longer counts as one that takes none."""
WAITING_LIMIT: Final = 10_000
"""Records kept in memory while the disk takes none; what comes then is only counted."""
RETRY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
"""How often the disk's space is looked at."""
Record = Mapping[str, Any]

logger = structlog.get_logger(__name__)


class Journal:
    """The way into a chain. Made within an event loop, and used in it alone."""

    def __init__(self, chain: Chain, settings: AuditSettings) -> None:
        self.chain = chain
        self._refuses = settings.on_failure is OnFailure.REFUSE
        self._reserve = settings.reserve_mib * 2**20
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "audit")
        """Waits for the disk, and for nothing else."""
        self._unwritten: deque[Record] = deque()
        self._lost = 0
        self._fault = ""
        self._forgotten = False
        """Whether the disk did not keep what was written."""
        self._looked_at = -LOOK_SECONDS
        self._waits_since: float | None = None
        """When the disk was begun to be waited for."""
        self._something = asyncio.Event()
        """Set while there is something to wait for."""
        self._tried = asyncio.Event()
        """Set for a moment when the disk was waited for, with whatever result."""
        self._closing = asyncio.Event()
        self._hurry = asyncio.Event()
        """Set when somebody waits for what is written to be on the disk."""
        self._syncing = asyncio.create_task(self._keep_synced())

    def demand(self) -> None:
        """Return when what is done now can be recorded. Raises Unavailable, if so set."""
        if self._refuses and (why := self._find_fault() or self._look()):
            raise _refusal(f"nothing was done: the audit trail cannot be written ({why})")

    def append(self, record: Record) -> None:
        """Write the record. Raises Unavailable when it is not written, if so set; it is, then, once it can be."""
        if not (self._fault or self._unwritten or self._is_slow()):
            try:
                self._write(record)
                return
            except OSError as error:
                self._fail(error)
        if len(self._unwritten) < WAITING_LIMIT:
            self._unwritten.append(record)
        else:
            self._lost += 1
        if self._refuses:
            raise _refusal(f"the audit trail cannot be written ({self._find_fault() or 'it is being taken up again'})")

    async def flush(self) -> None:
        """Return when what was written until now is on the disk, or the disk takes none."""
        seq = self.chain.seq
        while self.chain.durable[0] < seq and not self._fault:
            self._hurry.set()
            await self._tried.wait()

    async def close(self) -> None:
        """Write what is left, have it on the disk and let go of the chain."""
        self._closing.set()
        self._hurry.set()
        self._something.set()
        await self._syncing
        if lost := len(self._unwritten) + self._lost:
            logger.error("audit records are lost: the disk took none until the end", records=lost)
        self._thread.shutdown(wait=False)
        self.chain.close()

    def _write(self, record: Record) -> None:
        try:
            self.chain.append(record)
        except (TypeError, ValueError) as error:  # a fault of ours
            logger.exception("an audit record cannot be written as JSON")
            raise InternalError(f"the audit record cannot be written: {error}") from error
        self._something.set()

    def _find_fault(self) -> str:
        """Return why the disk takes no records, empty when it does."""
        return self._fault or (f"the disk has not answered for {SLOW_SECONDS:.0f} s" if self._is_slow() else "")

    def _is_slow(self) -> bool:
        since = self._waits_since
        return since is not None and self._loop.time() - since > SLOW_SECONDS

    def _fail(self, error: OSError) -> None:
        if not self._fault:
            logger.error("the audit trail cannot be written", why=str(error), folder=str(self.chain.folder))
        self._fault = error.strerror or str(error)
        metrics.FAILED.set(1)
        self._something.set()

    async def _keep_synced(self) -> None:
        while True:
            await self._something.wait()
            closing = self._closing.is_set()
            self._something.clear()
            try:
                await self._sync()
            except OSError as error:
                self._fail(error)
            self._tried.set()
            self._tried.clear()
            if closing:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self._fault else SYNC_SECONDS):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _sync(self) -> None:
        """Have on the disk what is written, and then what could not be written until now. Raises OSError."""
        await self._wait_for_disk()
        while self._unwritten or self._lost:
            self._write_kept()
            await self._wait_for_disk()
        if self._fault:
            self._fault = ""
            metrics.FAILED.set(0)
            logger.info("the audit trail is written again")

    async def _wait_for_disk(self) -> None:
        self._waits_since = self._loop.time()
        try:
            if self._forgotten:
                await self._loop.run_in_executor(self._thread, self.chain.write_again)
                self._forgotten = False
            if (unsynced := self.chain.begin_sync()) is not None:
                self._forgotten = True
                await self._loop.run_in_executor(self._thread, unsynced.wait)
                self._forgotten = False
                metrics.RECORDS.inc(unsynced.end[0] - self.chain.durable[0])
                metrics.SYNCS.inc()
                self.chain.end_sync(unsynced)
        finally:
            self._waits_since = None

    def _write_kept(self) -> None:
        while self._unwritten:
            with contextlib.suppress(InternalError):
                self._write(self._unwritten[0])
            self._unwritten.popleft()
        if self._lost:
            message = f"{self._lost} records could not be kept while the disk took none"
            self._write({**OWN, "verb": "lose", "message": message})
            self._lost = 0

    def _look(self) -> str:
        """Return why the disk is not to be trusted with more, looking now and then."""
        now = self._loop.time()
        if now - self._looked_at < LOOK_SECONDS:
            return ""
        found = os.statvfs(self.chain.folder)
        free = found.f_bavail * found.f_frsize
        if free >= self._reserve:
            self._looked_at = now
            return ""
        return f"{free // 2**20} MiB are left at {self.chain.folder}, {self._reserve // 2**20} are kept in reserve"


OWN: Final[Record] = {"subject": "system:management", "outcome": "Allowed"}
"""Of the trail's own records."""


def _refusal(message: str) -> Unavailable:
    return Unavailable(message, details=ErrorDetails(retry_after_seconds=5))
