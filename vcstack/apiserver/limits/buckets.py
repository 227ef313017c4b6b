"""Token buckets: so many requests at once, and so many a minute in the long run.

A rule says how many; each subject, project or address has a bucket of it. A bucket is two numbers, brought up to
date when it is looked at.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from vcstack.specs.kinds.ratelimitpolicy import Per

REMEMBERED: Final = 65_536
"""Most buckets; those that are full again are forgotten first, for they say nothing."""
BURST_SECONDS: Final = 10
"""A rule without a burst holds what so many seconds bring."""

RuleId = tuple[str, str]
"""The policy's uid and the limit's name; built-in ones have no uid."""


class Rule:
    """One limit, of which this worker has its share."""

    __slots__ = ("burst", "id", "name", "per", "per_minute", "policy", "rate", "shown", "whole_burst")

    def __init__(self, id_: RuleId, policy: str, per: Per, per_minute: int, burst: int | None, workers: int) -> None:
        """Take the limit for all workers together.

        Args:
            id_: what it is known by over changes of its numbers.
            policy: the policy's name; empty for what is built in.
            per: of what each has a bucket.
            per_minute: how many tokens a minute brings.
            burst: how many it holds; None: what some seconds bring.
            workers: how many share it.
        """
        self.id = id_
        self.name = id_[1]
        self.policy, self.per = policy, per
        self.change(per_minute, burst, workers)

    def change(self, per_minute: int, burst: int | None, workers: int) -> None:
        """Take other numbers; buckets keep what they hold, up to the burst."""
        self.per_minute = per_minute
        self.whole_burst = burst or max(1, math.ceil(per_minute * BURST_SECONDS / 60))
        self.shown = f'"{self.name}";q={per_minute};w=60'.encode()
        self.share(workers)

    def share(self, workers: int) -> None:
        """Hold the share of one of so many workers. A bucket holds one token at least: the shares of more workers
        than the burst has tokens add up to more than the burst, never to more than the rate."""
        self.rate = self.per_minute / 60 / workers
        self.burst = max(1.0, self.whole_burst / workers)


class Bucket:
    """What is left of a rule for one subject, project or address."""

    __slots__ = ("at", "left", "owner", "rule")

    def __init__(self, rule: Rule, owner: str, now: float) -> None:
        self.rule = rule
        self.owner = owner
        self.left = rule.burst
        self.at = now

    def fill(self, now: float) -> float:
        """Return what is left now."""
        rule = self.rule
        left = self.left + (now - self.at) * rule.rate
        self.left = left = left if left < rule.burst else rule.burst
        self.at = now
        return left

    def wait(self) -> int:
        """Return in how many whole seconds there will be a token, at least 1; after ``fill``."""
        return max(1, math.ceil((1 - self.left) / self.rule.rate))

    def give_back(self) -> None:
        """Take the last token back."""
        self.left = min(self.rule.burst, self.left + 1)


def take(buckets: Sequence[Bucket], now: float) -> Bucket | None:
    """Take a token of each bucket; return the one that has none, then nothing is taken."""
    for bucket in buckets:
        if bucket.fill(now) < 1:
            return bucket
    for bucket in buckets:
        bucket.left -= 1
    return None


class Buckets:
    """All buckets of this worker."""

    def __init__(self, now: Callable[[], float], most: int = REMEMBERED) -> None:
        self._now = now
        self._most = most
        self._found: dict[tuple[RuleId, str], Bucket] = {}
        self.epoch = 0
        """Rises when buckets were forgotten: who remembers some has to look them up again."""

    def of(self, rule: Rule, owner: str) -> Bucket:
        """Return the owner's bucket of the rule."""
        key = (rule.id, owner)
        bucket = self._found.get(key)
        if bucket is None or bucket.rule is not rule:
            if len(self._found) >= self._most:
                self._forget()
            bucket = self._found[key] = Bucket(rule, owner, self._now())
        return bucket

    def _forget(self) -> None:
        """Forget the full ones, and if that is not enough the older half."""
        now = self._now()
        kept = {key: b for key, b in self._found.items() if b.fill(now) < b.rule.burst}
        if len(kept) > self._most // 2:
            kept = dict(list(kept.items())[len(kept) - self._most // 2 :])
        self._found = kept
        self.epoch += 1
