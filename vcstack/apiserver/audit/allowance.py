"""How many denials of one caller are recorded one by one: a flood of them must not fill the disk."""

from collections.abc import Callable
from typing import Final

RATE: Final = 10.0
"""Records a second of one caller, in the long run."""
BURST: Final = 200.0
CALLERS: Final = 10_000
"""Remembered; more share what the first of them is allowed."""


class Allowance:
    """A token bucket a caller. What is over is counted, and the next record tells of it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}
        self._suppressed: dict[str, int] = {}

    def take(self, caller: str) -> int | None:
        """Return how many were suppressed since the caller's last record, None when this one is to be."""
        now = self._now()
        if caller not in self._left and len(self._left) >= CALLERS:
            self._forget(now)
            if len(self._left) >= CALLERS:
                caller = "others"
        left, at = self._left.get(caller, (BURST, now))
        left = min(BURST, left + (now - at) * RATE)
        if left < 1:
            self._left[caller] = left, now
            self._suppressed[caller] = self._suppressed.get(caller, 0) + 1
            return None
        self._left[caller] = left - 1, now
        return self._suppressed.pop(caller, 0)

    def flush(self) -> dict[str, int]:
        """Return what was suppressed and is told by no record yet, of callers that may be recorded again."""
        now = self._now()
        told = {c: n for c, n in self._suppressed.items() if self._left[c][0] + (now - self._left[c][1]) * RATE >= 1}
        for caller in told:
            del self._suppressed[caller]
        return told

    def _forget(self, now: float) -> None:
        full = [c for c, (left, at) in self._left.items() if left + (now - at) * RATE >= BURST]
        for caller in full:
            if caller not in self._suppressed:
                del self._left[caller]
