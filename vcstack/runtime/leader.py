"""What the runtime needs of leader election; the store's election on etcd has this shape.

Every controller has a seat of its own, so the controllers of several managers are spread. A leader writes
through a client made for its term: the client carries the term's fence, which the store checks in each
transaction, so a leader that was frozen cannot write late.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from vcstack.runtime.client import ResourceClient


class Leadership(Protocol):
    """One term as leader."""

    fence: Any
    """What a client of this term carries; opaque here."""
    lost: asyncio.Event
    """Set when the term has ended or can no longer be relied on."""


class Election(Protocol):
    """One seat."""

    async def campaign(self) -> Leadership:
        """Wait until we lead."""

    async def resign(self) -> None:
        """Step down, so that another can lead at once. Absent is success."""


Elections = Callable[[str], Election]
"""The seat of that name."""

ClientFor = Callable[[str, Any], ResourceClient]
"""A client that writes as the named controller under that fence (None: unfenced)."""


class SoleLeadership:
    """A term that nobody contests."""

    def __init__(self) -> None:
        self.fence: Any = None
        self.lost = asyncio.Event()


class SoleElection:
    """A seat with one candidate: a host's agent, which alone cares for its host."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def campaign(self) -> SoleLeadership:
        """Lead at once."""
        return SoleLeadership()

    async def resign(self) -> None:
        """Step down."""
