"""Which hosts are alive: a key of each under a lease of its own, renewed by the host's heartbeats.

A heartbeat renews the lease, which costs the store no revision; the key is written when the host appears
and vanishes when it is silent.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from vcstack.specs.errors import Unavailable
from vcstack.store.etcd.errors import Compacted, EtcdError, FutureRevision, LeaseNotFound
from vcstack.store.etcd.records import EventType
from vcstack.store.etcd_api import Etcd
from vcstack.store.keys import HEARTBEATS

TTL_SECONDS: Final = 15
_RETRY_SECONDS: Final = 1.0


class Heartbeats:
    """Takes heartbeats and tells who is alive."""

    def __init__(self, etcd: Etcd, ttl_seconds: int = TTL_SECONDS) -> None:
        self._etcd = etcd
        self._ttl = ttl_seconds
        self._leases: dict[str, int] = {}

    async def beat(self, host: str) -> int:
        """Note that the host is alive; return for how many seconds it counts as alive now.

        Any replica takes any heartbeat: the key knows its lease. Raises Unavailable.
        """
        try:
            lease = self._leases.get(host) or await self._find_lease(host)
            if lease and await self._renew(host, lease):
                return self._ttl
            lease = (await self._etcd.lease_grant(self._ttl)).id
            await self._etcd.put(HEARTBEATS + host.encode(), b"{}", lease=lease)
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        self._leases[host] = lease
        return self._ttl

    async def live_hosts(self) -> AsyncIterator[frozenset[str]]:
        """Yield the names of all hosts whose lease is held: at once, and anew at each change."""
        last: frozenset[str] | None = None
        while True:
            try:
                async for alive in self._follow():
                    if alive != last:
                        last = alive
                        yield alive
            except (Compacted, FutureRevision):
                continue
            except EtcdError:
                # Nobody is declared dead because etcd is away.
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> AsyncIterator[frozenset[str]]:
        found = await self._etcd.range(HEARTBEATS)
        alive = {kv.key[len(HEARTBEATS) :].decode() for kv in found.kvs}
        yield frozenset(alive)
        async with self._etcd.watch(HEARTBEATS, found.revision + 1) as watch:
            async for batch in watch:
                for event in batch.events:
                    name = event.kv.key[len(HEARTBEATS) :].decode()
                    (alive.add if event.type is EventType.PUT else alive.discard)(name)
                yield frozenset(alive)

    async def _find_lease(self, host: str) -> int:
        found = (await self._etcd.get(HEARTBEATS + host.encode())).kv
        return found.lease if found else 0

    async def _renew(self, host: str, lease: int) -> bool:
        try:
            await self._etcd.lease_keepalive_once(lease)
        except LeaseNotFound:
            self._leases.pop(host, None)
            return False
        self._leases[host] = lease
        return True
