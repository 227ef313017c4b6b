"""Time as a dependency: the runtime and everything on it reads the clock that it was given."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What is needed of time."""

    def now(self) -> datetime:
        """Return the wall clock's time in UTC, for timestamps."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time in UTC, in whole microseconds."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return time.monotonic()."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)
