"""Exponential backoff with jitter, for keys that fail and for connections that break."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that double from first to limit; each is shortened at random by up to jitter of itself."""

    first_seconds: float = 0.1
    limit_seconds: float = 60.0
    jitter: float = 0.3
    rng: random.Random = field(default_factory=random.Random)

    def delay(self, failures: int) -> float:
        """Return how long to wait after that many failures in a row (from 1)."""
        full = min(self.limit_seconds, self.first_seconds * 2.0 ** min(failures - 1, 62))
        return full * (1.0 - self.jitter * self.rng.random())
