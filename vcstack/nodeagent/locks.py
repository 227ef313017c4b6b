"""One lock for each instance: its reconcile, its tasks and the sweep never act on it at the same time."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator


class Locks:
    """Locks by uid, kept only while somebody holds or wants them."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def of(self, uid: str) -> AsyncIterator[None]:
        """Hold the lock of that uid."""
        lock = self._locks.setdefault(uid, asyncio.Lock())
        self._users[uid] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid], self._locks[uid]
