"""Objects that vanish by themselves: etcd leases shared by all that are written within some minutes."""

import asyncio

from vcstack.clock import Clock
from vcstack.store.etcd_api import Etcd

BUCKETS = 24
"""A lease serves the writes of this part of its time; an object may live so much longer than asked for."""


class LeaseBuckets:
    """Leases by lifetime, each used for a while."""

    def __init__(self, etcd: Etcd, clock: Clock) -> None:
        self._etcd = etcd
        self._clock = clock
        self._current: dict[int, tuple[int, float]] = {}
        self._granting = asyncio.Lock()

    async def lease_for(self, ttl_seconds: int) -> int:
        """Return a lease that lasts at least that long from now on.

        Raises:
            EtcdError: none could be granted.
        """
        async with self._granting:
            lease, until = self._current.get(ttl_seconds, (0, 0.0))
            now = self._clock.monotonic()
            if now >= until:
                bucket = max(1, ttl_seconds // BUCKETS)
                lease = (await self._etcd.lease_grant(ttl_seconds + bucket)).id
                self._current[ttl_seconds] = (lease, now + bucket)
            return lease

    def forget(self, lease: int) -> None:
        """Use a lease no more: etcd says that it is gone."""
        self._current = {ttl: held for ttl, held in self._current.items() if held[0] != lease}
