"""Token buckets: so many requests at once, and so many a minute in the long run.

A rule says how many; each subject, project or address has a bucket of it. A bucket is two numbers, brought up to
date when it is looked at. Those of a process that serves the API alone lie here, those that several share in
``shared.py``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from vcstack.specs.kinds.ratelimitpolicy import Per

REMEMBERED: Final = 65_536
"""Most buckets; those that are full again are forgotten first, for they say nothing."""
BURST_SECONDS: Final = 10
"""A rule without a burst holds what so many seconds bring."""

RuleId = tuple[str, str]
"""The policy's uid and the limit's name; built-in ones have no uid."""


class Rule:
    """One limit, of which this manager has its share."""

    __slots__ = ("burst", "id", "name", "per", "per_minute", "policy", "rate", "shown", "whole_burst")

    def __init__(self, id_: RuleId, policy: str, per: Per, per_minute: int, burst: int | None, parts: int) -> None:
        """Take the limit for all managers together.

        Args:
            id_: what it is known by over changes of its numbers.
            policy: the policy's name; empty for what is built in.
            per: of what each has a bucket.
            per_minute: how many tokens a minute brings.
            burst: how many it holds; None: what some seconds bring.
            parts: how many share it.
        """
        self.id = id_
        self.name = id_[1]
        self.policy, self.per = policy, per
        self.change(per_minute, burst, parts)

    def change(self, per_minute: int, burst: int | None, parts: int) -> None:
        """Take other numbers; buckets keep what they hold, up to the burst."""
        self.per_minute = per_minute
        self.whole_burst = burst or max(1, math.ceil(per_minute * BURST_SECONDS / 60))
        self.shown = f'"{self.name}";q={per_minute};w=60'.encode()
        self.share(parts)

    def share(self, parts: int) -> None:
        """Hold the share of one of so many. A bucket holds one token at least: the shares of more than the burst has
        tokens add up to more than the burst, never to more than the rate."""
        self.rate = self.per_minute / 60 / parts
        self.burst = max(1.0, self.whole_burst / parts)

    def seconds_until(self, tokens: float) -> int:
        """Return in how many whole seconds so many tokens come, at least 1."""
        return max(1, math.ceil(tokens / self.rate))


class AnyBucket(Protocol):
    """What is left of a rule for one subject, project or address."""

    rule: Rule
    owner: str
    left: float

    def fill(self, now: float) -> float:
        """Return what is left now."""

    def spend(self) -> None:
        """Take a token; after ``fill``."""

    def charge(self, tokens: float) -> None:
        """Take so many tokens, also ones that are not there yet; after ``fill``."""

    def wait(self) -> int:
        """Return in how many whole seconds there will be a token, at least 1; after ``fill``."""


B = TypeVar("B", bound=AnyBucket)


class Bucket:
    """What is left of a rule for one subject, project or address."""

    __slots__ = ("at", "left", "owner", "rule")

    def __init__(self, rule: Rule, owner: str, now: float) -> None:
        self.rule, self.owner = rule, owner
        self.left, self.at = rule.burst, now

    def fill(self, now: float) -> float:
        """Return what is left now."""
        rule = self.rule
        left = self.left + (now - self.at) * rule.rate
        self.left = left = left if left < rule.burst else rule.burst
        self.at = now
        return left

    def spend(self) -> None:
        """Take a token; after ``fill``."""
        self.left -= 1

    def charge(self, tokens: float) -> None:
        """Take so many tokens, also ones that are not there yet; after ``fill``."""
        self.left -= tokens

    def wait(self) -> int:
        """Return in how many whole seconds there will be a token, at least 1; after ``fill``."""
        return self.rule.seconds_until(1 - self.left)


class Buckets(Generic[B]):
    """Buckets by rule and owner, as many as are worth remembering."""

    def __init__(self, now: Callable[[], float], most: int, build: Callable[[Rule, str, float], B]) -> None:
        self._now = now
        self._most = most
        self._build = build
        self._found: dict[tuple[RuleId, str], B] = {}
        self.epoch = 0
        """Rises when buckets were forgotten: who remembers some has to look them up again."""

    def of(self, rule: Rule, owner: str) -> B:
        """Return the owner's bucket of the rule."""
        key = (rule.id, owner)
        bucket = self._found.get(key)
        if bucket is None or bucket.rule is not rule:
            if len(self._found) >= self._most:
                self._forget()
            bucket = self._found[key] = self._build(rule, owner, self._now())
        return bucket

    def take(self, buckets: Sequence[B], now: float) -> B | None:
        """Take a token of each bucket; return the one that has none, then nothing is taken."""
        for bucket in buckets:
            if bucket.fill(now) < 1:
                return bucket
        for bucket in buckets:
            bucket.spend()
        return None

    def charge(self, bucket: B, tokens: float, now: float) -> None:
        """Take tokens for what was done already and has shown only then how many it costs."""
        bucket.fill(now)
        bucket.charge(tokens)

    def _forget(self) -> None:
        """Forget the full ones, and if that is not enough the older half."""
        now = self._now()
        kept = {key: b for key, b in self._found.items() if b.fill(now) < b.rule.burst}
        if len(kept) > self._most // 2:
            kept = dict(list(kept.items())[len(kept) - self._most // 2 :])
        self._found = kept
        self.epoch += 1


class OwnBuckets(Buckets[Bucket]):
    """Those of a process that shares with nobody."""

    def __init__(self, now: Callable[[], float], most: int = REMEMBERED) -> None:
        super().__init__(now, most, Bucket)
