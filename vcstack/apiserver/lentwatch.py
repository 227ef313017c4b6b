"""Watching what other projects share with one: its views as they change, come and go."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from vcstack.specs.access import EventType
from vcstack.specs.errors import Expired
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.store.cache import WatchCache
from vcstack.store.lending import iter_lent
from vcstack.store.records import WatchItem

LOOK_SECONDS: Final = 0.5
"""How often it is looked whether something changed that decides what is shared."""
BOOKMARK_SECONDS: Final = 10.0

Place = tuple[str, str]
View = tuple[str, Mapping[str, Any]]
"""The object's version and what a borrower sees of it."""


class LentWatch:
    """The changes of what is shared with a project, like a WatchStream.

    What is shared depends on networks, projects and domains, so it is compared with what was seen last whenever one of
    these has changed. What changed before the watch began nobody knows: whoever asks for it lists again.
    """

    def __init__(self, cache: WatchCache, definition: KindDefinition, borrower: str, since: int | None) -> None:
        """Begin after that version; None: with all that is there. Raises Expired."""
        self._cache = cache
        self._definition = definition
        self._borrower = borrower
        kinds = (get_kind("Network"), get_kind("Project"), get_kind("Domain"), definition)
        self._tables = [cache.table(kind) for kind in kinds]
        self._version: tuple[int, ...] = ()
        self._known: dict[Place, View] = {}
        self._ready: deque[WatchItem] = deque()
        self._bookmark_at = time.monotonic()
        if since is not None:
            if since > cache.revision or any(table.revision > since for table in self._tables):
                raise Expired(f"what is shared may have changed since version {since}; list it again")
            self._look()
            self._ready.clear()

    async def read(self, seconds: float, *, most: int) -> Sequence[WatchItem]:
        """Return what waits, at most so many, waiting up to that long for something; nothing if nothing came."""
        end = time.monotonic() + seconds
        while True:
            if not self._ready:
                self._look()
            if self._ready:
                return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
            left = end - time.monotonic()
            if left <= 0:
                return ()
            await asyncio.sleep(min(LOOK_SECONDS, left))

    async def aclose(self) -> None:
        """Stop watching."""
        self._ready.clear()

    def _look(self) -> None:
        version = tuple(table.revision for table in self._tables)
        if version != self._version:
            self._version = version
            current = dict(self._read())
            self._ready.extend(self._compare(current))
            self._known = current
        if time.monotonic() >= self._bookmark_at:
            self._bookmark_at = time.monotonic() + BOOKMARK_SECONDS
            self._ready.append(self._bookmark())

    def _read(self) -> Iterator[tuple[Place, View]]:
        assert self._definition.lent_view is not None
        for wire in iter_lent(self._cache, self._definition, self._borrower):
            metadata = wire["metadata"]
            version = metadata["resourceVersion"]
            yield (metadata["project"], metadata["name"]), (version, self._definition.lent_view(wire))

    def _compare(self, current: Mapping[Place, View]) -> Iterator[WatchItem]:
        for place, (version, view) in current.items():
            before = self._known.get(place)
            if before is None or before[1]["metadata"]["uid"] != view["metadata"]["uid"]:
                if before is not None:
                    yield self._item(EventType.DELETED, before[1])
                yield self._item(EventType.ADDED, view)
            elif before[0] != version and _without_version(before[1]) != _without_version(view):
                yield self._item(EventType.MODIFIED, view)
        for place, (_, view) in self._known.items():
            if place not in current:
                yield self._item(EventType.DELETED, view)

    def _item(self, type_: EventType, view: Mapping[str, Any]) -> WatchItem:
        return WatchItem(type_, orjson.dumps(view), self._cache.revision)

    def _bookmark(self) -> WatchItem:
        revision = self._cache.revision
        metadata = {"resourceVersion": str(revision)}
        wire = {"apiVersion": API_VERSION, "kind": self._definition.kind, "metadata": metadata}
        return WatchItem(EventType.BOOKMARK, orjson.dumps(wire), revision)


def _without_version(view: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a borrower sees but for the version, which changes with what he does not see, too."""
    return {**view, "metadata": {k: v for k, v in view["metadata"].items() if k != "resourceVersion"}}
