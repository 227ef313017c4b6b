"""Writes records in groups: who comes while the disk is busy shares the next write, so that many requests pay for
one wait.

``append`` returns when the record is on the disk. While the disk takes none, records wait in memory, writes are
refused before they are done (or, if so set, done and recorded later), and it is tried again every second.

One thread waits for the disk, and does nothing else: all else is done in the event loop, for each change between
the two costs as much as several records.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Final

import structlog

from vcstack.apiserver.audit import metrics
from vcstack.apiserver.audit.chain import Batch, Chain
from vcstack.apiserver.audit.settings import AuditSettings, OnFailure
from vcstack.specs.errors import ErrorDetails, InternalError, Unavailable

WAITING_LIMIT: Final = 10_000
"""Records kept in memory while the disk takes none; what comes then is only counted."""
GATHER_SECONDS: Final = 0.0002
"""As PostgreSQL's commit_delay: a write and its thread cost as much CPU as some records. For each record of the write
before: a few callers wait hardly, many share the more."""
GATHER_LIMIT_SECONDS: Final = 0.002
RETRY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
"""How often the disk's space is looked at."""
Record = Mapping[str, Any]
Waiting = tuple[Record, "asyncio.Future[None]"]
Written = Callable[[OSError | None], None]
"""Called in the event loop when the disk has taken a batch, or has not."""

logger = structlog.get_logger(__name__)


class Journal:
    """The way into a chain."""

    def __init__(self, chain: Chain, settings: AuditSettings) -> None:
        self.chain = chain
        self._refuses = settings.on_failure is OnFailure.REFUSE
        self._reserve = settings.reserve_mib * 2**20
        self._disk = _Disk(chain)
        self._pending: list[Waiting] = []
        self._busy = False
        """Whether a batch is gathered, on its way to the disk, or tried again."""
        self._idle = asyncio.Event()
        self._recovering: asyncio.Task[None] | None = None
        self._unwritten: list[Record] = []
        self._lost = 0
        self._shared = 1
        """How many requests shared the last write."""
        self._fault = ""
        self._looked_at = -LOOK_SECONDS

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
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._pending.append((record, future))
        if not self._busy:
            self._begin(loop)
        await future

    async def close(self) -> None:
        """Write what is left and let go of the chain."""
        while self._busy and not self._fault:
            self._idle.clear()
            await self._idle.wait()
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        if self._unwritten or self._lost:
            with contextlib.suppress(OSError):
                await self._write_kept()
        if lost := len(self._unwritten) + self._lost:
            logger.error("audit records are lost: the disk took none until the end", records=lost)
        await asyncio.to_thread(self._disk.close)
        self.chain.close()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = True
        if self._shared > 1:  # others write at the same time: a moment more lets them share this write
            loop.call_later(min(GATHER_SECONDS * self._shared, GATHER_LIMIT_SECONDS), self._send)
        else:
            self._send()

    def _send(self) -> None:
        """Give what waits to the disk."""
        batch, self._pending = self._pending, []
        self._shared = len(batch)
        try:
            sealed = self.chain.seal([record for record, _ in batch])
        except (TypeError, ValueError) as error:  # a fault of ours; nobody must wait for ever
            logger.exception("audit records cannot be written as JSON")
            for _, future in batch:
                if not future.done():
                    future.set_exception(InternalError(f"the audit record cannot be written: {error}"))
            self._go_on()
            return

        def written(error: OSError | None) -> None:
            if error is not None:
                self._fail(batch, error)
                return
            _count(len(batch))
            for _, future in batch:
                if not future.done():  # its request may have been cancelled
                    future.set_result(None)
            self._go_on()

        self._disk.write(sealed, written)

    def _go_on(self) -> None:
        if self._pending:
            self._begin(asyncio.get_running_loop())
        else:
            self._busy = False
            self._idle.set()

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
        self._idle.set()
        self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Try again until the disk takes what waits."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                while self._unwritten or self._lost:  # more may come while it is written
                    await self._write_kept()
            except OSError:
                continue
            self._fault = ""
            metrics.FAILED.set(0)
            logger.info("the audit trail is written again")
            self._go_on()
            return

    async def _write_kept(self) -> None:
        kept, self._unwritten = self._unwritten, []
        lost, self._lost = self._lost, 0
        message = f"{lost} records could not be kept while the disk took none"
        records = [*kept, {**OWN, "verb": "lose", "message": message}] if lost else kept
        done = asyncio.get_running_loop().create_future()
        self._disk.write(self.chain.seal(records), lambda error: None if done.done() else done.set_result(error))
        error = await asyncio.shield(done)
        if error is not None:
            kept += self._unwritten
            self._unwritten = kept[:WAITING_LIMIT]
            self._lost += lost + len(kept) - len(self._unwritten)
            raise error
        _count(len(records))

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


class _Disk:
    """The thread that waits for the disk."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[tuple[Batch, Written] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="audit", daemon=True)
        self._thread.start()

    def write(self, batch: Batch, written: Written) -> None:
        """Write a batch, which was sealed after all before it were written; one at a time."""
        self._work.put((batch, written))

    def close(self) -> None:
        """End the thread, once it has done what was given to it."""
        self._work.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            batch, written = work
            error: OSError | None = None
            try:
                self._chain.append(batch)
            except OSError as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed already: nobody waits
                self._loop.call_soon_threadsafe(written, error)


OWN: Final[Record] = {"subject": "system:management", "outcome": "Allowed"}
"""Of the trail's own records."""


def _count(records: int) -> None:
    metrics.RECORDS.inc(records)
    metrics.BATCHES.inc()


def _refusal(message: str) -> Unavailable:
    return Unavailable(message, details=ErrorDetails(retry_after_seconds=5))
