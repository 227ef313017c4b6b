"""Objects that vanish by themselves: etcd leases shared by all that are written within some minutes."""

import asyncio
from dataclasses import dataclass

from vcstack.clock import Clock
from vcstack.store.etcd_api import Etcd

BUCKETS = 24
"""A lease serves the writes of this part of its time; an object may live so much longer than asked for."""
WRITES = 100
"""A lease serves no more writes than that. When it ends etcd deletes their keys all at once, and etcd 3.4 keeps the
buffer that this took, which it copies for each read from then on: after 8,000 keys it was three times slower."""


@dataclass(slots=True)
class _Bucket:
    lease: int
    until: float
    """By the monotonic clock."""
    writes_left: int = WRITES


class LeaseBuckets:
    """Leases by lifetime, each used for a while."""

    def __init__(self, etcd: Etcd, clock: Clock) -> None:
        self._etcd = etcd
        self._clock = clock
        self._current: dict[int, _Bucket] = {}
        self._granting = asyncio.Lock()

    async def lease_for(self, ttl_seconds: int) -> int:
        """Return a lease that lasts at least that long from now on.

        Raises:
            EtcdError: none could be granted.
        """
        async with self._granting:
            bucket = self._current.get(ttl_seconds)
            now = self._clock.monotonic()
            if bucket is None or now >= bucket.until or not bucket.writes_left:
                seconds = max(1, ttl_seconds // BUCKETS)
                lease = (await self._etcd.lease_grant(ttl_seconds + seconds)).id
                bucket = self._current[ttl_seconds] = _Bucket(lease, now + seconds)
            bucket.writes_left -= 1
            return bucket.lease

    def forget(self, lease: int) -> None:
        """Use a lease no more: etcd says that it is gone."""
        self._current = {ttl: held for ttl, held in self._current.items() if held.lease != lease}
