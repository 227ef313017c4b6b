"""What the store needs of etcd, as a protocol: ``EtcdClient`` has it, and the tests' in-memory fake."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, Self

from vcstack.store.etcd.ops import Compare, Op, Txn
from vcstack.store.etcd.records import (
    GetResult,
    Lease,
    LeaseTimeToLive,
    Page,
    PutResult,
    RangeResult,
    TxnResult,
    WatchBatch,
)


class EtcdWatch(Protocol):
    """Batches of whole revisions, in order; raises Compacted when it cannot go on."""

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> WatchBatch:
        """Return the next batch."""

    async def __aenter__(self) -> Self:
        """Return itself."""

    async def __aexit__(self, *_: object) -> None:
        """End the watch."""

    async def aclose(self) -> None:
        """End the watch; an iteration under way stops."""


class Etcd(Protocol):
    """The calls used; see ``EtcdClient`` for what they promise and raise."""

    async def get(self, key: bytes, *, revision: int = 0) -> GetResult:
        """Return one key."""

    async def range(
        self, prefix: bytes, *, start: bytes | None = None, limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Return the keys that begin with the prefix."""

    def pages(self, prefix: bytes) -> AsyncIterator[Page]:
        """Yield all keys that begin with the prefix, as of one revision."""

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> PutResult:
        """Write a key."""

    async def current_revision(self) -> int:
        """Return the store's revision by a quorum read, which concurrent callers share."""

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Do one branch of operations atomically."""

    async def txn_each(self, txns: Sequence[Txn]) -> Sequence[TxnResult]:
        """Do transactions that meet nowhere in one request."""

    def watch(self, prefix: bytes, start_revision: int) -> EtcdWatch:
        """Return the changes from that revision on."""

    async def lease_grant(self, ttl_seconds: int) -> Lease:
        """Return a new lease."""

    async def lease_keepalive_once(self, lease_id: int, *, timeout_seconds: float | None = None) -> Lease:
        """Renew a lease, within the time given or that of all requests. Raises LeaseNotFound."""

    async def lease_revoke(self, lease_id: int) -> None:
        """End a lease and delete its keys."""

    async def lease_time_to_live(self, lease_id: int) -> LeaseTimeToLive:
        """Return what is left of a lease. Raises LeaseNotFound."""
