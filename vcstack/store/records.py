"""What the store answers, as plain values: bytes as they go over the wire, decoded only where needed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from vcstack.specs.access import EventType


class Stored:
    """One object at one version."""

    __slots__ = ("_wire", "gone", "json", "revision")

    def __init__(self, json: bytes, revision: int, *, gone: bool = False) -> None:
        self.json = json
        """The API's JSON, resourceVersion included."""
        self.revision = revision
        self.gone = gone
        """Whether the write removed it; then this is its last state."""
        self._wire: dict[str, Any] | None = None

    @property
    def wire(self) -> dict[str, Any]:
        """Return the decoded JSON, decoded on first use; treat it as read-only."""
        if self._wire is None:
            self._wire = orjson.loads(self.json)
        return self._wire

    def __repr__(self) -> str:
        return f"Stored({self.json!r})"


class ListPage(NamedTuple):
    """One page of a list; all pages of it show the store as of the same revision."""

    items: Sequence[bytes]
    revision: int
    continue_: str
    """Token for the next page, empty on the last."""
    remaining: int | None
    """How many objects come after this page; None when selectors make that unknown."""


class WatchItem:
    """One event of a watch; shared by all watchers that see it alike."""

    __slots__ = ("_line", "json", "revision", "type")

    def __init__(self, type_: EventType, json: bytes, revision: int) -> None:
        self.type = type_
        self.json = json
        """The object; for DELETED its last state with the version of the deletion; for BOOKMARK the version only."""
        self.revision = revision
        self._line: bytes | None = None

    @property
    def line(self) -> bytes:
        """Return the event as one line of the API's watch stream, encoded once."""
        if self._line is None:
            self._line = b'{"type":"%b","object":%b}\n' % (self.type.encode(), self.json)
        return self._line

    def __repr__(self) -> str:
        return f"WatchItem({self.type}, {self.json!r})"
