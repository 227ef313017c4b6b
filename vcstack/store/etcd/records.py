"""What etcd answers, as plain values. Named tuples, because a list makes 100,000 of them."""

from enum import Enum
from typing import NamedTuple


class KeyValue(NamedTuple):
    """One key as it stood at one revision."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class GetResult(NamedTuple):
    """The answer to a read of one key; `kv` is None if the key does not exist."""

    kv: KeyValue | None
    revision: int


class RangeResult(NamedTuple):
    """The answer to a read of many keys.

    `revision` is the store's revision at the time of the read, also when an older one was asked for;
    `more` says that the limit cut the answer short; `total` is the number of keys without the limit.
    """

    kvs: tuple[KeyValue, ...]
    revision: int
    more: bool
    total: int


class Page(NamedTuple):
    """One page of a listing; every page of it shows the store as of the same `revision`."""

    kvs: tuple[KeyValue, ...]
    revision: int
    last: bool


class PutResult(NamedTuple):
    """A put was applied at `revision`."""

    revision: int


class DeleteResult(NamedTuple):
    """`deleted` keys were removed at `revision`; if there were none, the revision did not rise."""

    deleted: int
    revision: int


OpResult = RangeResult | PutResult | DeleteResult


class TxnResult(NamedTuple):
    """A transaction's answer; `responses` match the operations of the branch that was taken."""

    succeeded: bool
    revision: int
    responses: tuple[OpResult, ...]


class EventType(Enum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class Event(NamedTuple):
    """One change. For a DELETE `kv` has the key and the revision of the deletion only."""

    type: EventType
    kv: KeyValue
    prev_kv: KeyValue | None


class WatchBatch(NamedTuple):
    """All events of one or more whole revisions, in order.

    `revision` is the last one covered: everything in the watched range up to and including it has now
    been delivered. A batch without events only moves it on.
    """

    events: tuple[Event, ...]
    revision: int


class Lease(NamedTuple):
    """A lease as granted; `ttl_seconds` may be more than was asked for, etcd has a minimum."""

    id: int
    ttl_seconds: int


class LeaseTimeToLive(NamedTuple):
    """What is left of a lease."""

    id: int
    remaining_seconds: int
    granted_seconds: int
    keys: tuple[bytes, ...]


class Status(NamedTuple):
    """One etcd member's account of itself; `leader` is 0 while there is none."""

    version: str
    revision: int
    db_size_bytes: int
    member_id: int
    leader: int
    errors: tuple[str, ...]
