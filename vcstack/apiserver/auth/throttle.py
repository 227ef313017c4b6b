"""Slows guessing down without locking anybody out.

Counted are failures, in three ways (after OWASP's "Slow Down Online Guessing Attacks with Device Cookies"):

- of one account from one source (an address; of IPv6 its /64): after some, each next one has to wait twice
  as long. Others' failures do not count, so nobody can lock an account for its owner elsewhere.
- of one source over all accounts: a bucket that fills again slowly, against trying one password everywhere.
- of one account from a device that has logged into it before (it shows a token made then): by itself, so
  that even sharing an attacker's address, as behind a company's NAT, locks nobody out of a known device.

An attempt is counted before it is made, so that many at once cannot pass. One that succeeds clears the account; one
that nobody could look at (etcd or a provider away, too many logins at once) is no guess and is taken back by itself.
Unknown names are counted like known ones.

The counts are in this process's memory, and failures of all processes count: they tell each other afterwards and
many at a time (``failurenotes.py``), for a failed login must not wait for a write to etcd. What must be exact over
replicas (guesses at second factors, once the password is known) is counted in the credential itself.
"""

import asyncio
import hashlib
import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from vcstack.clock import Clock
from vcstack.specs.errors import ErrorDetails, TooManyRequests, Unavailable

REFUSED: Final = "too many failed attempts; try again later"
ACCOUNT: Final = "a"
SOURCE: Final = "s"
"""How marks begin."""
E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleSettings:
    """How much guessing is let through."""

    free: int = 5
    """Failures of an account from a source before one has to wait."""
    first_seconds: float = 2.0
    """The first wait, doubled by each failure."""
    longest_seconds: float = 900.0
    forget_seconds: float = 3600.0
    """Without an attempt for that long, failures are forgotten."""
    source_burst: int = 30
    """Failures of a source over all accounts before it has to wait."""
    source_seconds: float = 10.0
    """One failure of a source is forgiven that often."""
    entries: int = 65536
    """Counts kept of each sort; the longest unused give way."""


@dataclass(slots=True)
class _Failures:
    count: int
    last: float
    until: float


@dataclass(slots=True)
class _Bucket:
    used: float
    last: float


