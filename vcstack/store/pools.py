"""The cached claims: by pool for rules, by holder for release, and what they add up to for quotas."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from vcstack.store.keys import CLAIMS

QUOTA: Final = "quota"
"""What the pools are called, or begin with, whose claims are added up: quota/acme/dev/@demo holds those of the
project demo in the domain dev in the domain acme, quota/acme those of what lies in the domain itself."""


class Held(NamedTuple):
    """One claim that is held."""

    uid: str
    """The holder's uid."""
    value: bytes
    """The stored JSON: the holder's kind, project, name and uid, and what the claim itself carries."""

    def decode(self) -> dict[str, Any]:
        """Return the decoded value."""
        found: dict[str, Any] = orjson.loads(self.value)
        return found


class ClaimIndex:
    """All claims at the cache's revision."""

    def __init__(self) -> None:
        self._pools: dict[str, dict[str, Held]] = {}
        self._by_holder: dict[str, set[tuple[str, str]]] = {}
        self._used: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pools.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._pools.clear()
        self._by_holder.clear()
        self._used.clear()

    def find(self, pool: str, key: str) -> Held | None:
        """Return who holds the claim, None when it is free."""
        return self._pools.get(pool, {}).get(key)

    def members(self, pool: str) -> Mapping[str, Held]:
        """Return the claims of a pool by key."""
        return self._pools.get(pool, {})

    def held_by(self, uid: str) -> frozenset[tuple[str, str]]:
        """Return the (pool, key) of all claims that the object holds."""
        return frozenset(self._by_holder.get(uid, ()))

    def used(self, level: str) -> Mapping[str, int]:
        """Return what the claims at the level and below add up to, by name."""
        return self._used.get(level, {})

    def levels_below(self, level: str) -> list[str]:
        """Return the levels directly below that hold anything."""
        depth = level.count("/") + 1
        return [other for other in self._used if other.count("/") == depth and other.startswith(level + "/")]

    def put(self, key: bytes, value: bytes) -> None:
        """Take in a claim.

        Raises:
            ValueError: if the value is no claim.
        """
        claim = orjson.loads(value)
        uid = claim.get("uid", "")
        self.remove(key)
        pool, name = _split(key)
        if is_quota(pool):
            self._add_up(pool, claim, 1)
        self._pools.setdefault(pool, {})[name] = Held(uid, value)
        self._by_holder.setdefault(uid, set()).add((pool, name))

    def remove(self, key: bytes) -> None:
        """Take in a release; one that is not known changes nothing."""
        pool, name = _split(key)
        held = self._pools.get(pool, {}).pop(name, None)
        if held is None:
            return
        if not self._pools[pool]:
            del self._pools[pool]
        if is_quota(pool):
            self._add_up(pool, held.decode(), -1)
        mine = self._by_holder[held.uid]
        mine.discard((pool, name))
        if not mine:
            del self._by_holder[held.uid]

    def _add_up(self, pool: str, claim: Mapping[str, Any], sign: int) -> None:
        amounts = amounts_of(claim)
        for level in levels_of(pool):
            sums = self._used.setdefault(level, {})
            for name, amount in amounts.items():
                total = sums.get(name, 0) + sign * amount
                if total:
                    sums[name] = total
                else:
                    sums.pop(name, None)
            if not sums:
                del self._used[level]


def is_quota(pool: str) -> bool:
    """Return whether the pool's claims are what quotas count."""
    return pool.startswith(QUOTA)


@lru_cache(maxsize=65_536)
def levels_of(pool: str) -> tuple[str, ...]:
    """Return the pool and all above it, the whole cloud first: where limits for its claims may be."""
    steps = pool.split("/")
    return tuple("/".join(steps[: n + 1]) for n in range(len(steps)))


def amounts_of(claim: Mapping[str, Any]) -> Mapping[str, int]:
    """Return what a claim takes, by name; nothing of what is no number."""
    amounts = claim.get("amounts")
    return {n: a for n, a in amounts.items() if type(a) is int} if isinstance(amounts, dict) else {}


def _split(key: bytes) -> tuple[str, str]:
    pool, _, name = key[len(CLAIMS) :].decode().rpartition("/")
    return pool, name
