"""The one place that knows etcd's protobuf messages; everything else works on our plain values.

The stubs are the ones that aetcd carries, generated for today's protobuf. Nothing else of aetcd is used:
its client opens insecure channels only (ADR 0003).
"""

from collections.abc import Sequence
from typing import Any, Final

from vcstack.store.etcd.grpc_library import grpc

# isort: split
from aetcd.rpc import kv_pb2, rpc_pb2, rpc_pb2_grpc

from vcstack.store.etcd.ops import Compare, Delete, Get, Op, Put, SortBy, Txn
from vcstack.store.etcd.records import (
    DeleteResult,
    Event,
    EventType,
    KeyValue,
    Lease,
    LeaseTimeToLive,
    OpResult,
    PutResult,
    RangeResult,
    Status,
    TxnResult,
)

# Generated code has no types, and any of these may be any message.
Message = Any

_RELATIONS: Final = {
    "=": rpc_pb2.Compare.EQUAL,
    "!=": rpc_pb2.Compare.NOT_EQUAL,
    "<": rpc_pb2.Compare.LESS,
    ">": rpc_pb2.Compare.GREATER,
}
_TARGETS: Final = {
    "version": rpc_pb2.Compare.VERSION,
    "create_revision": rpc_pb2.Compare.CREATE,
    "mod_revision": rpc_pb2.Compare.MOD,
    "value": rpc_pb2.Compare.VALUE,
    "lease": rpc_pb2.Compare.LEASE,
}


