"""Turns: writes that rest on the same limit are sent one after the other, in the order in which they came.

Of two that are under way at once only one can succeed. Across processes the transaction decides; within one,
waiting is cheaper than failing: 200 creates at once would be 20,000 attempts.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

STREAK = 16
REST_SECONDS = 0.005
"""After so many writes in a row, with others waiting, a process pauses so long: another one, which learns of
each write by its watch only, would otherwise always be late."""


class _Turnstile:
    """Lets one through at a time."""

    def __init__(self) -> None:
        self.taken = False
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.streak = 0


class Turnstiles:
    """The turnstiles of one process, made when they are needed and forgotten when nobody is at them."""

    def __init__(self) -> None:
        self._turnstiles: dict[str, _Turnstile] = {}

    def __len__(self) -> int:
        return len(self._turnstiles)

    async def take(self, level: str) -> bool:
        """Take the turnstile; return whether that took waiting."""
        turnstile = self._turnstiles.setdefault(level, _Turnstile())
        if not turnstile.taken:
            turnstile.taken = True
            return False
        future = asyncio.get_running_loop().create_future()
        turnstile.waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(level)  # it was handed over in the same moment
            else:
                turnstile.waiting.remove(future)
            raise
        return True

    def release(self, level: str) -> None:
        """Hand the turnstile to who has waited longest."""
        turnstile = self._turnstiles[level]
        while turnstile.waiting:
            future = turnstile.waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        del self._turnstiles[level]

    def is_due(self, level: str) -> bool:
        """Return whether after one more write others should have a chance."""
        turnstile = self._turnstiles[level]
        turnstile.streak = turnstile.streak + 1 if turnstile.waiting else 0
        if turnstile.streak < STREAK:
            return False
        turnstile.streak = 0
        return True


class Turn:
    """The turnstiles that one write holds."""

    def __init__(self, turnstiles: Turnstiles) -> None:
        self._turnstiles = turnstiles
        self._held: list[str] = []

    async def wait(self, levels: Sequence[str]) -> bool:
        """Take the levels' turnstiles, given from the top down; return whether that took waiting.

        Each write takes them in the order of their names, so none wait for each other.
        """
        if set(levels) <= set(self._held):
            return False
        wanted = sorted({*levels, *self._held})
        self.end()
        waited = False
        for level in wanted:
            waited |= await self._turnstiles.take(level)
            self._held.append(level)
        return waited

    async def rest(self) -> None:
        """Give other processes a chance now and then."""
        if any(self._turnstiles.is_due(level) for level in self._held):
            await asyncio.sleep(REST_SECONDS)

    def end(self) -> None:
        """Let the next ones through."""
        while self._held:
            self._turnstiles.release(self._held.pop())
