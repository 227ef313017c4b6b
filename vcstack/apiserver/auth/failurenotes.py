"""What processes tell each other of failed logins, so that guessing is as slow at many replicas as at one.

Each keeps a key in etcd for each account and source that failed more than once at it, with how often; the others
follow these keys and count along. They are written after the login has been answered, many in one transaction, so
no login waits for etcd, and a flood of them costs a few writes a second. When somebody gets in, 0 is written and
all forget.

While etcd is away, and for more accounts and sources than are remembered, each process counts for itself.
"""

import asyncio
from typing import Final

import orjson
import structlog

from vcstack.apiserver.auth.throttle import ACCOUNT, Throttle
from vcstack.clock import Clock
from vcstack.store.etcd.errors import Compacted, EtcdError, FutureRevision, LeaseNotFound
from vcstack.store.etcd.ops import Op, Put
from vcstack.store.etcd.records import EventType, KeyValue
from vcstack.store.etcd_api import Etcd
from vcstack.store.leases import LeaseBuckets

logger = structlog.get_logger(__name__)

PREFIX: Final = b"/vcstack/.leases/failures/"
PAUSE_SECONDS: Final = 0.25
"""Between two transactions of a process."""
WRITTEN_AT_ONCE: Final = 100
"""etcd takes 128 operations."""
WORTH_TELLING: Final = 2
"""The first failure is a slip; and who tries one password on every account leaves no key for each."""
REMEMBERED: Final = 20_000
"""Keys of all processes; beyond that no new ones are written."""
_RETRY_SECONDS: Final = 1.0


class FailureNotes:
    """Tells and listens for one process, until cancelled."""

    def __init__(self, throttle: Throttle, etcd: Etcd, clock: Clock, worker: str) -> None:
        self._throttle = throttle
        self._etcd = etcd
        self._clock = clock
        self._worker = worker
        self._leases = LeaseBuckets(etcd, clock)
        self._own: dict[str, int] = {}
        """How often each has failed here, as far as it was looked at."""
        self._waiting: dict[str, int] = {}
        """What is to be written."""
        self._heard: dict[str, dict[str, int]] = {}
        """What each process has said of each."""
        self._keys = 0

    async def run(self) -> None:
        """Tell and listen."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._listen())

    async def _tell(self) -> None:
        while True:
            if not self._waiting:
                await self._throttle.has_news.wait()
            await asyncio.sleep(PAUSE_SECONDS)  # others that fail meanwhile go along
            self._look()
            try:
                await self._write()
            except EtcdError as error:
                logger.warning("failed logins are counted by each process for itself", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _look(self) -> None:
        """Find out what is worth telling."""
        news, forgiven = self._throttle.take_news()
        if len(self._own) + len(news) > REMEMBERED:
            self._own.clear()
        for mark in forgiven:
            self._own.pop(mark, None)
            if any(self._heard.get(mark, {}).values()):
                self._waiting[mark] = 0
        for mark, failures in news.items():
            heard = self._heard.get(mark)
            told = heard.get(self._worker, 0) if heard else 0
            count = self._own[mark] = max(0, self._own.get(mark, told) + failures)
            if heard or (count >= WORTH_TELLING and self._keys < REMEMBERED):
                self._waiting[mark] = count

    async def _write(self) -> None:
        marks = list(self._waiting.items())[:WRITTEN_AT_ONCE]
        if not marks:
            return
        lease = await self._leases.lease_for(int(self._throttle.settings.forget_seconds))
        now = self._clock.now().timestamp()
        puts: list[Op] = [Put(_key(mark, self._worker), orjson.dumps([count, now]), lease) for mark, count in marks]
        try:
            await self._etcd.txn([], puts)
        except LeaseNotFound:
            self._leases.forget(lease)
            raise
        for mark, count in marks:
            if self._waiting.get(mark) == count:
                del self._waiting[mark]

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except (Compacted, FutureRevision):
                continue
            except EtcdError:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        found = await self._etcd.range(PREFIX)
        present = {kv.key for kv in found.kvs}
        for mark, workers in list(self._heard.items()):
            for worker in [w for w in workers if _key(mark, w) not in present]:
                self._drop(mark, worker)
        for kv in found.kvs:
            self._hear(kv)
        async with self._etcd.watch(PREFIX, found.revision + 1) as watch:
            async for batch in watch:
                for event in batch.events:
                    if event.type is EventType.PUT:
                        self._hear(event.kv)
                    else:
                        self._drop(*_read_key(event.kv.key))

    def _hear(self, kv: KeyValue) -> None:
        mark, worker = _read_key(kv.key)
        try:
            count, at = orjson.loads(kv.value)
        except (ValueError, TypeError):
            return
        workers = self._heard.setdefault(mark, {})
        self._keys += worker not in workers
        before, workers[worker] = workers.get(worker, 0), count
        if worker == self._worker:
            return
        if count:
            self._throttle.learn(mark, count - before, self._clock.now().timestamp() - at)
        elif mark.startswith(ACCOUNT):
            self._throttle.forget(mark)
            self._own.pop(mark, None)
            if workers.get(self._worker):
                self._waiting[mark] = 0

    def _drop(self, mark: str, worker: str) -> None:
        workers = self._heard.get(mark, {})
        if workers.pop(worker, None) is not None:
            self._keys -= 1
        if not workers:
            self._heard.pop(mark, None)


def _key(mark: str, worker: str) -> bytes:
    return PREFIX + f"{mark}/{worker}".encode()


def _read_key(key: bytes) -> tuple[str, str]:
    mark, _, worker = key[len(PREFIX) :].decode("utf-8", "replace").partition("/")
    return mark, worker
