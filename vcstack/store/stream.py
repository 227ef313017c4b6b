"""A watch as its reader sees it: what was missed, what comes, and bookmarks while nothing does."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Self

import orjson

from vcstack.specs.access import EventType
from vcstack.specs.meta import API_VERSION
from vcstack.store.cache import WatchCache
from vcstack.store.records import WatchItem
from vcstack.store.table import Table
from vcstack.store.watchers import Watcher


class WatchStream:
    """An async iterator of events. It ends when the reader was too slow: resume from the last version."""

    def __init__(
        self,
        cache: WatchCache,
        table: Table,
        watcher: Watcher,
        missed: Sequence[WatchItem],
        *,
        revision: int,
        bookmark_seconds: float,
    ) -> None:
        self._cache = cache
        self._table = table
        self._watcher = watcher
        self._ready = deque(missed)
        self._revision = revision
        self._bookmark_seconds = bookmark_seconds
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._bookmark_at = self._loop.time() + bookmark_seconds
        table.add(watcher)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchItem:
        while True:
            for item in await self.read(self._bookmark_seconds, most=1):
                return item

    async def read(self, seconds: float, *, most: int) -> Sequence[WatchItem]:
        """Return what waits, at most so many, waiting up to that long for something; nothing if nothing came.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        end = self._loop.time() + seconds
        while not self._ready:
            if self._closed or self._watcher.dropped:
                await self.aclose()
                raise StopAsyncIteration
            now = self._loop.time()
            if now >= self._bookmark_at and not self._watcher.has_waiting:
                self._bookmark_at = now + self._bookmark_seconds
                if self._cache.revision > self._revision:
                    self._ready.append(self._bookmark())
                    break
            if now >= end and not self._watcher.has_waiting:
                return ()
            self._ready.extend(await self._watcher.read(min(end, self._bookmark_at) - now))
        items = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
        self._revision = items[-1].revision
        self._bookmark_at = self._loop.time() + self._bookmark_seconds
        return items

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A stream that is simply let go of must not be fed for ever.
        self._table.discard(self._watcher)

    async def aclose(self) -> None:
        """Stop watching."""
        self._closed = True
        self._ready.clear()
        self._table.discard(self._watcher)

    def _bookmark(self) -> WatchItem:
        """Return the version that the reader has seen everything up to, for nothing waits."""
        return build_bookmark(self._table, self._cache.revision)


def build_bookmark(table: Table, revision: int) -> WatchItem:
    """Return what tells a reader that it has seen everything up to that version."""
    kind = table.definition.kind
    wire = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"resourceVersion": str(revision)}}
    return WatchItem(EventType.BOOKMARK, orjson.dumps(wire), revision)
