"""What a request has written, for whoever keeps record of requests."""

from contextvars import ContextVar
from typing import Final, NamedTuple


class Written(NamedTuple):
    """One transaction on an object."""

    kind: str
    row: str
    """project/name, with ``-`` for no project."""
    before: int
    """The object's version before; 0: there was none."""
    after: int
    """The store's revision of this write."""
    domain: str = ""
    """Of an object outside projects: the domain that it lies in, or lay."""


WRITES: Final[ContextVar[list[Written] | None]] = ContextVar("writes", default=None)
"""A list that the writer adds to; None: nobody wants to know."""
