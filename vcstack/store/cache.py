"""The watch cache: the whole store in memory, kept by one etcd watch and proven fresh before each read.

Reads are linearizable: ``fresh`` asks etcd for its revision by a quorum read that all waiting readers
share, and waits until the cache has got there.
"""

import asyncio
import gc
import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from vcstack.specs.errors import Unavailable
from vcstack.specs.registry import KindDefinition, load_kinds
from vcstack.store.allowances import Allowances, Mark
from vcstack.store.encoding import takes_of, to_json
from vcstack.store.etcd.errors import Compacted, EtcdError, FutureRevision
from vcstack.store.etcd.ops import Get, Op, Put
from vcstack.store.etcd.records import Event, EventType, KeyValue, WatchBatch
from vcstack.store.etcd_api import Etcd, EtcdWatch
from vcstack.store.keys import CLAIMS, NUDGE, PREFIX, QUOTAS, level_of_turn
from vcstack.store.limits import LimitBook
from vcstack.store.pools import ClaimIndex
from vcstack.store.settingbook import SettingBook
from vcstack.store.table import Entry, Table
from vcstack.store.uses import UseIndex

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How the cache behaves."""

    ring: int = 4096
    """Recent changes kept of each kind for watchers that resume."""
    ring_bytes: int = 64 * 1024 * 1024
    """The same in bytes, of each kind: objects may be as large as 1 MiB."""
    watcher_limit: int = 2048
    """Events that may wait for one watcher before it is dropped."""
    watcher_bytes: int = 16 * 1024 * 1024
    """The same in bytes."""
    freshness_seconds: float = 5.0
    """How long a read waits for the cache to catch up."""
    nudge_seconds: float = 0.5
    """After this time of waiting the cache writes a key itself, to be told of it."""
    retry_seconds: float = 0.2
    """Pause before listing again when etcd does not answer."""
    yield_every: int = 256
    """While many changes are taken in, others run after this many."""


class WatchCache:
    """All objects and claims as of ``revision``."""

    def __init__(self, etcd: Etcd, settings: CacheSettings | None = None) -> None:
        self.settings = settings or CacheSettings()
        self.revision = 0
        """Everything up to here has been taken in."""
        self.claims = ClaimIndex()
        self._etcd = etcd
        self.marks: dict[bytes, Mark] = {}
        """The keys that guard limits."""
        self.allowances = Allowances()
        ring = {"ring": self.settings.ring, "ring_bytes": self.settings.ring_bytes}
        self._tables = {d.plural: Table(d, **ring) for d in load_kinds().values()}
        self.limits = LimitBook(self._tables)
        self.uses = UseIndex(self.limits)
        self.setting_book = SettingBook(self._tables, self.limits)
        self._watch: EtcdWatch | None = None
        self._own: dict[int, Sequence[Op]] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._loaded = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._nudging: asyncio.Task[None] | None = None

    def table(self, definition: KindDefinition) -> Table:
        """Return the kind's objects."""
        return self._tables[definition.plural]

    def find(self, definition: KindDefinition, row: str) -> Entry | None:
        """Return the object as cached, however fresh that is; None when there is none."""
        return self._tables[definition.plural].objects.get(row)

    async def start(self) -> None:
        """Load everything and follow from there on."""
        self._task = asyncio.create_task(self._run(), name="watch-cache")
        loaded = asyncio.create_task(self._loaded.wait())
        await asyncio.wait((self._task, loaded), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            loaded.cancel()
            self._task.result()

    async def close(self) -> None:
        """Stop following; streams end."""
        for task in (self._nudging, self._task):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        for table in self._tables.values():
            table.drop_watchers()

    async def fresh(self) -> int:
        """Wait until the cache shows everything acknowledged before this call; return its revision.

        Raises:
            Unavailable: etcd does not answer, the cache does not catch up, or etcd's content was set back.
        """
        known = self.revision
        try:
            target = await self._etcd.current_revision()
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        if target < known:
            # A backup was restored: what the cache shows is of a store that is no more.
            await self._begin_anew()
            raise Unavailable("the store was set back and is being read anew; try again")
        await self.wait_for(target)
        return self.revision

    async def wait_for(self, revision: int) -> None:
        """Wait until the cache has reached the revision.

        Raises:
            Unavailable: it does not.
        """
        if self.revision >= revision:
            return
        if self._task is None or self._task.done():
            raise Unavailable("the store is closed")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        heapq.heappush(self._waiting, (revision, next(self._ticket), future))
        nudge = loop.call_later(self.settings.nudge_seconds, self._nudge)
        try:
            async with asyncio.timeout(self.settings.freshness_seconds):
                await future
        except TimeoutError:
            raise Unavailable("the store's cache does not catch up with etcd; try again") from None
        finally:
            nudge.cancel()

    def _nudge(self) -> None:
        """Write a key of our own: its event tells that nothing is missing before it.

        Somebody's write elsewhere in etcd raises the revision, and no event of ours would ever reach it.
        """
        if self._nudging is None or self._nudging.done():
            self._nudging = asyncio.create_task(self._write_nudge(), name="watch-cache-nudge")

    async def _write_nudge(self) -> None:
        with suppress(EtcdError):
            await self._etcd.put(NUDGE, b"")

    def note(self, revision: int, ops: Sequence[Op]) -> None:
        """Take in an own write that etcd acknowledged, as soon as everything before it has been.

        The watch tells of it, too, but later: under load by a long way.
        """
        if revision > self.revision:
            self._own[revision] = ops
            self._take_in_own()

    async def _run(self) -> None:
        while True:
            try:
                await self._load()
                await self._follow()
            except (Compacted, FutureRevision):
                log.warning("cache.relist", revision=self.revision)
            except EtcdError as error:
                log.warning("cache.etcd_unavailable", error=str(error))
                await asyncio.sleep(self.settings.retry_seconds)

    async def _begin_anew(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            log.warning("cache.set_back", revision=self.revision)
            await watch.aclose()

    async def _load(self) -> None:
        found: dict[str, dict[str, Entry]] = {plural: {} for plural in self._tables}
        claims: list[KeyValue] = []
        takes: dict[tuple[str, str], bytes] = {}
        revision = 0
        with _no_gc():
            async for page in self._etcd.pages(PREFIX):
                revision = page.revision
                for kv in page.kvs:
                    self._sort_in(kv, found, claims, takes)
        for plural, objects in found.items():
            self._tables[plural].load(objects, revision)
        self.uses.clear()
        for plural, objects in found.items():
            definition = self._tables[plural].definition
            for row, entry in objects.items():
                self.uses.put(definition, row, entry.json, takes.get((plural, row), b""))
        self.claims.clear()
        self.marks.clear()
        self._own.clear()
        for kv in claims:
            self._take_in(kv.key, kv.value, kv.mod_revision)
        self.revision = revision
        self._wake()
        self._loaded.set()

    def _sort_in(
        self,
        kv: KeyValue,
        found: dict[str, dict[str, Entry]],
        claims: list[KeyValue],
        takes: dict[tuple[str, str], bytes],
    ) -> None:
        if kv.key.startswith((CLAIMS, QUOTAS)):
            claims.append(kv)
            return
        try:
            plural, _, row = kv.key[len(PREFIX) :].decode().partition("/")
            if plural in found:
                definition = self._tables[plural].definition
                found[plural][row] = Entry(to_json(definition, kv.value, kv.mod_revision), kv.mod_revision)
                if stored := takes_of(definition, kv.value):
                    takes[plural, row] = stored
        except ValueError:
            log.exception("cache.unreadable", key=kv.key)

    async def _follow(self) -> None:
        async with self._etcd.watch(PREFIX, self.revision + 1) as watch:
            self._watch = watch
            async for batch in watch:
                if len(batch.events) <= self.settings.yield_every:
                    self._take_in_all(batch)
                else:
                    await self._take_in_slowly(batch)
                self._advance(batch.revision)

    def _take_in_all(self, batch: WatchBatch) -> None:
        for event in batch.events:
            self._take_in_event(event)

    async def _take_in_slowly(self, batch: WatchBatch) -> None:
        """Let others run now and then, between revisions only."""
        seen = done = 0
        for event in batch.events:
            if event.kv.mod_revision > seen and done >= self.settings.yield_every:
                self._advance(seen)
                await asyncio.sleep(0)
                done = 0
            seen, done = event.kv.mod_revision, done + 1
            self._take_in_event(event)

    def _take_in_event(self, event: Event) -> None:
        revision = event.kv.mod_revision
        if revision <= self.revision:
            return  # an own write that was taken in before
        self._own.pop(revision, None)
        value = None if event.type is EventType.DELETE else event.kv.value
        self._take_in(event.kv.key, value, revision)

    def _take_in_own(self) -> None:
        while (ops := self._own.pop(self.revision + 1, None)) is not None:
            revision = self.revision + 1
            for op in ops:
                if not isinstance(op, Get):
                    self._take_in(op.key, op.value if isinstance(op, Put) else None, revision)
            self.revision = revision
        self._wake()

    def _take_in(self, key: bytes, value: bytes | None, revision: int) -> None:
        try:
            self._route(key, value, revision)
        except ValueError:
            # Somebody else's bytes must not stop the cloud.
            log.exception("cache.unreadable", key=key)

    def _route(self, key: bytes, value: bytes | None, revision: int) -> None:
        plural, _, row = key[len(PREFIX) :].decode().partition("/")
        table = self._tables.get(plural)
        if table is not None:
            if value is None:
                table.remove(row, revision)
                self.uses.remove(table.definition, row)
            else:
                json = to_json(table.definition, value, revision)
                table.put(row, json, revision)
                self.uses.put(table.definition, row, json, takes_of(table.definition, value))
        elif key.startswith(CLAIMS):
            if value is None:
                self.claims.remove(key)
            else:
                self.claims.put(key, value)
        elif key.startswith(QUOTAS):
            if value is None:
                self.marks.pop(key, None)
                self.allowances.forget(level_of_turn(key))
            else:
                self.marks[key] = Mark(revision, value)

    def _advance(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
            self._take_in_own()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)


@contextmanager
def _no_gc() -> Iterator[None]:
    """Without the cycle collector, which would look at each of 100,000 new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
