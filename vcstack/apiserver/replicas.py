"""Which replica of the API server has which host's tunnel: keys in etcd under one lease a replica."""

import asyncio

import orjson
import structlog

from vcstack.specs.errors import Unavailable
from vcstack.store.etcd.errors import EtcdError, LeaseNotFound
from vcstack.store.etcd.ops import Compare, Delete, Put
from vcstack.store.etcd_api import Etcd

logger = structlog.get_logger(__name__)

PREFIX = b"/vcstack/.leases/tunnels/"
TTL_SECONDS = 15
RENEW_SECONDS = 5.0


class ReplicaDirectory:
    """Notes this replica's hosts and finds those of others. Without an address of its own it notes nothing."""

    def __init__(self, etcd: Etcd, url: str | None) -> None:
        self._etcd = etcd
        self._url = url
        self._value = orjson.dumps({"url": url})
        self._lease = 0
        self._hosts: set[str] = set()

    async def run(self) -> None:
        """Renew the lease for as long as the server runs; note all hosts again when it was lost."""
        while self._url is not None:
            try:
                await self._renew()
            except EtcdError as error:
                logger.warning("cannot renew the lease of the tunnels", error=str(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def aclose(self) -> None:
        """Give the lease up, and all that is noted with it."""
        lease, self._lease = self._lease, 0
        if lease:
            try:
                await self._etcd.lease_revoke(lease)
            except EtcdError as error:
                logger.info("the lease of the tunnels runs out by itself", error=str(error))

    async def announce(self, host: str) -> None:
        """Note that the host's tunnel ends here. Tried again by run() when the store does not answer."""
        self._hosts.add(host)
        if self._url is not None:
            try:
                await self._put([host])
            except EtcdError as error:
                logger.warning("cannot note the tunnel", host=host, error=str(error))

    async def withdraw(self, host: str) -> None:
        """Note that the tunnel is gone, unless another replica has noted its own meanwhile."""
        self._hosts.discard(host)
        if self._url is not None:
            key = PREFIX + host.encode()
            try:
                await self._etcd.txn([Compare.value(key, "=", self._value)], [Delete(key)])
            except EtcdError as error:
                logger.info("the note of the tunnel runs out by itself", host=host, error=str(error))

    async def find(self, host: str) -> str | None:
        """Return the address of the replica that has the host's tunnel, None when none has it."""
        try:
            found = (await self._etcd.get(PREFIX + host.encode())).kv
        except EtcdError as error:
            raise Unavailable(f"the store does not answer: {error}") from error
        return None if found is None else orjson.loads(found.value)["url"]

    async def _renew(self) -> None:
        if not self._hosts and not self._lease:
            return
        try:
            if self._lease:
                await self._etcd.lease_keepalive_once(self._lease)
                return
        except LeaseNotFound:
            self._lease = 0
        await self._put(sorted(self._hosts))

    async def _put(self, hosts: list[str]) -> None:
        try:
            await self._put_once(hosts)
        except LeaseNotFound:
            self._lease = 0
            await self._put_once(sorted(self._hosts))

    async def _put_once(self, hosts: list[str]) -> None:
        if not self._lease:
            self._lease = (await self._etcd.lease_grant(TTL_SECONDS)).id
        for host in hosts:
            await self._etcd.txn([], [Put(PREFIX + host.encode(), self._value, self._lease)])
