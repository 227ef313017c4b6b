"""A small etcd in memory: what the store uses of EtcdClient, deterministic, proven by the same contract tests.

Its content outlives whoever uses it, so a crashed store is simulated by starting another on the same
instance. Time for leases moves by ``advance`` only. ``hook`` is called before and after each call and may
raise: raising OutcomeUnknown after a write is a lost answer.
"""

import asyncio
import bisect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal, Self

import grpc

from vcstack.store.etcd.errors import Compacted, EtcdRefused, FutureRevision, LeaseNotFound, RequestTooLarge
from vcstack.store.etcd.ops import Compare, Delete, Get, Op, Put, Txn, prefix_end
from vcstack.store.etcd.records import (
    DeleteResult,
    Event,
    EventType,
    GetResult,
    KeyValue,
    Lease,
    LeaseTimeToLive,
    OpResult,
    Page,
    PutResult,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from vcstack.store.keys import NUDGE

Phase = Literal["before", "after"]
MAX_OPERATIONS = 128
MAX_REQUEST_BYTES = 1536 * 1024


class MemoryEtcd:
    """One etcd; share the instance among all that should see the same state."""

    def __init__(self) -> None:
        self.revision = 1
        self.hook: Callable[[str, Phase], None] = lambda call, phase: None
        """Called as hook("txn", "before") and so on."""
        self.compacted = 0
        self.writes = 0
        """How many calls changed something that is of any meaning; a cache that waited nudges itself."""
        self._live: dict[bytes, KeyValue] = {}
        self._keys: list[bytes] = []
        self._log: list[WatchBatch] = []
        self._leases: dict[int, tuple[float, int]] = {}
        self._lease_keys: dict[int, set[bytes]] = {}
        self._lease_id = 0
        self._now = 0.0
        self._changed = asyncio.Event()
        self.watches: set[MemoryWatch] = set()

    async def get(self, key: bytes, *, revision: int = 0) -> GetResult:
        async with self._call("get"):
            self._check_revision(revision)
            state = self._as_of(revision)
            return GetResult(state.get(key), self.revision)

    async def range(
        self,
        prefix: bytes,
        *,
        start: bytes | None = None,
        end: bytes | None = None,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
    ) -> RangeResult:
        async with self._call("range"):
            self._check_revision(revision)
            get = Get(start or prefix, end or prefix_end(prefix), limit, keys_only)
            return self._range(get, self._as_of(revision))

    async def pages(self, prefix: bytes, *, page_size: int = 5000, revision: int = 0) -> AsyncIterator[Page]:
        start: bytes | None = None
        while True:
            found = await self.range(prefix, start=start, limit=page_size, revision=revision)
            revision = revision or found.revision
            yield Page(found.kvs, revision, not found.more)
            if not found.more:
                return
            start = found.kvs[-1].key + b"\0"

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> PutResult:
        async with self._call("put"):
            self._check_size((Put(key, value, lease),))
            self._apply((Put(key, value, lease),))
            return PutResult(self.revision)

    async def delete(self, key: bytes, *, range_end: bytes | None = None) -> DeleteResult:
        async with self._call("delete"):
            result = self._apply((Delete(key, range_end),))[0]
            assert isinstance(result, DeleteResult)
            return result

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        async with self._call("txn"):
            for branch in (success, failure):
                self._check_size(branch)
            succeeded = all(self._holds(each) for each in compares)
            responses = self._apply(success if succeeded else failure)
            return TxnResult(succeeded, self.revision, tuple(responses))

    async def txn_each(self, txns: Sequence[Txn]) -> Sequence[TxnResult]:
        async with self._call("txn_each"):
            held = [all(self._holds(c) for c in each.compares) for each in txns]
            branches = [each.success if holds else each.failure for each, holds in zip(txns, held, strict=True)]
            done = [op for branch in branches for op in branch]
            for branch in branches:
                self._check_size(branch)
            responses = iter(self._apply(done))
            return [
                TxnResult(holds, self.revision, tuple(itertools.islice(responses, len(branch))))
                for branch, holds in zip(branches, held, strict=True)
            ]

    async def current_revision(self) -> int:
        async with self._call("current_revision"):
            return self.revision

    def watch(self, prefix: bytes, start_revision: int) -> "MemoryWatch":
        if start_revision < 1:
            raise ValueError("a watch starts at revision 1 or later; take the listing's revision + 1")
        return MemoryWatch(self, prefix, start_revision)

    async def lease_grant(self, ttl_seconds: int) -> Lease:
        async with self._call("lease_grant"):
            self._lease_id += 1
            self._leases[self._lease_id] = (self._now + ttl_seconds, ttl_seconds)
            self._lease_keys[self._lease_id] = set()
            return Lease(self._lease_id, ttl_seconds)

    async def lease_keepalive_once(self, lease_id: int, *, timeout_seconds: float | None = None) -> Lease:
        async with self._call("lease_keepalive_once"):
            ttl = self._lease(lease_id)[1]
            self._leases[lease_id] = (self._now + ttl, ttl)
            return Lease(lease_id, ttl)

    async def lease_revoke(self, lease_id: int) -> None:
        async with self._call("lease_revoke"):
            self._revoke(lease_id)

    async def lease_time_to_live(self, lease_id: int) -> LeaseTimeToLive:
        async with self._call("lease_time_to_live"):
            end, ttl = self._lease(lease_id)
            return LeaseTimeToLive(lease_id, int(end - self._now), ttl, tuple(sorted(self._lease_keys[lease_id])))

    async def compact(self, revision: int) -> None:
        """Forget what is older than the revision; watches that need it get Compacted."""
        async with self._call("compact"):
            self._check_revision(revision)
            self.compacted = revision
            self._changed.set()

    def advance(self, seconds: float) -> None:
        """Let time pass; leases that run out take their keys along."""
        self._now += seconds
        for lease_id in [i for i, (end, _) in self._leases.items() if end <= self._now]:
            self._revoke(lease_id)

    def snapshot(self) -> dict[bytes, bytes]:
        """Return all keys and values, in order."""
        return {key: self._live[key].value for key in self._keys}

    def _call(self, name: str) -> "_Call":
        return _Call(self, name)

    def _lease(self, lease_id: int) -> tuple[float, int]:
        if lease_id not in self._leases:
            raise LeaseNotFound(f"lease {lease_id:x} is gone")
        return self._leases[lease_id]

    def _revoke(self, lease_id: int) -> None:
        if self._leases.pop(lease_id, None) is not None:
            self._apply([Delete(key) for key in sorted(self._lease_keys.pop(lease_id))])

    def _check_revision(self, revision: int) -> None:
        if revision and revision < self.compacted:
            raise Compacted("required revision has been compacted", self.compacted)
        if revision > self.revision:
            raise FutureRevision("required revision is a future revision")

    def _check_size(self, ops: Sequence[Op]) -> None:
        size = sum(len(op.key) + (len(op.value) if isinstance(op, Put) else 0) for op in ops)
        if len(ops) > MAX_OPERATIONS or size > MAX_REQUEST_BYTES:
            raise RequestTooLarge("request is too large")

    def _as_of(self, revision: int) -> dict[bytes, KeyValue]:
        if revision in (0, self.revision):
            return self._live
        state: dict[bytes, KeyValue] = {}
        for batch in self._log:
            if batch.revision > revision:
                break
            for event in batch.events:
                if event.type is EventType.PUT:
                    state[event.kv.key] = event.kv
                else:
                    state.pop(event.kv.key, None)
        return state

    def _span(self, key: bytes, range_end: bytes | None, keys: Sequence[bytes]) -> Sequence[bytes]:
        if range_end is None:
            return [key]
        first = bisect.bisect_left(keys, key)
        return keys[first:] if range_end == b"\0" else keys[first : bisect.bisect_left(keys, range_end)]

    def _range(self, get: Get, state: dict[bytes, KeyValue]) -> RangeResult:
        keys = self._span(get.key, get.range_end, self._keys if state is self._live else sorted(state))
        found = [state[k] for k in keys if k in state]
        cut = found[: get.limit] if get.limit else found
        kvs = tuple(kv._replace(value=b"") if get.keys_only else kv for kv in cut)
        return RangeResult(kvs, self.revision, len(cut) < len(found), len(found))

    def _holds(self, compare: Compare) -> bool:
        keys = self._span(compare.key, compare.range_end, self._keys)
        return all(_compare(compare, self._live.get(k)) for k in keys or [compare.key])

    def _apply(self, ops: Sequence[Op]) -> list[OpResult]:
        puts = [op.key for op in ops if isinstance(op, Put)]
        if len(puts) != len(set(puts)):
            raise EtcdRefused("etcdserver: duplicate key given in txn request", grpc.StatusCode.INVALID_ARGUMENT)
        for op in ops:
            if isinstance(op, Put) and op.lease:
                self._lease(op.lease)
        next_revision = self.revision + 1
        events: list[Event] = []
        results: list[OpResult | Get] = []
        for op in ops:
            if isinstance(op, Get):
                results.append(op)
            else:
                done = list(self._put(op, next_revision) if isinstance(op, Put) else self._delete(op, next_revision))
                events += done
                results.append(PutResult(next_revision) if isinstance(op, Put) else DeleteResult(len(done), 0))
        if events:
            self.revision = next_revision
            self.writes += any(event.kv.key != NUDGE for event in events)
            self._log.append(WatchBatch(tuple(events), next_revision))
            self._changed.set()
        return [self._finish(each) for each in results]

    def _finish(self, result: OpResult | Get) -> OpResult:
        # Reads of a transaction are put last in ours, so they see all its writes.
        if isinstance(result, Get):
            return self._range(result, self._live)
        return result._replace(revision=self.revision) if isinstance(result, DeleteResult) else result

    def _put(self, op: Put, revision: int) -> Iterator[Event]:
        old = self._live.get(op.key)
        if old is None:
            bisect.insort(self._keys, op.key)
        elif old.lease:
            self._lease_keys.get(old.lease, set()).discard(op.key)
        if op.lease:
            self._lease_keys[op.lease].add(op.key)
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        kv = KeyValue(op.key, op.value, created, revision, version, op.lease)
        self._live[op.key] = kv
        yield Event(EventType.PUT, kv, None)

    def _delete(self, op: Delete, revision: int) -> Iterator[Event]:
        for key in [k for k in self._span(op.key, op.range_end, self._keys) if k in self._live]:
            old = self._live.pop(key)
            self._keys.pop(bisect.bisect_left(self._keys, key))
            self._lease_keys.get(old.lease, set()).discard(key)
            yield Event(EventType.DELETE, KeyValue(key, b"", 0, revision, 0, 0), None)


class _Call:
    """Around each call: the hook, and a point where other tasks run."""

    def __init__(self, etcd: MemoryEtcd, name: str) -> None:
        self._etcd, self._name = etcd, name

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)
        self._etcd.hook(self._name, "before")

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._etcd.hook(self._name, "after")
            await asyncio.sleep(0)


