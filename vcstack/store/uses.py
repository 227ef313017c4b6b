"""How much is in use: what the cached objects take, added up by level.

What an object takes lies in its own record, written in its own transaction: one of its kind, and what is stored
beside it as ``takes`` (see ``encoding.py``). So there is nothing to leak and no counter that could drift; the sums
here are kept as objects come, change and go.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from vcstack.specs.registry import KindDefinition, load_kinds
from vcstack.store.keys import GLOBAL
from vcstack.store.levels import levels_of
from vcstack.store.limits import LimitBook

NOTHING: Mapping[str, int] = {}


class Taking(NamedTuple):
    """What one object takes."""

    level: str
    """Where it counts."""
    stored: bytes = b""
    """JSON of what it takes besides being one of its kind; empty when its kind takes nothing else, or when it could
    not be measured yet."""
    amounts: Mapping[str, int] = NOTHING
    """The same, decoded."""


class UseIndex:
    """What is in use at the cache's revision."""

    def __init__(self, limits: LimitBook) -> None:
        self._limits = limits
        self._takings: dict[str, dict[str, Taking]] = {d.plural: {} for d in load_kinds().values() if d.is_counted}
        self._used: dict[str, dict[str, int]] = {}
        self._unmeasured: dict[str, set[str]] = {d.plural: set() for d in load_kinds().values() if d.amount_names}

    def clear(self) -> None:
        """Forget everything."""
        self._used.clear()
        for takings in self._takings.values():
            takings.clear()
        for rows in self._unmeasured.values():
            rows.clear()

    def used(self, level: str) -> Mapping[str, int]:
        """Return what is in use at the level and below, by name."""
        return self._used.get(level, NOTHING)

    def levels_below(self, level: str) -> list[str]:
        """Return the levels directly below at which anything is in use."""
        depth = level.count("/") + 1
        return [other for other in self._used if other.count("/") == depth and other.startswith(level + "/")]

    def find(self, definition: KindDefinition, row: str) -> Taking | None:
        """Return what the object takes; None when there is none, or its kind is not counted."""
        return self._takings.get(definition.plural, {}).get(row)

    def unmeasured(self, definition: KindDefinition) -> Collection[str]:
        """Return the places of the objects of which is not known what they take."""
        return self._unmeasured.get(definition.plural, ())

    def put(self, definition: KindDefinition, row: str, json: bytes, stored: bytes) -> None:
        """Take in a version of an object, with what is stored of what it takes."""
        takings = self._takings.get(definition.plural)
        if takings is None:
            return
        before = takings.get(row)
        if before is not None and before.stored == stored:
            return  # the usual: what it takes changes seldom, and where it counts never
        level = before.level if before is not None else self._level_of(definition, row, json)
        taking = Taking(level, stored, _decode(stored) if stored else NOTHING)
        takings[row] = taking
        if definition.amount_names:
            rows = self._unmeasured[definition.plural]
            (rows.discard if stored else rows.add)(row)
        if before is None:
            self._add_up(level, definition.plural, 1)
        else:
            self._add_all(before, -1)
        self._add_all(taking, 1)

    def remove(self, definition: KindDefinition, row: str) -> None:
        """Take in a deletion."""
        taking = self._takings.get(definition.plural, {}).pop(row, None)
        if taking is not None:
            self._add_up(taking.level, definition.plural, -1)
            self._add_all(taking, -1)
            if definition.amount_names:
                self._unmeasured[definition.plural].discard(row)

    def _level_of(self, definition: KindDefinition, row: str, json: bytes) -> str:
        project = row.partition("/")[0]
        if project != GLOBAL:
            return self._limits.level_of_project(project)
        return self._limits.level_of(definition, orjson.loads(json))

    def _add_all(self, taking: Taking, sign: int) -> None:
        for name, amount in taking.amounts.items():
            self._add_up(taking.level, name, sign * amount)

    def _add_up(self, level: str, name: str, amount: int) -> None:
        for each in levels_of(level):
            sums = self._used.setdefault(each, {})
            total = sums.get(name, 0) + amount
            if total:
                sums[name] = total
            else:
                sums.pop(name, None)
                if not sums:
                    del self._used[each]


def _decode(stored: bytes) -> Mapping[str, int]:
    found = orjson.loads(stored)
    return {n: a for n, a in found.items() if type(a) is int} if isinstance(found, dict) else NOTHING
