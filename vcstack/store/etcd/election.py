"""Leader election under a lease, with a token by which etcd itself refuses the writes of a former leader.

A leader that was frozen does not know that its lease ran out, so no clock and no lock can stop its late
writes. What can is the transaction: the leader's key is created once per leadership, and every write of
the leader compares that key's create_revision (`Fence.compare`). Once the key is gone or was created by
somebody else, the write fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Self

from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import Compacted, EtcdError, EtcdUnavailable, LeaseNotFound, OutcomeUnknown
from vcstack.store.etcd.lease import HeldLease, SharedLease
from vcstack.store.etcd.ops import Compare, Delete, Get, Put
from vcstack.store.etcd.records import EventType, KeyValue, RangeResult

# Below the one prefix that everything lives under, so that one watch sees every revision.
ELECTIONS_PREFIX: Final = b"/vcstack/.leases/elections/"


@dataclass(frozen=True, slots=True)
class Fence:
    """The proof of one leadership; the create_revision rises from leader to leader."""

    key: bytes
    create_revision: int

    @property
    def compare(self) -> Compare:
        """The condition to add to every transaction of this leader."""
        return Compare.create_revision(self.key, "=", self.create_revision)


class Leadership:
    """One term as leader, from winning to losing or resigning.

    Attributes:
        fence: to be checked in every write.
        lost: set when the lease can no longer be relied on or the key is gone.
    """

    def __init__(self, client: EtcdClient, lease: HeldLease, fence: Fence) -> None:
        self.fence = fence
        self.lost = asyncio.Event()
        self._client = client
        self._lease = lease
        self._guards = [
            asyncio.create_task(self._until_lease_lost(), name="etcd-leader-lease"),
            asyncio.create_task(self._until_key_gone(), name="etcd-leader-key"),
        ]

    @property
    def held(self) -> bool:
        """Whether we lead as far as we can know; only the fence is proof."""
        return not self.lost.is_set() and self._lease.alive

    async def end(self) -> None:
        """Count as lost and stop looking; the key stays."""
        self.lost.set()
        for guard in self._guards:
            guard.cancel()
        await asyncio.gather(*self._guards, return_exceptions=True)

    async def _until_lease_lost(self) -> None:
        await self._lease.lost.wait()
        self.lost.set()

    async def _until_key_gone(self) -> None:
        fence = self.fence
        try:
            with contextlib.suppress(EtcdError):
                await _until_deleted(self._client, fence.key, fence.create_revision, fence.create_revision)
        finally:
            # After an error, too: with no eye on the key it is safer to campaign again.
            self.lost.set()


class Election:
    """One seat, for which any number of processes campaign.

    Use it as an async context manager; leaving it resigns. Elections of one process may share a lease,
    each under a name of its own; one without a lease given makes its own.
    """

    def __init__(
        self,
        client: EtcdClient,
        name: str,
        identity: str,
        ttl_seconds: int = 10,
        *,
        lease: SharedLease | None = None,
    ) -> None:
        self.key = ELECTIONS_PREFIX + name.encode() + b"/leader"
        self.identity = identity
        self._client = client
        self._lease = lease or SharedLease(client, ttl_seconds)
        self._owns_lease = lease is None
        self._leadership: Leadership | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Resign, and give back the lease if it is ours alone."""
        await self.resign()
        if self._owns_lease:
            await self._lease.aclose()

    async def campaign(self) -> Leadership:
        """Wait until we lead, however long etcd or the present leader lets us wait.

        A campaign while leading gives the same leadership again.

        Raises:
            EtcdError: etcd refused; an etcd that is merely away is waited for.
        """
        if self._leadership is not None and self._leadership.held:
            return self._leadership
        if self._leadership is not None:
            await self._leadership.end()
        while True:
            try:
                lease = await self._lease.acquire()
                holder, seen_at = await self._take_or_see(lease)
                if holder.lease == lease.id and lease.alive:
                    fence = Fence(self.key, holder.create_revision)
                    self._leadership = Leadership(self._client, lease, fence)
                    return self._leadership
                await _until_deleted(self._client, self.key, holder.create_revision, seen_at)
            except (EtcdUnavailable, OutcomeUnknown, LeaseNotFound, Compacted):
                await asyncio.sleep(self._client.settings.backoff_min_seconds)

    async def resign(self) -> None:
        """Step down so that another can lead at once; if etcd is away, the lease's end does it."""
        leadership, self._leadership = self._leadership, None
        if leadership is None:
            return
        await leadership.end()
        with contextlib.suppress(EtcdUnavailable, OutcomeUnknown):
            await self._client.txn([leadership.fence.compare], [Delete(self.key)])

    async def leader(self) -> str | None:
        """The present leader's identity, None while there is none."""
        found = await self._client.get(self.key)
        return found.kv.value.decode() if found.kv else None

    async def observe(self) -> AsyncIterator[str | None]:
        """The leader's identity now and after each change; None while there is none."""
        while True:
            found = await self._client.get(self.key)
            yield found.kv.value.decode() if found.kv else None
            async with self._client.watch(self.key, found.revision + 1) as watch:
                with contextlib.suppress(Compacted):
                    async for batch in watch:
                        for event in batch.events:
                            if event.kv.key == self.key:
                                yield event.kv.value.decode() if event.type is EventType.PUT else None

    async def _take_or_see(self, lease: HeldLease) -> tuple[KeyValue, int]:
        """Create the leader's key if it is absent; the key as it then is, and at which revision.

        After a lost answer the campaign comes here again and finds the key with its own lease.
        """
        read = Get(self.key)
        take = Put(self.key, self.identity.encode(), lease.id)
        result = await self._client.txn([Compare.absent(self.key)], [take, read], [read])
        found = result.responses[-1]
        assert isinstance(found, RangeResult)
        return found.kvs[0], result.revision


async def _until_deleted(client: EtcdClient, key: bytes, create_revision: int, seen_at: int) -> None:
    """Return once the key, which was created at one revision and seen to exist at another, is gone."""
    while True:
        with contextlib.suppress(Compacted):
            async with client.watch(key, seen_at + 1) as watch:
                async for batch in watch:
                    if any(each.kv.key == key and each.type is EventType.DELETE for each in batch.events):
                        return
        found = await client.get(key)
        if found.kv is None or found.kv.create_revision != create_revision:
            return
        seen_at = found.revision
