"""What every way of reading and writing resources speaks of: watch events, pages, propagation.

The store and the API client both implement the runtime's protocol, and these are its values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from vcstack.specs.resource import AnyResource

R = TypeVar("R", bound=AnyResource)


class EventType(StrEnum):
    """What a watch reports."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[R]):
    """One event of a watch. A bookmark has no object."""

    type: EventType
    object: R | None
    """For DELETED the last state."""
    resource_version: str
    """Where to resume from."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """A consistent list."""

    items: Sequence[R]
    resource_version: str
    """Where to begin watching from."""


class Propagation(StrEnum):
    """What happens to the objects owned by a deleted one."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"
