"""The mirror's loop: list once, then follow the store for ever, through every fault of either side."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine

from vcstack.specs.resource import Ref
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import Compacted, EtcdError
from vcstack.store.etcd.records import Event, EventType, WatchBatch
from vcstack.store.etcd.watch import Watch
from vcstack.store.mirror.database import ensure_database, ensure_schema
from vcstack.store.mirror.records import PREFIX, TOMBSTONE, UNKNOWN_ACTOR, Change, find_ref, read_put
from vcstack.store.mirror.writer import MirrorWriter

BATCH_CHANGES = 1000
"""One transaction carries at most about so many changes (executemany is fastest around it)."""
RETRY_SECONDS = (0.2, 5.0)
"""The first pause after a fault, doubled up to the second."""

EVENT_DAYS = 90
"""How long events are kept that the store has let go."""
EXPIRE_SECONDS = 3600.0
"""How often it is looked for those that are older."""

log = structlog.get_logger(__name__)


class Mirror:
    """Keeps PostgreSQL equal to the store. Run one; a second one does no harm, for replays change nothing."""

    def __init__(self, etcd: EtcdClient, engine: AsyncEngine, dsn: str, *, event_days: int = EVENT_DAYS) -> None:
        self._etcd = etcd
        self._engine = engine
        self._dsn = dsn
        self._writer = MirrorWriter(engine)
        self._event_days = event_days
        self._expired_at = float("-inf")
        self.position = 0
        """The last revision that is in PostgreSQL."""

    async def run(self) -> None:
        """Mirror until cancelled. Faults of PostgreSQL or etcd are logged and tried again."""
        pause = RETRY_SECONDS[0]
        while True:
            began = self.position
            try:
                await self._prepare()
                await self._follow()
            except Compacted:
                log.info("the revisions after the mirror's position are gone, listing again")
                await self._forget()
            except (DBAPIError, InterfaceError, psycopg.Error, EtcdError, OSError) as error:
                log.warning("mirror waits", error=str(error).splitlines()[0] if str(error) else repr(error))
                pause = RETRY_SECONDS[0] if self.position > began else min(pause * 2, RETRY_SECONDS[1])
                await self._engine.dispose()  # connections of a restarted server are dead
                await asyncio.sleep(pause)

    async def _prepare(self) -> None:
        await ensure_database(self._dsn)
        await ensure_schema(self._engine)
        self.position = await self._writer.read_position()
        if self.position == 0:
            await self._list()

    async def _forget(self) -> None:
        try:
            await self._writer.reset()
        except (DBAPIError, InterfaceError, OSError) as error:
            # The position stays, so the watch is refused again and this is tried again.
            log.warning("mirror waits", error=str(error))
            await asyncio.sleep(RETRY_SECONDS[0])

    async def _list(self) -> None:
        """Fill the mirror from a consistent listing; begun anew when it is interrupted."""
        seen: set[Ref] = set()
        revision = 0
        async for page in self._etcd.pages(PREFIX, page_size=BATCH_CHANGES):
            revision = page.revision
            found = [(entry, kv) for kv in page.kvs if (entry := find_ref(kv.key)) is not None]
            changes = [read_put(ref, kv.value, kv.mod_revision) for (_, ref), kv in found]
            seen.update(c.ref for c in changes)
            await self._writer.write(changes, None)
        await self._writer.finish_listing(seen, revision)
        self.position = revision
        log.info("mirror listed the store", objects=len(seen), revision=revision)

    async def _follow(self) -> None:
        async with self._etcd.watch(PREFIX, self.position + 1) as watch:
            while True:
                await self._expire_events()
                batches = await _gather(watch)
                changes = [change for batch in batches for change in _read_batch(batch)]
                await self._writer.write(changes, batches[-1].revision)
                self.position = batches[-1].revision

    async def _expire_events(self) -> None:
        """Remove old events now and then; in a cloud in which nothing changes it may wait."""
        now = asyncio.get_running_loop().time()
        if now - self._expired_at < EXPIRE_SECONDS:
            return
        removed = await self._writer.expire_events(timedelta(days=self._event_days), datetime.now(UTC))
        self._expired_at = now
        if removed:
            log.info("old events removed", events=removed, days=self._event_days)


async def _gather(watch: Watch) -> list[WatchBatch]:
    """Return at least one batch, and with it what has arrived already."""
    batches = [await anext(watch)]
    count = len(batches[0].events)
    while count < BATCH_CHANGES:
        try:
            async with asyncio.timeout(0.005):
                batches.append(await anext(watch))
        except TimeoutError:
            break
        count += len(batches[-1].events)
    return batches


def _read_batch(batch: WatchBatch) -> Iterator[Change]:
    for event in batch.events:
        found = find_ref(event.kv.key)
        if found is None:
            continue
        _, ref = found
        if event.type is EventType.PUT:
            yield read_put(ref, event.kv.value, event.kv.mod_revision)
        else:
            yield Change(ref, event.kv.mod_revision, None, _find_remover(event, batch.events))


def _find_remover(removal: Event, events: Sequence[Event]) -> dict[str, str]:
    """Return who removed the object, from the tombstone written in the same transaction."""
    for event in events:
        if event.kv.key == TOMBSTONE and event.kv.mod_revision == removal.kv.mod_revision and event.kv.value:
            stone = orjson.loads(event.kv.value)
            if stone.get("key") == removal.kv.key.decode():
                return dict(stone["actor"])
    return UNKNOWN_ACTOR
