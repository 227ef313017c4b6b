"""The parts of a transaction: comparisons and operations, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys that begin with `prefix` (etcd's range_end); `\\0` means no end."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\0"
    return stripped[:-1] + bytes((stripped[-1] + 1,))


class SortBy(Enum):
    """What a range is sorted by; the values are etcd's RangeRequest.SortTarget."""

    KEY = 0
    VERSION = 1
    CREATE_REVISION = 2
    MOD_REVISION = 3
    VALUE = 4


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key, or with `range_end` all keys from `key` up to but without it."""

    key: bytes
    range_end: bytes | None = None
    limit: int = 0
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; `lease` 0 means that it stays until deleted."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key, or with `range_end` all keys from `key` up to but without it."""

    key: bytes
    range_end: bytes | None = None


Op = Get | Put | Delete

Relation = Literal["=", "!=", "<", ">"]
Target = Literal["version", "create_revision", "mod_revision", "value", "lease"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on one key, or with `range_end` on every key of a range.

    A key that does not exist has version and revisions 0 and no value at all: every comparison of its
    value is false. A range without keys counts as one absent key.
    """

    key: bytes
    target: Target
    relation: Relation
    operand: int | bytes
    range_end: bytes | None = None

    @classmethod
    def mod_revision(
        cls, key: bytes, relation: Relation, revision: int, *, range_end: bytes | None = None
    ) -> "Compare":
        """Compare the revision of the last change; 0 means absent."""
        return cls(key, "mod_revision", relation, revision, range_end)

    @classmethod
    def create_revision(
        cls, key: bytes, relation: Relation, revision: int, *, range_end: bytes | None = None
    ) -> "Compare":
        """Compare the revision of the creation; 0 means absent."""
        return cls(key, "create_revision", relation, revision, range_end)

    @classmethod
    def version(cls, key: bytes, relation: Relation, version: int, *, range_end: bytes | None = None) -> "Compare":
        """Compare the number of changes since the creation; 0 means absent."""
        return cls(key, "version", relation, version, range_end)

    @classmethod
    def value(cls, key: bytes, relation: Relation, value: bytes, *, range_end: bytes | None = None) -> "Compare":
        """Compare the value, byte by byte."""
        return cls(key, "value", relation, value, range_end)

    @classmethod
    def absent(cls, key: bytes) -> "Compare":
        """The key does not exist."""
        return cls.version(key, "=", 0)

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """The key exists."""
        return cls.version(key, ">", 0)

    @classmethod
    def range_absent(cls, prefix: bytes) -> "Compare":
        """No key begins with `prefix`."""
        return cls.version(prefix, "=", 0, range_end=prefix_end(prefix))

    @classmethod
    def range_unchanged(cls, prefix: bytes, revision: int) -> "Compare":
        """No key that begins with `prefix` was written after `revision`.

        Deletions leave no trace to compare with: a key that was removed since goes unnoticed.
        """
        return cls.mod_revision(prefix, "<", revision + 1, range_end=prefix_end(prefix))


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction: if all `compares` hold all of `success`, else all of `failure`."""

    compares: Sequence[Compare]
    success: Sequence[Op]
    failure: Sequence[Op] = ()