class MemoryWatch:
    """A watch as EtcdClient's: whole revisions, in order."""

    def __init__(self, etcd: MemoryEtcd, prefix: bytes, start_revision: int) -> None:
        self.revision = start_revision - 1
        self._etcd, self._prefix, self._closed = etcd, prefix, False
        etcd.watches.add(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._closed:
            await asyncio.sleep(0)
            found = self._next()
            if found is not None:
                self.revision = found.revision
                return found
            self._etcd._changed.clear()
            await self._etcd._changed.wait()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        self._etcd.watches.discard(self)
        self._etcd._changed.set()

    def _next(self) -> WatchBatch | None:
        etcd = self._etcd
        if max(self.revision, 1) < etcd.compacted:
            raise Compacted("the watched revision was compacted", etcd.compacted)
        first = bisect.bisect_right(etcd._log, self.revision, key=lambda batch: batch.revision)
        for batch in etcd._log[first:]:
            events = tuple(e for e in batch.events if e.kv.key.startswith(self._prefix))
            if events:
                return WatchBatch(events, batch.revision)
            self.revision = batch.revision
        return None


def _compare(compare: Compare, kv: KeyValue | None) -> bool:
    if kv is None and compare.target == "value":
        return False
    left: Any = getattr(kv, compare.target) if kv else 0
    right: Any = compare.operand
    match compare.relation:
        case "=":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case "<":
            return bool(left < right)
        case ">":
            return bool(left > right)
