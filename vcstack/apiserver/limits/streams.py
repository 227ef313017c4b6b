"""How many streams may be open: they hold no seat, but memory and a connection.

Those of all are limited at each process, for it is that process that they burden. Those of one subject are limited in
all processes of a manager together: each notes its own in a region of the memory that they share, and adds up all.
"""

from typing import Protocol

from vcstack.apiserver.limits.defaults import StreamSettings
from vcstack.apiserver.limits.shared import PROBED, SLOTS, SharedTable


class Places(Protocol):
    """Where the open streams of each are noted."""

    def try_add(self, owner: str, most: int) -> bool:
        """Note one more unless there are so many."""

    def remove(self, owner: str) -> None:
        """Note one less."""


class OwnPlaces:
    """Those of a process that serves the API alone."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def try_add(self, owner: str, most: int) -> bool:
        """Note one more unless there are so many."""
        count = self._open.get(owner, 0)
        if count >= most:
            return False
        self._open[owner] = count + 1
        return True

    def remove(self, owner: str) -> None:
        """Note one less."""
        left = self._open[owner] - 1
        if left:
            self._open[owner] = left
        else:
            del self._open[owner]


class SharedPlaces:
    """Those of all processes of a manager, of which this is one. What a process had that ended its parent empties."""

    def __init__(self, table: SharedTable, process: int, level: str) -> None:
        self._table = table
        self._rule = ("", f"streams-{level}")
        self._own_keys, self._own_counts = table.numbers[process]
        self._slots: dict[str, int] = {}

    def try_add(self, owner: str, most: int) -> bool:
        """Note one more unless there are so many."""
        key = self._table.key_of(self._rule, owner)
        locked = self._table.lock()
        try:
            if self._count(key) >= most:
                return False
            slot = self._slots.get(owner)
            if slot is None:
                slot = self._find_free(key)
                if slot is None:
                    return False  # more streams than can be counted
                self._slots[owner] = slot
                self._own_counts[slot] = 0
                self._own_keys[slot] = key
            self._own_counts[slot] += 1
        finally:
            if locked:
                self._table.unlock()
        return True

    def remove(self, owner: str) -> None:
        """Note one less."""
        slot = self._slots[owner]
        left = self._own_counts[slot] - 1
        self._own_counts[slot] = left
        if not left:
            self._own_keys[slot] = 0
            del self._slots[owner]

    def _count(self, key: int) -> int:
        """Return how many there are at all processes."""
        first = key % (SLOTS - PROBED)
        found = 0
        for keys, counts in self._table.numbers:
            for slot in range(first, first + PROBED):
                if keys[slot] == key:
                    found += counts[slot]
                    break
        return found

    def _find_free(self, key: int) -> int | None:
        first = key % (SLOTS - PROBED)
        return next((slot for slot in range(first, first + PROBED) if not self._own_keys[slot]), None)


class StreamCount:
    """The open streams of one level."""

    def __init__(self, settings: StreamSettings, places: Places) -> None:
        self.settings = settings
        self.open = 0
        """At this process."""
        self._places = places

    def try_add(self, owner: str, managers: int) -> int | None:
        """Count one more of the owner's; return the limit that it would exceed, of one's own or of all, if any.

        Args:
            owner: whose it is.
            managers: how many share what one may have; this is one of them.
        """
        if self.open >= self.settings.in_all:
            return self.settings.in_all
        mine = max(1, -(-self.settings.of_one // managers))
        if not self._places.try_add(owner, mine):
            return mine
        self.open += 1
        return None

    def remove(self, owner: str) -> None:
        """Count one less."""
        self.open -= 1
        self._places.remove(owner)
