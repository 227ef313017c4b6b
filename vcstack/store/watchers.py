"""One reader of a watch: a bounded queue between the cache and a slow or fast client."""

import asyncio
from collections import deque
from collections.abc import Sequence

from vcstack.store.records import WatchItem
from vcstack.store.selection import Selection


class Watcher:
    """Events wait here until they are read; one who lets too many wait is dropped."""

    def __init__(self, selection: Selection, limit: int, most_bytes: int) -> None:
        self.selection = selection
        self.dropped = False
        """Whether the stream ends: the reader was too slow, or the cache was built anew."""
        self._limit = limit
        self._most_bytes = most_bytes
        self._bytes = 0
        self._queue: deque[WatchItem] = deque()
        self._wake: asyncio.Future[None] | None = None

    @property
    def has_waiting(self) -> bool:
        """Return whether a read would return at once, with something."""
        return bool(self._queue)

    def offer(self, item: WatchItem) -> None:
        """Add an event; drops the watcher when too many wait."""
        if self.dropped:
            return
        self._bytes += len(item.json)
        if len(self._queue) >= self._limit or (self._bytes > self._most_bytes and self._queue):
            self.drop()
            return
        self._queue.append(item)
        self._awake()

    def drop(self) -> None:
        """End the stream at once; what waits is not delivered, so that the reader resumes before it."""
        self.dropped = True
        self._queue.clear()
        self._awake()

    async def read(self, seconds: float) -> Sequence[WatchItem]:
        """Return all that waits, waiting up to that long for something; nothing if nothing came."""
        if not self._queue and not self.dropped:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._wake
            except TimeoutError:
                return ()
            finally:
                self._wake = None
        items = tuple(self._queue)
        self._queue.clear()
        self._bytes = 0
        return items

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