class Throttle:
    """Counts attempts."""

    def __init__(self, clock: Clock, settings: ThrottleSettings | None = None) -> None:
        self.settings = settings or ThrottleSettings()
        self._clock = clock
        self._accounts: _Recent[_Failures] = _Recent(self.settings.entries)
        self._sources: _Recent[_Bucket] = _Recent(self.settings.entries)
        self._news: dict[str, int] = {}
        self._forgiven: set[str] = set()
        self.has_news = asyncio.Event()
        """Set while there is something to tell other processes."""

    def attempt(self, account: str, address: str, *, device: str = "") -> "Attempt":
        """Count an attempt as failed until ``Attempt.succeed`` is called, or its block ends with Unavailable.

        Args:
            account: whose secret is guessed at.
            address: where from.
            device: the known device's mark, already proven.

        Raises:
            TooManyRequests: one has to wait.
        """
        now, origin = self._clock.monotonic(), source_of(address)
        source = mark_of(SOURCE, origin)
        key = mark_of(ACCOUNT, f"{account}\0device\0{device}" if device else f"{account}\0source\0{origin}")
        waits = [self._account_wait(key, now), 0.0 if device else self._source_wait(source, now)]
        if max(waits) > 0:
            raise TooManyRequests(REFUSED, details=ErrorDetails(retry_after_seconds=math.ceil(max(waits))))
        self._count_account(key, 1, now)
        self._note(key, 1)
        if not device:
            self._count_source(source, 1, now)
            self._note(source, 1)
        return Attempt(self, key, "" if device else source)

    def forgive(self, key: str, source: str) -> None:
        """Take an attempt back: it succeeded."""
        self._accounts.pop(key)
        self._news.pop(key, None)
        if len(self._forgiven) >= self.settings.entries:
            self._forgiven.clear()  # nobody listens
        self._forgiven.add(key)
        self.has_news.set()
        self._forgive_source(source)

    def take_back(self, key: str, source: str) -> None:
        """Take one attempt back that was no guess; failures before it stay, or an overload would clear them."""
        failures = self._accounts.find(key)
        if failures is not None:
            count = failures.count - 1
            self._accounts.put(key, _Failures(count, failures.last, failures.last + self._wait_after(count)))
        if self._news.get(key):  # else others have been told, and count one too many
            self._news[key] -= 1
        self._forgive_source(source)

    # What other processes are told, and tell.

    def take_news(self) -> tuple[dict[str, int], set[str]]:
        """Return the failures since the last time by what they count for, and the accounts' marks that got in."""
        news, forgiven = self._news, self._forgiven
        self._news, self._forgiven = {}, set()
        self.has_news.clear()
        return news, forgiven

    def learn(self, mark: str, failures: int, seconds_ago: float = 0.0) -> None:
        """Count failures elsewhere."""
        at = self._clock.monotonic() - max(0.0, seconds_ago)
        if mark.startswith(SOURCE):
            self._count_source(mark, failures, at)
        else:
            self._count_account(mark, failures, at)

    def forget(self, mark: str) -> None:
        """Forget an account's failures: somebody got in elsewhere."""
        self._accounts.pop(mark)

    def _note(self, mark: str, failures: int) -> None:
        if len(self._news) >= self.settings.entries:
            self._news.clear()
        self._news[mark] = self._news.get(mark, 0) + failures
        self.has_news.set()

    def _forgive_source(self, source: str) -> None:
        bucket = self._sources.find(source)
        if bucket is not None:
            bucket.used = max(0.0, bucket.used - 1)
            self._note(source, -1)

    def _account_wait(self, key: str, now: float) -> float:
        failures = self._accounts.find(key)
        return failures.until - now if failures else 0.0

    def _source_used(self, source: str, now: float) -> float:
        bucket = self._sources.find(source)
        if bucket is None:
            return 0.0
        return max(0.0, bucket.used - (now - bucket.last) / self.settings.source_seconds)

    def _source_wait(self, source: str, now: float) -> float:
        over = self._source_used(source, now) + 1 - self.settings.source_burst
        return over * self.settings.source_seconds

    def _count_source(self, source: str, failures: int, now: float) -> None:
        self._sources.put(source, _Bucket(max(0.0, self._source_used(source, now) + failures), now))

    def _count_account(self, key: str, failures: int, now: float) -> None:
        made = self.settings
        old = self._accounts.find(key)
        count = failures + (old.count if old and now - old.last < made.forget_seconds else 0)
        self._accounts.put(key, _Failures(count, now, now + self._wait_after(count)))

    def _wait_after(self, count: int) -> float:
        """Return how long one waits after so many failures."""
        made = self.settings
        if count < made.free:
            return 0.0
        return min(made.longest_seconds, made.first_seconds * 2.0 ** min(count - made.free, 32))


class Attempt:
    """One attempt, counted as failed so far. As a block's manager it is taken back when that ends with Unavailable."""

    def __init__(self, throttle: Throttle, key: str, source: str) -> None:
        self._throttle, self._key, self._source = throttle, key, source

    def succeed(self) -> None:
        """It was no failure."""
        self._throttle.forgive(self._key, self._source)

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unavailable):
            self._throttle.take_back(self._key, self._source)


def mark_of(kind: str, of: str) -> str:
    """Return what an account's or a source's failures are known by; of one length, whatever names people send."""
    return kind + hashlib.blake2b(of.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def source_of(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class _Recent(Generic[E]):
    """A mapping that forgets the longest unused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, E] = OrderedDict()

    def find(self, key: str) -> E | None:
        return self._entries.get(key)

    def put(self, key: str, entry: E) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def pop(self, key: str) -> None:
        self._entries.pop(key, None)
