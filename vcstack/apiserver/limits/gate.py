"""The gate that each request passes once it is known who asks for what: its buckets, then a seat.

Requests without a good credential are counted by their address, before anything is done for them that costs: no
signature is checked and no password hashed for an address that has used up its share.

The processes of one manager share their buckets. Each manager holds its share of each limit: one part of as many as
there are, which the leases of their processes in etcd tell. No other is asked anything per request.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import structlog

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import Grants
from vcstack.apiserver.auth.places import Place
from vcstack.apiserver.auth.throttle import source_of
from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.limits import defaults, metrics
from vcstack.apiserver.limits.book import Asked, PolicyBook
from vcstack.apiserver.limits.buckets import AnyBucket, Buckets, OwnBuckets, Rule
from vcstack.apiserver.limits.levels import QUEUE_FULL, Level, Refusal, Seat
from vcstack.apiserver.limits.routes import LARGE, LONG, class_of
from vcstack.apiserver.limits.settings import LimitSettings, group_of
from vcstack.apiserver.limits.shared import SharedBuckets
from vcstack.apiserver.limits.streams import OwnPlaces, SharedPlaces, StreamCount
from vcstack.apiserver.limits.unread import UnreadAnswers
from vcstack.apiserver.targets import Target
from vcstack.clock import Clock
from vcstack.specs.errors import ErrorDetails, LimitDetails, RateLimited
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.ratelimitpolicy import Per, RouteClass, Seats
from vcstack.specs.resource import Ref
from vcstack.store.apiworkers import ApiWorkers, Membership
from vcstack.store.cache import WatchCache
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd_api import Etcd

logger = structlog.get_logger(__name__)

REMEMBERED: Final = 20_000
"""Senders, each with a class and a project, whose limits are kept looked up."""
LOOK_SECONDS: Final = 0.5
"""How often it is looked whether a policy changed, to say so; requests see it at once."""
RENEW_EVERY: Final = 10
"""The lease is renewed each so many looks."""
TELL_SECONDS: Final = 10.0
"""How often the log tells of one sender's refusals, with how many there were."""

UNKNOWN: Final = "anonymous"
"""In metrics, the level of requests that nobody known sends; they need no seats."""

_source_of = lru_cache(maxsize=8192)(source_of)


class _Entry:
    """What was looked up for one sender, class and project."""

    __slots__ = ("address", "buckets", "grants", "level", "version")

    def __init__(
        self,
        buckets: tuple[AnyBucket, ...],
        address: Rule | None,
        level: Level,
        grants: Grants | None,
        version: object,
    ) -> None:
        self.buckets, self.level, self.grants, self.version = buckets, level, grants, version
        self.address = address
        """What a policy allows each address that such requests come from."""


