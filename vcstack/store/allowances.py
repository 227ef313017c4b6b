"""Allowances: what a process may take at a limited level without all others having to wait for it.

A level's mark is a key whose value says how much of what each process may take since the mark was last written.
Who takes within his allowance compares the mark and leaves it; who has none overwrites it, and while he does so
shares out anew what is left, a sixteenth for each. Nobody has to give anything back: an allowance ends with the
next writing of the mark, whoever does that, so what a dead process held is free as soon as somebody needs it.
"""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from secrets import token_hex
from typing import Final, NamedTuple

import orjson

SHARE: Final = 16
"""Of what is left one of so many parts is an allowance."""
MAX_HOLDERS: Final = 8
"""So at most half of what is left is shared out."""
WORTH: Final = 8
"""An allowance is worth having when this many can be made with it; below that each takes its turn."""

Amounts = Mapping[str, int]
NONE: Final[Mapping[str, Amounts]] = {}


class Mark(NamedTuple):
    """A key that guards limits, as cached."""

    revision: int = 0
    """When it was last written; 0: it does not exist."""
    value: bytes = b""


NO_MARK: Final = Mark()


class Allowances:
    """What one process may take, and what of that it has taken."""

    def __init__(self) -> None:
        self.holder = token_hex(4)
        self._taken: dict[str, tuple[int, Counter[str]]] = {}
        """By level: since when its mark is as it is, and how much was taken since."""

    def cover(self, level: str, mark: Mark, granted: Amounts, asked: Amounts) -> bool:
        """Return whether the allowance has room for what is asked."""
        since, taken = self._taken.get(level, (0, Counter[str]()))
        if since != mark.revision:
            taken = Counter()
        return all(taken[name] + amount <= granted.get(name, 0) for name, amount in asked.items())

    def take(self, level: str, mark: Mark, asked: Amounts) -> None:
        """Count what a transaction that is sent may take. It is never given back: perhaps it was done after all."""
        since, taken = self._taken.get(level, (0, Counter[str]()))
        if since != mark.revision:
            taken = Counter()
            self._taken[level] = mark.revision, taken
        taken.update(asked)

    def forget(self, level: str) -> None:
        """Forget a level that is gone: its mark was removed, and another one's version is another."""
        self._taken.pop(level, None)


@lru_cache(maxsize=1024)
def read_grants(value: bytes) -> Mapping[str, Amounts]:
    """Return what a mark's value allows, by holder; nothing when it is unreadable."""
    try:
        found = orjson.loads(value) if value else None
    except orjson.JSONDecodeError:
        return NONE
    if not isinstance(found, dict):
        return NONE
    return {holder: amounts for holder, amounts in found.items() if isinstance(amounts, dict)}


def share_out(holder: str, grants: Mapping[str, Amounts], room: Amounts, asked: Amounts) -> bytes:
    """Return the mark's next value: an allowance for the holder, and what the others had as far as there is room.

    Args:
        holder: who writes it.
        grants: what was allowed until now.
        room: what is left of each limit even when all of that was taken in the meantime.
        asked: what the holder takes with this very write, as a measure.
    """
    part = {name: amount // SHARE for name, amount in room.items() if amount >= SHARE}
    if any(part.get(name, 0) < WORTH * amount for name, amount in asked.items()):
        return b""
    shared = {holder: part}
    for other, amounts in grants.items():
        if other != holder and len(shared) < MAX_HOLDERS:
            shared[other] = {name: min(amount, part.get(name, 0)) for name, amount in amounts.items()}
    return orjson.dumps(shared)
