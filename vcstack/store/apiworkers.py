"""Which processes serve the API now, and what each applies: a key of each under a lease of its own.

Renewing a lease costs the store no revision; a key is written when a worker appears and when what it applies
changes. It vanishes with an orderly stop at once, else when the lease runs out.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import orjson
import structlog

from vcstack.store.etcd.errors import Compacted, EtcdError, FutureRevision, LeaseNotFound
from vcstack.store.etcd.ops import Put
from vcstack.store.etcd.records import EventType, KeyValue
from vcstack.store.etcd_api import Etcd

logger = structlog.get_logger(__name__)

PREFIX: Final = b"/vcstack/.leases/api/"
TTL_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0

Applied = Mapping[str, int]
"""From a policy's uid to the generation that a worker applies."""


class ApiWorkers:
    """Tells who is there."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def live_workers(self) -> AsyncIterator[Mapping[str, Applied]]:
        """Yield what each live worker applies, by its name: at once, and anew at each change."""
        while True:
            try:
                async for found in self._follow():
                    yield found
            except (Compacted, FutureRevision):
                continue
            except EtcdError:
                # Nobody is taken for gone because etcd is away.
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> AsyncIterator[Mapping[str, Applied]]:
        found = await self._etcd.range(PREFIX)
        workers = {_name_of(kv): _read(kv) for kv in found.kvs}
        yield dict(workers)
        async with self._etcd.watch(PREFIX, found.revision + 1) as watch:
            async for batch in watch:
                for event in batch.events:
                    if event.type is EventType.PUT:
                        workers[_name_of(event.kv)] = _read(event.kv)
                    else:
                        workers.pop(_name_of(event.kv), None)
                yield dict(workers)


class Membership:
    """This worker among them."""

    def __init__(self, etcd: Etcd, name: str) -> None:
        self._etcd = etcd
        self._key = PREFIX + name.encode()
        self._lease = 0
        self._declared: bytes | None = None

    async def declare(self, applied: Applied) -> None:
        """Say that we are there and apply this. Raises EtcdError."""
        value = orjson.dumps({"policies": applied}, option=orjson.OPT_SORT_KEYS)
        if value == self._declared and self._lease:
            return
        try:
            await self._put(value)
        except LeaseNotFound:
            self._lease = 0
            await self._put(value)

    async def renew(self) -> None:
        """Stay. Raises EtcdError; when the lease was lost the next ``declare`` makes another one."""
        if self._lease:
            try:
                await self._etcd.lease_keepalive_once(self._lease)
            except LeaseNotFound:
                self._lease = 0

    async def leave(self) -> None:
        """Go at once; if etcd cannot be reached, the lease runs out by itself."""
        lease, self._lease = self._lease, 0
        if lease:
            try:
                await self._etcd.lease_revoke(lease)
            except EtcdError as error:
                logger.info("the lease of this API worker runs out by itself", error=str(error))

    async def _put(self, value: bytes) -> None:
        if not self._lease:
            self._lease = (await self._etcd.lease_grant(TTL_SECONDS)).id
        await self._etcd.txn([], [Put(self._key, value, self._lease)])
        self._declared = value


def _name_of(kv: KeyValue) -> str:
    return kv.key[len(PREFIX) :].decode("utf-8", "replace")


def _read(kv: KeyValue) -> Applied:
    try:
        policies = orjson.loads(kv.value)["policies"]
        return {str(uid): int(generation) for uid, generation in policies.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
