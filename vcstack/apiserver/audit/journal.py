"""Writes records in groups: who comes while the disk is busy shares the next write, so that many requests pay for
one wait.

``append`` returns when the record is on the disk. While the disk takes none, records wait in memory, writes are
refused before they are done (or, if so set, done and recorded later), and it is tried again every second.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from vcstack.apiserver.audit import metrics
from vcstack.apiserver.audit.chain import Chain
from vcstack.apiserver.audit.settings import AuditSettings, OnFailure
from vcstack.specs.errors import ErrorDetails, InternalError, Unavailable

WAITING_LIMIT: Final = 10_000
"""Records kept in memory while the disk takes none; what comes then is only counted."""
GATHER_SECONDS: Final = 0.004
"""As PostgreSQL's commit_delay: a write and its thread cost as much CPU as ten records."""
RETRY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
"""How often the disk's space is looked at."""
Record = Mapping[str, Any]
Waiting = tuple[Record, "asyncio.Future[None]"]

logger = structlog.get_logger(__name__)


class Journal:
    """The way into a chain."""

    def __init__(self, chain: Chain, settings: AuditSettings) -> None:
        self.chain = chain
        self._refuses = settings.on_failure is OnFailure.REFUSE
        self._reserve = settings.reserve_mib * 2**20
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._pending: list[Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._unwritten: list[Record] = []
        self._lost = 0
        self._shared = False
        """Whether the last write was of more than one request."""
        self._fault = ""
        self._looked_at = -LOOK_SECONDS
        self._closed = False

    def demand(self) -> None:
        """Return when what is done now can be recorded. Raises Unavailable, if so set."""
        if not self._refuses:
            return
        why = self._fault or self._look()
        if why:
            raise _refusal(f"nothing was done: the audit trail cannot be written ({why})")

    async def append(self, record: Record) -> None:
        """Return when the record is on the disk. Raises Unavailable when it is not, if so set."""
        if self._fault:
            self._keep(record)
            if self._refuses:
                raise _refusal(f"the audit trail cannot be written ({self._fault})")
            return
        future = asyncio.get_running_loop().create_future()
        self._pending.append((record, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await future

    async def close(self) -> None:
        """Write what is left and let go of the chain."""
        while self._flushing is not None and not self._fault:
            await asyncio.wait({self._flushing})
        self._closed = True
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        if self._unwritten or self._lost:
            with contextlib.suppress(OSError):
                await self._write_kept()
        if lost := len(self._unwritten) + self._lost:
            logger.error("audit records are lost: the disk took none until the end", records=lost)
        self._thread.shutdown()
        self.chain.close()

    async def _flush(self) -> None:
        try:
            while self._pending:
                if self._shared:  # others write at the same time: a moment more lets them share this write
                    await asyncio.sleep(GATHER_SECONDS)
                batch, self._pending = self._pending, []
                self._shared = len(batch) > 1
                try:
                    await self._write([record for record, _ in batch])
                except OSError as error:
                    self._fail(batch, error)
                    await self._recover()
                    continue
                except (TypeError, ValueError) as error:  # a fault of ours; nobody must wait for ever
                    logger.exception("audit records cannot be written as JSON")
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(InternalError(f"the audit record cannot be written: {error}"))
                    continue
                for _, future in batch:
                    if not future.done():  # its request may have been cancelled
                        future.set_result(None)
        finally:
            self._flushing = None

    async def _write(self, records: list[Record]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self.chain.append, records)
        metrics.RECORDS.inc(len(records))
        metrics.BATCHES.inc()

    def _fail(self, batch: list[Waiting], error: OSError) -> None:
        self._fault = error.strerror or str(error)
        metrics.FAILED.set(1)
        logger.error("the audit trail cannot be written", why=self._fault, folder=str(self.chain.folder))
        batch, self._pending = [*batch, *self._pending], []
        for record, future in batch:
            self._keep(record)
            if future.done():
                continue
            if self._refuses:
                future.set_exception(_refusal(f"the audit trail cannot be written ({self._fault})"))
            else:
                future.set_result(None)

    async def _recover(self) -> None:
        """Try again until the disk takes what waits."""
        while not self._closed:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                while self._unwritten or self._lost:  # more may come while it is written
                    await self._write_kept()
            except OSError:
                continue
            self._fault = ""
            metrics.FAILED.set(0)
            logger.info("the audit trail is written again")
            return

    async def _write_kept(self) -> None:
        kept, self._unwritten = self._unwritten, []
        lost, self._lost = self._lost, 0
        message = f"{lost} records could not be kept while the disk took none"
        try:
            await self._write([*kept, {**OWN, "verb": "lose", "message": message}] if lost else kept)
        except OSError:
            kept += self._unwritten
            self._unwritten = kept[:WAITING_LIMIT]
            self._lost += lost + len(kept) - len(self._unwritten)
            raise

    def _keep(self, record: Record) -> None:
        if len(self._unwritten) < WAITING_LIMIT:
            self._unwritten.append(record)
        else:
            self._lost += 1

    def _look(self) -> str:
        """Return why the disk is not to be trusted with more, looking now and then."""
        now = asyncio.get_running_loop().time()
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