class Pass:
    """A request that is let in. ``enter`` before the work; ``leave_seat`` when it is done, ``leave`` at the end."""

    __slots__ = ("_count", "_flow", "_level", "_seat", "_seated", "bucket")

    def __init__(self, bucket: AnyBucket | None, level: Level | None, flow: str, count: StreamCount | None) -> None:
        self.bucket = bucket
        """The one that is nearest to its end."""
        self._level, self._flow, self._count = level, flow, count
        self._seat: Seat | None = None
        self._seated = level is not None and level.try_enter(flow)

    @property
    def must_wait(self) -> bool:
        """Return whether ``enter`` is needed."""
        return self._level is not None and not self._seated

    async def enter(self) -> None:
        """Wait for a seat. Raises RateLimited."""
        level = self._level
        if level is None:
            return
        try:
            self._seat = await level.wait(self._flow)
        except Refusal as refusal:
            raise _refuse_queue(level, refusal) from None
        self._seated = True
        metrics.WAITED.labels(level.name).inc()

    def leave_seat(self) -> None:
        """Give the seat back: what is left is to send the answer. Again is nothing."""
        if self._seated and self._level is not None:
            self._seated = False
            self._level.leave(self._flow, self._seat)

    def leave(self) -> None:
        """Give everything back. Again is nothing."""
        self.leave_seat()
        if self._count is not None:
            self._count.remove(self._flow)
            self._count = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what tells a caller who has used up more than half of a limit."""
        bucket = self.bucket
        if bucket is None or bucket.left * 2 > bucket.rule.burst:
            return []
        rule = bucket.rule
        full = int((rule.burst - bucket.left) / rule.rate) + 1
        state = b'"%b";r=%d;t=%d' % (rule.name.encode(), int(bucket.left), full)
        return [(b"ratelimit-policy", rule.shown), (b"ratelimit", state)]


FREE: Final = Pass(None, None, "", None)
"""Of what is never limited."""


class Gate:
    """The limits of one API worker. ``run`` beside the server."""

    def __init__(
        self, cache: WatchCache, etcd: Etcd, index: AccessIndex, clock: Clock, settings: LimitSettings
    ) -> None:
        self.settings = settings
        self.book = PolicyBook(cache)
        self._etcd = etcd
        self._index = index
        self._now = clock.monotonic
        self._buckets: Buckets[Any] = (
            OwnBuckets(clock.monotonic) if settings.shared is None else SharedBuckets(settings.shared, clock.monotonic)
        )
        self._entries: dict[tuple[str, RouteClass, str | None], _Entry] = {}
        self._address_rules: dict[RouteClass, Rule | None] = {}
        self._known_version: tuple[int, int] = (-1, -1)
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self.levels = {name: Level(name, s, clock.monotonic) for name, s in settings.levels.items()}
        self.unread = UnreadAnswers(settings.unread, asyncio.get_running_loop().time)
        table = settings.shared
        self.streams = {
            name: StreamCount(s, OwnPlaces() if table is None else SharedPlaces(table, settings.process, name))
            for name, s in settings.streams.items()
        }
        metrics.show(self.levels.values(), self.streams)

    # Before it is known who asks.

    def demand_attempt(self, scope: Any) -> None:
        """Return when the address may have another credential checked. Raises RateLimited."""
        bucket = self._address_bucket(RouteClass.ANONYMOUS, address_of(scope))
        if bucket is not None and bucket.fill(self._now()) < 1:
            raise self._refuse(bucket, UNKNOWN)

    def note_refused(self, scope: Any) -> None:
        """Count a credential that was not good."""
        bucket = self._address_bucket(RouteClass.ANONYMOUS, address_of(scope))
        if bucket is not None and bucket.fill(self._now()) >= 1:
            bucket.spend()

    def admit_unknown(self, scope: Any) -> None:
        """Let a request in that nobody known sends, and that costs next to nothing. Raises RateLimited."""
        self._take_of_address(RouteClass.ANONYMOUS, scope, UNKNOWN)

    def admit_login(self, scope: Any) -> Pass:
        """Let a request in that logs somebody in. Raises RateLimited."""
        bucket = self._take_of_address(RouteClass.LOGIN, scope, defaults.LOGIN)
        return Pass(bucket, self.levels[defaults.LOGIN], address_of(scope), None)

    # Once it is known.

    def admit(self, identity: Identity, target: Target | None, scope: Any) -> Pass:
        """Let a request of somebody known in. Raises RateLimited."""
        self.book.refresh()
        route = class_of(scope, target)
        project = target.project if target is not None else None
        if self._known_version != (self.book.version, self._buckets.epoch):
            self._forget()
        buckets: tuple[AnyBucket, ...] = ()
        if identity.role is Role.ADMIN:
            level = self.levels[defaults.ADMIN]
        else:
            entry = self._find(identity, route, project)
            level, buckets = entry.level, entry.buckets
            if entry.address is not None:
                buckets = (*buckets, self._buckets.of(entry.address, address_of(scope)))
        subject = identity.sender
        if identity.role is Role.HOST and route is RouteClass.WRITE and target is not None:
            self._demand_bytes(identity, target, level)
        empty = self._buckets.take(buckets, self._now())
        if empty is not None:
            raise self._refuse(empty, level.name)
        nearest = min(buckets, key=_fullness) if len(buckets) > 1 else buckets[0] if buckets else None
        if route in LONG:
            return Pass(nearest, None, subject, self._count_stream(level, subject))
        if route in LARGE and self.unread.is_full(subject):
            raise self._refuse_unread(level, subject)
        return Pass(nearest, level, subject, None)

    def charge(self, identity: Identity, target: Target, size: int) -> None:
        """Count what a host has written: how much that is shows only when it is merged into what is there."""
        if size:
            self._buckets.charge(self._meter_of(identity, target), size / 1024, self._now())

    def tell(self, sender: str, error: RateLimited) -> None:
        """Log that somebody is refused, now and then and with how often: a flood must not fill the log."""
        limit = error.details.limit
        if limit is None:
            return
        key, now = (sender, limit.name), self._now()
        since, count = self._told.get(key, (now - TELL_SECONDS, 0))
        if now - since < TELL_SECONDS:
            self._told[key] = (since, count + 1)
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[key] = (now, 0)
        logger.warning(
            "requests refused",
            sender=sender,
            reason=limit.reason,
            limit=limit.name,
            policy=limit.policy,
            refused=count + 1,
        )

    # Beside the requests.

    async def run(self) -> None:
        """Say that we are there and what we apply, and count the others, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._belong())
            group.create_task(self._count_workers())

    async def _belong(self) -> None:
        membership = Membership(self._etcd, self.settings.worker)
        looks = 0
        try:
            while True:
                try:
                    await membership.declare(self.book.applied())
                    if looks % RENEW_EVERY == 0:
                        await membership.renew()
                except EtcdError as error:
                    logger.warning("cannot note that this API worker is there", error=str(error))
                looks += 1
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await membership.leave()

    async def _count_workers(self) -> None:
        async for live in ApiWorkers(self._etcd).live_workers():
            names = {*live, self.settings.worker}
            self.book.share(len({group_of(name) for name in names}))
            metrics.WORKERS.set(len(names))

    # Looking up.

    def _find(self, identity: Identity, route: RouteClass, project: str | None) -> _Entry:
        """Return what holds for the sender, kept as long as its rights and the tree of domains are the same."""
        key = (identity.sender, route, project)
        account = identity.account
        grants = self._index.grants(account, identity.groups) if account is not None else None
        version = self._index.organization.version
        entry = self._entries.get(key)
        if entry is not None and entry.grants is grants and entry.version == version:
            return entry
        if len(self._entries) >= REMEMBERED:
            self._entries.clear()
        entry = self._entries[key] = self._look_up(identity, route, project, grants, version)
        return entry

    def _look_up(
        self, identity: Identity, route: RouteClass, project: str | None, grants: Grants | None, version: int
    ) -> _Entry:
        account, subject = identity.account, identity.sender
        sender = account or Ref("Host", None, identity.host)
        place = Place(project=project)
        # Others' projects are none of theirs to use up.
        inside = project is not None and grants is not None and grants.sees(place)
        domains: Sequence[str] = ()
        if account is not None:
            domains = self._index.organization.domains_of(place) if inside else self._index.domains_of(account)
        asked = Asked(sender, project if inside else None, domains, route)
        buckets: list[AnyBucket] = []
        address = None
        for rule in self.book.rules_for(asked, known=True):
            if rule.per is Per.ADDRESS:
                address = rule if rule.policy else None  # the built-in ones are for who is not known
            elif rule.per is Per.SUBJECT:
                buckets.append(self._buckets.of(rule, subject))
            elif rule.per is Per.PROJECT and inside and project is not None:
                buckets.append(self._buckets.of(rule, project))
        level = self._level_of(identity, asked)
        return _Entry(tuple(buckets), address, self.levels[level], grants, version)

    def _level_of(self, identity: Identity, asked: Asked) -> str:
        if identity.role is Role.HOST:
            return defaults.LEASES if asked.route is RouteClass.HEARTBEAT else defaults.HOSTS
        return defaults.OPERATORS if self.book.seats_for(asked) is Seats.OPERATORS else defaults.TENANTS

    def _meter_of(self, identity: Identity, target: Target) -> AnyBucket:
        """Return what is left to the host of what it may write of such objects, in KiB."""
        is_new_event = target.definition.kind == Event.KIND and not target.name
        rule = self.book.host_new_events if is_new_event else self.book.host_bytes
        meter: AnyBucket = self._buckets.of(rule, identity.sender)
        return meter

    def _address_bucket(self, route: RouteClass, address: str) -> AnyBucket | None:
        self.book.refresh()
        if self._known_version != (self.book.version, self._buckets.epoch):
            self._forget()
        if route not in self._address_rules:
            rules = self.book.rules_for(Asked(None, None, (), route), known=False)
            self._address_rules[route] = rules[0] if rules else None
        rule = self._address_rules[route]
        return None if rule is None else self._buckets.of(rule, address)

    def _take_of_address(self, route: RouteClass, scope: Any, level: str) -> AnyBucket | None:
        bucket = self._address_bucket(route, address_of(scope))
        if bucket is not None and self._buckets.take((bucket,), self._now()) is not None:
            raise self._refuse(bucket, level)
        return bucket

    def _forget(self) -> None:
        self._known_version = (self.book.version, self._buckets.epoch)
        self._entries.clear()
        self._address_rules.clear()

    # Refusing.

    def _count_stream(self, level: Level, subject: str) -> StreamCount:
        count = self.streams[level.name if level.name in self.streams else defaults.HOSTS]
        limit = count.try_add(subject, self.book.parts)
        if limit is not None:
            metrics.rejected_of(level.name, "TooManyStreams").inc()
            message = (
                f"{subject} may not open more streams: {limit} are open at this server, the limit of {level.name}; "
                "end watches, logs or consoles that are not needed, or try again later"
            )
            raise _error(message, 5, LimitDetails(reason="TooManyStreams", name=level.name))
        return count

    def _refuse_unread(self, level: Level, subject: str) -> RateLimited:
        metrics.rejected_of(level.name, "UnreadAnswers").inc()
        message = (
            f"answers of {self.settings.unread.of_one // 2**20} MiB wait for {subject} to read them; "
            "read them, or end their connections, then ask for more"
        )
        return _error(message, 1, LimitDetails(reason="UnreadAnswers", name=level.name))

    def _demand_bytes(self, identity: Identity, target: Target, level: Level) -> None:
        """Return when the host has not written too much yet. Raises RateLimited."""
        meter = self._meter_of(identity, target)
        if meter.fill(self._now()) > 0:
            return
        metrics.rejected_of(level.name, "TooManyBytes").inc()
        rule, wait = meter.rule, meter.wait()
        message = (
            f"{identity.subject} has written as much as limit {rule.name!r} that is built in allows: "
            f"{rule.per_minute} KiB a minute, {rule.whole_burst} at once; try again in {wait} s, "
            "and look what this host writes so much of"
        )
        raise _error(message, wait, LimitDetails(reason="TooManyBytes", name=rule.name, per=rule.per.value))

    def _refuse(self, bucket: AnyBucket, level: str) -> RateLimited:
        rule, wait = bucket.rule, bucket.wait()
        metrics.rejected_of(level, f"Per{rule.per.value}").inc()
        origin = f"of RateLimitPolicy {rule.policy}" if rule.policy else "that is built in"
        owner = f"address {bucket.owner}" if rule.per is Per.ADDRESS else bucket.owner
        owner = f"project {owner}" if rule.per is Per.PROJECT else owner
        message = (
            f"{owner} has sent as many requests as limit {rule.name!r} {origin} allows: {rule.per_minute} a minute, "
            f"{rule.whole_burst} at once; try again in {wait} s, or have an administrator raise the limit"
        )
        limit = LimitDetails(
            reason="RateLimitExceeded",
            name=rule.name,
            policy=rule.policy,
            per=rule.per.value,
            requests_per_minute=rule.per_minute,
            burst=rule.whole_burst,
        )
        return _error(message, wait, limit)


def address_of(scope: Any) -> str:
    """Return what counts as one address: that of the connection, of IPv6 its /64."""
    client = scope.get("client")
    return _source_of(client[0]) if client else "unknown"


def _fullness(bucket: AnyBucket) -> float:
    return bucket.left / bucket.rule.burst


def _error(message: str, wait: int, limit: LimitDetails) -> RateLimited:
    return RateLimited(message, details=ErrorDetails(retry_after_seconds=wait, limit=limit))


def _refuse_queue(level: Level, refusal: Refusal) -> RateLimited:
    metrics.rejected_of(level.name, refusal.reason).inc()
    wait = refusal.retry_after_seconds
    why = "the queue is full" if refusal.reason == QUEUE_FULL else "no turn came in time"
    message = (
        f"the server is busy: all seats of {level.name} that are for this caller are taken and {why}; "
        f"try again in {wait} s, with fewer requests at once"
    )
    return _error(message, wait, LimitDetails(reason=refusal.reason, name=level.name))
