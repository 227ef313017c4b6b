"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class ManualClock:
    """Implements vcstack.clock.Clock."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._seconds + seconds, next(self._sequence), woken))
        await woken

    def skip(self, seconds: float) -> None:
        """Move on without letting anybody run."""
        self._seconds += seconds

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its time and letting it run."""
        until = self._seconds + seconds
        await breathe()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._seconds = max(self._seconds, due)
            if not woken.done():
                woken.set_result(None)
            await breathe()
        self._seconds = until
        await breathe()


async def breathe(turns: int = 30) -> None:
    """Let everybody else run for some turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
