"""One change of one object as watchers see it, each through its own selection."""

from typing import Any

import orjson

from vcstack.specs.access import EventType
from vcstack.specs.registry import KindDefinition
from vcstack.store.encoding import with_revision
from vcstack.store.records import WatchItem
from vcstack.store.selection import Selection


class Change:
    """From one version of an object to the next; None stands for its absence."""

    __slots__ = ("_definition", "_items", "_new_wire", "_old_wire", "new", "old", "revision", "row")

    def __init__(
        self, definition: KindDefinition, row: str, old: bytes | None, new: bytes | None, revision: int
    ) -> None:
        self._definition = definition
        self.row = row
        self.old = old
        self.new = new
        self.revision = revision
        self._old_wire: dict[str, Any] | None = None
        self._new_wire: dict[str, Any] | None = None
        self._items: dict[EventType, WatchItem] = {}

    @property
    def old_wire(self) -> dict[str, Any] | None:
        """Return the decoded old version."""
        if self._old_wire is None and self.old is not None:
            self._old_wire = orjson.loads(self.old)
        return self._old_wire

    @property
    def new_wire(self) -> dict[str, Any] | None:
        """Return the decoded new version."""
        if self._new_wire is None and self.new is not None:
            self._new_wire = orjson.loads(self.new)
        return self._new_wire

    @property
    def size(self) -> int:
        """Return about how many bytes it keeps."""
        return len(self.new or self.old or b"")

    def forget_decoded(self) -> None:
        """Free what was decoded to dispatch the change; the ring keeps bytes only."""
        self._old_wire = self._new_wire = None

    def seen_by(self, selection: Selection) -> WatchItem | None:
        """Return the event for a watcher with that selection, None when it does not concern it.

        An object that begins to match is ADDED, one that ceases to is DELETED with its last matching state.
        """
        if selection.project is not None and not self.row.startswith(selection.project + "/"):
            return None
        was, is_ = self.old is not None, self.new is not None
        if selection.by_content:
            was = self.old_wire is not None and selection.matches(self.old_wire)
            is_ = self.new_wire is not None and selection.matches(self.new_wire)
        if is_:
            return self._item(EventType.MODIFIED if was else EventType.ADDED)
        return self._item(EventType.DELETED) if was else None

    def _item(self, type_: EventType) -> WatchItem:
        if type_ not in self._items:
            if type_ is EventType.DELETED:
                assert self.old is not None
                json = with_revision(self._definition, self.old, self.revision)
            else:
                assert self.new is not None
                json = self.new
            self._items[type_] = WatchItem(type_, json, self.revision)
        return self._items[type_]
