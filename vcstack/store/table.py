"""The cached objects of one kind: exact bytes by place, a ring of recent changes, the watchers."""

import bisect
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from vcstack.specs.errors import Expired
from vcstack.specs.registry import KindDefinition
from vcstack.store.changes import Change
from vcstack.store.records import WatchItem
from vcstack.store.selection import Selection, field_of
from vcstack.store.watchers import Watcher


class Entry(NamedTuple):
    """One cached object: the API's JSON and its version."""

    json: bytes
    revision: int


class Table:
    """All objects of a kind at the cache's revision."""

    def __init__(self, definition: KindDefinition, *, ring: int, ring_bytes: int) -> None:
        self.definition = definition
        node_path = definition.node_path or ""
        self.node_path = node_path if node_path.startswith("status.") else None
        """The field by which hosts look for their own objects; None for kinds that are not bound to hosts."""
        self.objects: dict[str, Entry] = {}
        """By place: project/name."""
        self.revision = 0
        """When an object of the kind last changed."""
        self._order: list[str] = []
        self._at_node: defaultdict[str, set[str]] | None = None
        """Places by the value of node_path, from the first time that a host asks."""
        self._ring: deque[Change] = deque()
        self._most, self._most_bytes, self._bytes = ring, ring_bytes, 0
        self._complete_after = 0
        """Up to here changes are no longer kept."""
        self._is_cut = False
        """Whether of those at that very revision some are."""
        self._last: Sequence[str] = ()
        """Where what was loaded has changed at the last revision, if more than one object has."""
        self._watchers: set[Watcher] = set()
        self._anchored: defaultdict[str, defaultdict[str, set[Watcher]]] = defaultdict(lambda: defaultdict(set))

    def load(self, objects: dict[str, Entry], revision: int) -> None:
        """Take these objects instead of what was there; whoever watches has to begin anew."""
        self.objects = objects
        self._order = sorted(objects)
        self._at_node = None
        self.revision = self._complete_after = revision
        self._ring.clear()
        self._bytes = 0
        self._is_cut = False
        last = [row for row, entry in objects.items() if entry.revision == revision]
        self._last = last if len(last) > 1 else ()
        self.drop_watchers()

    @property
    def watcher_count(self) -> int:
        """Return how many streams are open."""
        return len(self._all_watchers())

    def drop_watchers(self) -> None:
        """End all streams; their readers resume or list again."""
        for watcher in self._all_watchers():
            watcher.drop()

    def put(self, row: str, json: bytes, revision: int) -> None:
        """Take in a new version."""
        old = self.objects.get(row)
        if old is None:
            bisect.insort(self._order, row)
        self.objects[row] = Entry(json, revision)
        self._record(Change(self.definition, row, old.json if old else None, json, revision))

    def remove(self, row: str, revision: int) -> None:
        """Take in a deletion."""
        old = self.objects.pop(row, None)
        if old is not None:
            del self._order[bisect.bisect_left(self._order, row)]
            self._record(Change(self.definition, row, old.json, None, revision))

    def rows(self, project: str | None, after: str = "") -> Sequence[str]:
        """Return the places in order, of one project or all, behind the one given."""
        first = bisect.bisect_right(self._order, after) if after else 0
        if project is None:
            return self._order[first:] if first else self._order
        # "0" is the character that follows "/".
        first = max(first, bisect.bisect_left(self._order, project + "/"))
        return self._order[first : bisect.bisect_left(self._order, project + "0", lo=first)]

    def rows_at_node(self, node: str, project: str | None = None, after: str = "") -> Sequence[str]:
        """Return the places in order of what is bound to the host, of one project or all, behind the one given."""
        if self._at_node is None:
            self._at_node = defaultdict(set)
            for row, entry in self.objects.items():
                self._at_node[self._node_of(orjson.loads(entry.json))].add(row)
        place = f"{project}/" if project is not None else ""
        return sorted(row for row in self._at_node.get(node, ()) if row > after and row.startswith(place))

    def add(self, watcher: Watcher) -> None:
        """Offer the watcher all changes from now on."""
        self._home_of(watcher).add(watcher)

    def discard(self, watcher: Watcher) -> None:
        """Offer it nothing any more."""
        self._home_of(watcher).discard(watcher)
        anchor = watcher.selection.anchor
        if anchor is None:
            return
        path, value = anchor
        if not self._anchored[path][value]:
            del self._anchored[path][value]
            if not self._anchored[path]:
                del self._anchored[path]  # a label's key can be a path: there are as many as people like

    def changes_after(self, revision: int, selection: Selection) -> Sequence[WatchItem]:
        """Return what a watcher that has seen the revision has missed.

        Several objects may have changed at one revision, and a watcher may have been cut off between them. So
        it is told of all of them again.

        Raises:
            Expired: if that is no longer known.
        """
        if revision < self._complete_after or (revision == self._complete_after and self._is_cut):
            raise Expired(f"version {revision} is too old to watch from; list again and watch from the list's version")
        found = self._loaded_last(selection) if revision == self._complete_after else []
        first = bisect.bisect_left(self._ring, revision, key=lambda change: change.revision)
        behind = bisect.bisect_right(self._ring, revision, lo=first, key=lambda change: change.revision)
        for i in range(first if behind - first > 1 else behind, len(self._ring)):
            item = self._ring[i].seen_by(selection)
            self._ring[i].forget_decoded()
            if item is not None:
                found.append(item)
        return found

    def _loaded_last(self, selection: Selection) -> list[WatchItem]:
        found = []
        for row in self._last:
            entry = self.objects.get(row)
            if entry is not None and entry.revision == self._complete_after:
                change = Change(self.definition, row, entry.json, entry.json, entry.revision)
                found.append(change.seen_by(selection))
        return [item for item in found if item is not None]

    def _record(self, change: Change) -> None:
        self.revision = change.revision
        if self._at_node is not None:
            self._rebind(change, self._at_node)
        self._bytes += change.size
        while self._ring and (len(self._ring) >= self._most or self._bytes > self._most_bytes):
            self._forget_oldest(change.revision)
        self._ring.append(change)
        for watcher in self._concerned(change):
            item = change.seen_by(watcher.selection)
            if item is not None:
                watcher.offer(item)
        change.forget_decoded()

    def _forget_oldest(self, revision: int) -> None:
        """Forget the oldest change, for one of that revision comes."""
        oldest = self._ring.popleft()
        self._bytes -= oldest.size
        following = self._ring[0].revision if self._ring else revision
        self._is_cut = oldest.revision in (following, self._complete_after)
        self._complete_after = oldest.revision

    def _rebind(self, change: Change, at_node: defaultdict[str, set[str]]) -> None:
        if change.old_wire is not None:
            before = self._node_of(change.old_wire)
            at_node[before].discard(change.row)
            if not at_node[before]:
                del at_node[before]
        if change.new_wire is not None:
            at_node[self._node_of(change.new_wire)].add(change.row)

    def _node_of(self, wire: Mapping[str, Any]) -> str:
        return field_of(wire, self.node_path) if self.node_path else ""

    def _concerned(self, change: Change) -> Iterator[Watcher]:
        # Copied, for the garbage collector may end a stream at any moment.
        yield from tuple(self._watchers)
        for path, by_value in tuple(self._anchored.items()):
            wires = (change.old_wire, change.new_wire)
            for value in {field_of(wire, path) for wire in wires if wire is not None}:
                yield from tuple(by_value.get(value, ()))

    def _home_of(self, watcher: Watcher) -> set[Watcher]:
        anchor = watcher.selection.anchor
        return self._watchers if anchor is None else self._anchored[anchor[0]][anchor[1]]

    def _all_watchers(self) -> list[Watcher]:
        anchored = [w for by_value in self._anchored.values() for group in by_value.values() for w in group]
        return [*self._watchers, *anchored]
