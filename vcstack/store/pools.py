"""The cached claims: by pool for rules, by holder for release."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from vcstack.store.keys import CLAIMS


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

    def __len__(self) -> int:
        return sum(map(len, self._pools.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._pools.clear()
        self._by_holder.clear()

    def find(self, pool: str, key: str) -> Held | None:
        """Return who holds the claim, None when it is free."""
        return self._pools.get(pool, {}).get(key)

    def members(self, pool: str) -> Mapping[str, Held]:
        """Return the claims of a pool by key."""
        return self._pools.get(pool, {})

    def held_by(self, uid: str) -> frozenset[tuple[str, str]]:
        """Return the (pool, key) of all claims that the object holds."""
        return frozenset(self._by_holder.get(uid, ()))

    def put(self, key: bytes, value: bytes) -> None:
        """Take in a claim.

        Raises:
            ValueError: if the value is no claim.
        """
        claim = orjson.loads(value)
        uid = claim.get("uid", "")
        self.remove(key)
        pool, name = _split(key)
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
        mine = self._by_holder[held.uid]
        mine.discard((pool, name))
        if not mine:
            del self._by_holder[held.uid]


def _split(key: bytes) -> tuple[str, str]:
    pool, _, name = key[len(CLAIMS) :].decode().rpartition("/")
    return pool, name
