"""What can go wrong with etcd, sorted by what the caller may do about it.

    EtcdError
    ├── EtcdUnavailable     nothing was applied: the same call may be repeated
    ├── OutcomeUnknown      the connection was cut in the middle of a write: read back before repeating
    │   └── NoAnswer        no member has answered for the whole time of a request: the next would wait as long
    ├── Compacted           the revision asked for is gone: list again
    ├── FutureRevision      the revision asked for does not exist yet (a store restored from a backup)
    ├── LeaseNotFound       the lease ran out or was revoked
    ├── RequestTooLarge     too many bytes or operations in one request, or an answer beyond the limit
    ├── StorageFull         etcd's database quota is used up: reads and deletes still work
    └── EtcdRefused         etcd understood and said no (bad argument, no permission)

The line that matters is the one between the first two: gRPC calls both "unavailable". `classify` tells
them apart and, where it cannot be sure, says OutcomeUnknown for writes.
"""

from typing import Final

from vcstack.store.etcd.grpc_library import grpc


class EtcdError(Exception):
    """Any failure of etcd or of the way to it."""


class EtcdUnavailable(EtcdError):
    """etcd did not answer and nothing was applied; the same call may be repeated."""


class OutcomeUnknown(EtcdError):
    """A write was sent and its answer was lost: it may or may not have been applied."""


class NoAnswer(OutcomeUnknown):
    """A write was sent and no member answered anything for the whole time of a request: nobody is there to ask."""


class Compacted(EtcdError):
    """The revision asked for was compacted; list again and watch from there.

    Attributes:
        compact_revision: the oldest revision still readable; 0 where etcd did not say.
    """

    def __init__(self, message: str, compact_revision: int = 0) -> None:
        super().__init__(message)
        self.compact_revision = compact_revision


class FutureRevision(EtcdError):
    """The revision asked for is above the store's own: the store was replaced or restored."""


class LeaseNotFound(EtcdError):
    """The lease ran out, was revoked or never was."""


class RequestTooLarge(EtcdError):
    """The request has too many bytes or operations for etcd, or its answer too many bytes for us."""


class StorageFull(EtcdError):
    """etcd's database quota is used up; it takes no writes until compacted and defragmented."""


class EtcdRefused(EtcdError):
    """etcd understood the request and refused it; repeating it will not help.

    Attributes:
        code: gRPC's status code.
    """

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


# The beginnings of the messages by which etcd's server says exactly what is wrong, each of them given
# before anything was applied (etcd, etcdserver/api/v3rpc/rpctypes/error.go).
_DEFINITE: Final[tuple[tuple[str, type[EtcdError]], ...]] = (
    ("etcdserver: mvcc: required revision has been compacted", Compacted),
    ("etcdserver: mvcc: required revision is a future revision", FutureRevision),
    ("etcdserver: mvcc: database space exceeded", StorageFull),
    ("etcdserver: requested lease not found", LeaseNotFound),
    ("etcdserver: request is too large", RequestTooLarge),
    ("etcdserver: too many operations in txn request", RequestTooLarge),
    ("etcdserver: too many requests", EtcdUnavailable),
    ("etcdserver: no leader", EtcdUnavailable),
    ("etcdserver: not leader", EtcdUnavailable),
    # gRPC found no connection to put the request on (its pick_first policy).
    ("failed to connect to all addresses", EtcdUnavailable),
    # The server's gRPC layer refused the message before etcd saw it.
    ("grpc: received message larger than max", RequestTooLarge),
    ("CLIENT: Sent message larger than max", RequestTooLarge),
)

# Codes a server gives on purpose; any other may just as well be a connection that broke.
_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


def classify(code: grpc.StatusCode, details: str, *, writes: bool) -> EtcdError:
    """The error of ours for a failed call.

    Args:
        code: gRPC's status code.
        details: the status message.
        writes: whether the call could have changed the store.
    """
    for beginning, kind in _DEFINITE:
        if details.startswith(beginning):
            return kind(details)
    if "larger than max" in details:  # the answer was, so a write has been applied
        return OutcomeUnknown(details) if writes else RequestTooLarge(details)
    if code in _REFUSALS:
        return EtcdRefused(f"{code.name}: {details}", code)
    return OutcomeUnknown(f"{code.name}: {details}") if writes else EtcdUnavailable(f"{code.name}: {details}")
