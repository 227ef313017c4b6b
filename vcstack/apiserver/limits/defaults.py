"""What holds where no policy says otherwise: safe for the cloud, and so generous that people do not meet it."""

from dataclasses import dataclass
from typing import Final

from vcstack.specs.kinds.ratelimitpolicy import Per, RateLimit, RouteClass

R = RouteClass


def _limit(name: str, per: Per, per_minute: int, burst: int, *routes: RouteClass) -> RateLimit:
    return RateLimit(name=name, per=per, routes=list(routes), requests_per_minute=per_minute, burst=burst)


TENANT_LIMITS: Final = (
    _limit("subject-read", Per.SUBJECT, 12_000, 2000, R.READ),
    _limit("subject-list", Per.SUBJECT, 3000, 300, R.LIST, R.QUERY),
    _limit("subject-write", Per.SUBJECT, 3000, 1000, R.WRITE),
    _limit("subject-keys", Per.SUBJECT, 6000, 500, R.KEY_OPERATION),
    _limit("subject-stream", Per.SUBJECT, 1200, 300, R.STREAM),
    _limit("subject-transfer", Per.SUBJECT, 3000, 300, R.TRANSFER),
    _limit("project-write", Per.PROJECT, 12_000, 3000, R.WRITE),
    _limit("project-read", Per.PROJECT, 60_000, 10_000, R.READ, R.LIST, R.QUERY, R.KEY_OPERATION),
)
"""Of users and service accounts."""
HOST_LIMITS: Final = (
    _limit("host", Per.SUBJECT, 12_000, 3000),
    _limit("host-heartbeat", Per.SUBJECT, 600, 100, R.HEARTBEAT),
)
"""Of hosts. Their heartbeats have a bucket of their own."""


@dataclass(frozen=True, slots=True)
class ByteLimit:
    """How much a host may write, whichever way."""

    name: str
    kib_per_minute: int
    kib_at_once: int


HOST_BYTES: Final = ByteLimit("host-bytes", 16 * 1024, 128 * 1024)
"""Of statuses, as large as they are then. 1,000 guests with four interfaces each that are made, stopped, started and
deleted at once take 9 MiB."""
HOST_NEW_EVENTS: Final = ByteLimit("host-new-events", 512, 16 * 1024)
"""Of events that are new: they stay in etcd for a day, so that what a host of ill will tells in a day, 740 MiB, must
have room there. 1,000 guests that start at once take 0.7 MiB. What is told again is counted in the event that is
there, and belongs to the bytes above."""

ADDRESS_LIMITS: Final = (
    _limit("address-login", Per.ADDRESS, 300, 100, R.LOGIN),
    _limit("address-anonymous", Per.ADDRESS, 1200, 300, R.ANONYMOUS),
)
"""Of everybody; failed logins are slowed down much more, by who is logged in as (auth/throttle.py)."""


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """Seats and queues of a level."""

    seats: int
    """Requests that are worked on at once."""
    most_of_one: int
    """Seats that one subject may have at once."""
    queues: int = 64
    queue_length: int = 50
    """Requests that may wait in one queue."""
    hand: int = 6
    """A subject's requests wait in so many of the queues, always in the shortest of them."""
    wait_seconds: float = 15.0
    """After that time a request that waits is refused."""


EXEMPT: Final = "exempt"
LEASES: Final = "leases"
HOSTS: Final = "hosts"
ADMIN: Final = "admin"
OPERATORS: Final = "operators"
TENANTS: Final = "tenants"
LOGIN: Final = "login"

LEVELS: Final = {
    LEASES: LevelSettings(seats=64, most_of_one=4),
    HOSTS: LevelSettings(seats=128, most_of_one=32, queue_length=200),
    ADMIN: LevelSettings(seats=128, most_of_one=128, queues=1, hand=1, queue_length=2000),
    OPERATORS: LevelSettings(seats=64, most_of_one=32),
    TENANTS: LevelSettings(seats=96, most_of_one=32),
    LOGIN: LevelSettings(seats=16, most_of_one=4, queue_length=20),
}
"""Of one worker. Enough to keep it and etcd busy; what comes beyond waits outside, in fair queues."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How many streams may be open: each watch, also of a socket of many, log, console, image content under way."""

    of_one: int
    """Of one subject, at all managers together."""
    in_all: int
    """At one worker."""


STREAMS: Final = {
    HOSTS: StreamSettings(of_one=400, in_all=20_000),
    ADMIN: StreamSettings(of_one=2000, in_all=2000),
    OPERATORS: StreamSettings(of_one=400, in_all=1000),
    TENANTS: StreamSettings(of_one=200, in_all=4000),
}