class Stubs:
    """etcd's services on one channel, one attribute a method."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        kv = rpc_pb2_grpc.KVStub(channel)
        lease = rpc_pb2_grpc.LeaseStub(channel)
        self.range = kv.Range
        self.put = kv.Put
        self.delete_range = kv.DeleteRange
        self.txn = kv.Txn
        self.compact = kv.Compact
        self.watch = rpc_pb2_grpc.WatchStub(channel).Watch
        self.lease_grant = lease.LeaseGrant
        self.lease_revoke = lease.LeaseRevoke
        self.lease_keep_alive = lease.LeaseKeepAlive
        self.lease_time_to_live = lease.LeaseTimeToLive
        self.status = rpc_pb2_grpc.MaintenanceStub(channel).Status


def range_request(
    get: Get, *, revision: int = 0, sort: SortBy | None = None, descending: bool = False, count_only: bool = False
) -> Message:
    """A read; always linearizable, for a stale read here would undo every guarantee above."""
    request = rpc_pb2.RangeRequest(
        key=get.key, limit=get.limit, revision=revision, keys_only=get.keys_only, count_only=count_only
    )
    if get.range_end is not None:
        request.range_end = get.range_end
    if sort is not None or descending:
        request.sort_target = (sort or SortBy.KEY).value
        request.sort_order = rpc_pb2.RangeRequest.DESCEND if descending else rpc_pb2.RangeRequest.ASCEND
    return request


def put_request(put: Put) -> Message:
    """A write of one key."""
    return rpc_pb2.PutRequest(key=put.key, value=put.value, lease=put.lease)


def delete_request(delete: Delete) -> Message:
    """A removal of one key or a range."""
    request = rpc_pb2.DeleteRangeRequest(key=delete.key)
    if delete.range_end is not None:
        request.range_end = delete.range_end
    return request


def _op(op: Op) -> Message:
    match op:
        case Put():
            return rpc_pb2.RequestOp(request_put=put_request(op))
        case Delete():
            return rpc_pb2.RequestOp(request_delete_range=delete_request(op))
        case Get():
            return rpc_pb2.RequestOp(request_range=range_request(op))


def _compare(compare: Compare) -> Message:
    message = rpc_pb2.Compare(key=compare.key, target=_TARGETS[compare.target], result=_RELATIONS[compare.relation])
    setattr(message, compare.target, compare.operand)
    if compare.range_end is not None:
        message.range_end = compare.range_end
    return message


def txn_request(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> Message:
    """A transaction: if all comparisons hold `success`, else `failure`."""
    return rpc_pb2.TxnRequest(
        compare=[_compare(each) for each in compares],
        success=[_op(each) for each in success],
        failure=[_op(each) for each in failure],
    )


def txns_request(txns: Sequence[Txn]) -> Message:
    """Transactions in one: each of them a branch with comparisons of its own."""
    inner = [txn_request(each.compares, each.success, each.failure) for each in txns]
    return rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=each) for each in inner])


def compact_request(revision: int) -> Message:
    """Forget what is older than `revision`; the disk space follows in the background."""
    return rpc_pb2.CompactionRequest(revision=revision)


def lease_grant_request(lease_id: int, ttl_seconds: int) -> Message:
    """A new lease with an id of our choice."""
    return rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl_seconds)


def lease_revoke_request(lease_id: int) -> Message:
    """The end of a lease and of all its keys."""
    return rpc_pb2.LeaseRevokeRequest(ID=lease_id)


def lease_keep_alive_request(lease_id: int) -> Message:
    """A renewal."""
    return rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)


def lease_time_to_live_request(lease_id: int) -> Message:
    """The question what is left of a lease, with its keys."""
    return rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=True)


def status_request() -> Message:
    """The question how a member is doing."""
    return rpc_pb2.StatusRequest()


def watch_request(start: bytes, end: bytes, revision: int, *, prev_kv: bool) -> Message:
    """A watch from `revision` on, fragmented so that no message grows without limit."""
    return rpc_pb2.WatchRequest(
        create_request=rpc_pb2.WatchCreateRequest(
            key=start,
            range_end=end,
            start_revision=revision,
            prev_kv=prev_kv,
            progress_notify=True,
            fragment=True,
        )
    )


def read_kv(kv: Message) -> KeyValue:
    """A key with its value."""
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def read_range(response: Message, revision: int) -> RangeResult:
    """The keys found; within a transaction only the outer header has the `revision`."""
    return RangeResult(tuple(map(read_kv, response.kvs)), revision, response.more, response.count)


def _read_op(response: Message, revision: int) -> OpResult:
    match response.WhichOneof("response"):
        case "response_put":
            return PutResult(revision)
        case "response_delete_range":
            return DeleteResult(response.response_delete_range.deleted, revision)
        case _:
            return read_range(response.response_range, revision)


def read_txn(response: Message) -> TxnResult:
    """A transaction's answer."""
    return _read_txn(response, response.header.revision)


def _read_txn(response: Message, revision: int) -> TxnResult:
    return TxnResult(response.succeeded, revision, tuple(_read_op(each, revision) for each in response.responses))


def read_txns(response: Message) -> tuple[TxnResult, ...]:
    """The answers to transactions in one; only the outer header has the revision."""
    revision = response.header.revision
    return tuple(_read_txn(each.response_txn, revision) for each in response.responses)


def read_event(event: Message) -> Event:
    """One change of a watch."""
    kind = EventType.DELETE if event.type == kv_pb2.Event.DELETE else EventType.PUT
    return Event(kind, read_kv(event.kv), read_kv(event.prev_kv) if event.HasField("prev_kv") else None)


def read_lease(response: Message) -> Lease:
    """A lease granted or renewed; a time of 0 means that it is gone."""
    return Lease(response.ID, response.TTL)


def read_time_to_live(response: Message) -> LeaseTimeToLive:
    """What is left of a lease; -1 seconds mean that it is gone."""
    return LeaseTimeToLive(response.ID, response.TTL, response.grantedTTL, tuple(response.keys))


def read_status(response: Message) -> Status:
    """How a member is doing."""
    return Status(
        response.version,
        response.header.revision,
        response.dbSize,
        response.header.member_id,
        response.leader,
        tuple(response.errors),
    )
