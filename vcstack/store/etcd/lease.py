"""A lease that is kept alive while this process is well, shared by all that wants to die with it."""

import asyncio
import contextlib
from typing import Final, Self

from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdError, LeaseNotFound

# Of the lease's time, counted from when the renewal was sent: after the first part it is renewed, after
# the second we hold it for lost, while the server, which counts from when the renewal arrived, still
# waits. The rest is the time for those who act under the lease to stop.
_RENEW_AFTER: Final = 0.3
_LOST_AFTER: Final = 0.8
# Short enough that a renewal which hangs on one member is tried on the next before the lease is lost.
_TRY_FOR: Final = 0.15
_TRY_AGAIN_AFTER: Final = 0.02


class HeldLease:
    """One lease from its grant to its loss; made by `SharedLease`.

    Attributes:
        id: etcd's number of the lease.
        lost: set as soon as the lease can no longer be relied on; it never comes back.
    """

    def __init__(self, client: EtcdClient, lease_id: int, ttl_seconds: int, since: float) -> None:
        self.id = lease_id
        self.lost = asyncio.Event()
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._deadline = since + ttl_seconds * _LOST_AFTER
        self._ttl_seconds = ttl_seconds
        self._timer = self._loop.call_at(self._deadline, self._expire)
        self._renewals = asyncio.create_task(self._renew(), name=f"etcd-lease-{lease_id:x}")

    @property
    def alive(self) -> bool:
        """Whether the lease can be relied on now; looks at the clock, not only at what was noticed."""
        return not self.lost.is_set() and self._loop.time() < self._deadline

    async def give_up(self) -> None:
        """Stop renewing and count as lost."""
        self._expire()
        await asyncio.gather(self._renewals, return_exceptions=True)

    def _expire(self) -> None:
        self.lost.set()
        self._timer.cancel()
        self._renewals.cancel()

    async def _renew(self) -> None:
        pause = self._ttl_seconds * _RENEW_AFTER
        while True:
            await asyncio.sleep(pause)
            sent = self._loop.time()
            try:
                await self._client.lease_keepalive_once(self.id, timeout_seconds=self._ttl_seconds * _TRY_FOR)
            except LeaseNotFound:
                self.lost.set()
                self._timer.cancel()
                return
            except EtcdError:
                pause = self._ttl_seconds * _TRY_AGAIN_AFTER  # the timer decides when it is too late
                continue
            pause = self._ttl_seconds * _RENEW_AFTER
            self._deadline = sent + self._ttl_seconds * _LOST_AFTER
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._expire)


class SharedLease:
    """The lease of a process: granted when first needed, and anew after a loss.

    Use it as an async context manager; leaving it revokes the lease, so that others take over at once.
    """

    def __init__(self, client: EtcdClient, ttl_seconds: int = 10) -> None:
        self._client = client
        self._ttl_seconds = ttl_seconds
        self._held: HeldLease | None = None
        self._granting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def acquire(self) -> HeldLease:
        """The lease, alive; a new one if there was none or it was lost.

        Raises:
            EtcdError: none could be granted.
        """
        async with self._granting:
            if self._held is None or not self._held.alive:
                if self._held is not None:
                    await self._held.give_up()
                since = asyncio.get_running_loop().time()
                granted = await self._client.lease_grant(self._ttl_seconds)
                self._held = HeldLease(self._client, granted.id, granted.ttl_seconds, since)
            return self._held

    async def aclose(self) -> None:
        """Give the lease back; if etcd cannot be reached it runs out by itself."""
        async with self._granting:
            held, self._held = self._held, None
            if held is not None:
                await held.give_up()
                with contextlib.suppress(EtcdError):
                    await self._client.lease_revoke(held.id)
