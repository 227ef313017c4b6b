"""Buckets that all processes of one manager share: a table in memory that each of them has mapped.

Behind them each process has a region of its own, in which it notes how many streams whom has open; see ``streams.py``.

The parent makes it as an anonymous file and passes its descriptor on; nothing of it is left when the last one ends. A
bucket is one number, the time at which it will be full again (the theoretical arrival time of ATM's cell rate
algorithm, ITU-T I.371), by the monotonic clock that all processes of a machine have in common. A bucket that is full is
as good as none, so slots become free by themselves.

A lock on the file makes taking tokens one step. A process that dies gives it back; of one that stands still while it
has the lock nobody waits for long, then tokens are taken without it: at worst some are taken twice.
"""

import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from vcstack.apiserver.limits.buckets import REMEMBERED, Buckets, Rule, RuleId

SLOTS: Final = 65_536
PROBED: Final = 8
"""A bucket lies in one of so many slots, next to each other."""
LOCK_SECONDS: Final = 0.1
_HEAD: Final = 64
_SALT: Final = 32
_GROUP: Final = slice(32, 40)
_REGIONS: Final = _HEAD + 2 * 8 * SLOTS
_REGION: Final = 2 * 8 * SLOTS
"""Of one process: keys, and a number for each. Pages of it that nobody has used take no memory."""


class SharedTable:
    """The memory itself."""

    def __init__(self, fd: int, lock_seconds: float = LOCK_SECONDS) -> None:
        """Map what ``create`` has made, here or in the parent; the lock is waited for that long."""
        self.fd = fd
        self._lock_seconds = lock_seconds
        memory = memoryview(mmap.mmap(fd, os.fstat(fd).st_size))
        self._salt = bytes(memory[:_SALT])
        self.group = bytes(memory[_GROUP]).hex()
        """A name that only these processes have."""
        self._keys = memory[_HEAD : _HEAD + 8 * SLOTS].cast("Q")
        self._full_at = memory[_HEAD + 8 * SLOTS : _REGIONS].cast("d")
        self._regions = [memory[at : at + _REGION] for at in range(_REGIONS, len(memory), _REGION)]
        self.numbers = [(r[: 8 * SLOTS].cast("Q"), r[8 * SLOTS :].cast("Q")) for r in self._regions]
        """Of each process the keys, and beside each its number."""

    @classmethod
    def create(cls, processes: int = 1) -> Self:
        """Make an empty one for so many; its descriptor is inherited only by those that it is passed to."""
        fd = os.memfd_create("vcstack-limits", os.MFD_CLOEXEC)
        os.ftruncate(fd, _REGIONS + processes * _REGION)
        os.pwrite(fd, os.urandom(_GROUP.stop), 0)
        return cls(fd)

    def key_of(self, rule: RuleId, owner: str) -> int:
        """Return the bucket's key; the salt keeps people from choosing names that meet others' slots."""
        name = "\0".join((*rule, owner)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(name, key=self._salt, digest_size=8).digest()) or 1

    def find(self, key: int, now: float) -> int:
        """Return the bucket's slot; one that has none gets that of the fullest near its place, and is full."""
        keys, full_at = self._keys, self._full_at
        first = slot = key % (SLOTS - PROBED)
        for at in range(first, first + PROBED):
            if keys[at] == key:
                return at
            if full_at[at] < full_at[slot]:
                slot = at
        full_at[slot] = now
        keys[slot] = key
        return slot

    def is_at(self, slot: int, key: int) -> bool:
        """Return whether the bucket still lies there."""
        return self._keys[slot] == key

    def read(self, slot: int) -> float:
        """Return when the bucket there will be full."""
        return self._full_at[slot]

    def write(self, slot: int, full_at: float) -> None:
        """Note when it will be full."""
        self._full_at[slot] = full_at

    def forget_process(self, process: int) -> None:
        """Empty the region of a process that has ended."""
        self._regions[process][:] = bytes(_REGION)

    def lock(self) -> bool:
        """Keep the others from taking tokens; False when that takes too long."""
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return self._wait_for_lock()
        return True

    def unlock(self) -> None:
        """Let them."""
        fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def _wait_for_lock(self) -> bool:
        end = time.monotonic() + self._lock_seconds
        while time.monotonic() < end:
            os.sched_yield()
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            return True
        return False


class SharedBucket:
    """What is left of a rule for one subject, project or address, at all processes of the manager."""

    __slots__ = ("_key", "_slot", "_table", "at", "left", "owner", "rule")

    def __init__(self, table: SharedTable, rule: Rule, owner: str, now: float) -> None:
        self.rule, self.owner = rule, owner
        self._table = table
        self._key = table.key_of(rule.id, owner)
        self._slot = table.find(self._key, now)
        self.left, self.at = rule.burst, now

    def fill(self, now: float) -> float:
        """Return what is left now."""
        table, rule = self._table, self.rule
        if not table.is_at(self._slot, self._key):
            self._slot = table.find(self._key, now)
        left = rule.burst - (table.read(self._slot) - now) * rule.rate
        self.left = left = rule.burst if left > rule.burst else max(0.0, left)
        self.at = now
        return left

    def spend(self) -> None:
        """Take a token; after ``fill``."""
        rule = self.rule
        self.left -= 1
        self._table.write(self._slot, self.at + (rule.burst - self.left) / rule.rate)

    def charge(self, tokens: float) -> None:
        """Take so many tokens, also ones that are not there yet; after ``fill``."""
        full_at = max(self._table.read(self._slot), self.at)
        self._table.write(self._slot, full_at + tokens / self.rule.rate)

    def wait(self) -> int:
        """Return in how many whole seconds there will be a token, at least 1; after ``fill``."""
        return self.rule.seconds_until(1 - self.left)


class SharedBuckets(Buckets[SharedBucket]):
    """All buckets of the manager, as one of its processes sees them."""

    def __init__(self, table: SharedTable, now: Callable[[], float], most: int = REMEMBERED) -> None:
        super().__init__(now, most, lambda rule, owner, at: SharedBucket(table, rule, owner, at))
        self._table = table

    def take(self, buckets: Sequence[SharedBucket], now: float) -> SharedBucket | None:
        """Take a token of each bucket; return the one that has none, then nothing is taken."""
        if not buckets:
            return None
        locked = self._table.lock()
        try:
            return super().take(buckets, now)
        finally:
            if locked:
                self._table.unlock()

    def charge(self, bucket: SharedBucket, tokens: float, now: float) -> None:
        """Take tokens for what was done already and has shown only then how many it costs."""
        locked = self._table.lock()
        try:
            super().charge(bucket, tokens, now)
        finally:
            if locked:
                self._table.unlock()
