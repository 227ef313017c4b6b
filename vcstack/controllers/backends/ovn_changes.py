"""From row events in the connection's thread to what controllers ask for: whose rows may have changed."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Collection, Iterator
from typing import Any

from vcstack.controllers.backends.network import Change
from vcstack.controllers.backends.ovn_rows import GROUP, PORT, Row, read_owner


class ChangeHub:
    """Spreads changes to subscribers on an event loop. ``publish`` may be called from any thread."""

    def __init__(self) -> None:
        self._subscribers: set[_Subscriber] = set()
        self._lock = threading.Lock()

    def publish(self, change: Change) -> None:
        """Tell the subscribers of the change's kind."""
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.offer(change)

    def publish_all(self) -> None:
        """Tell all subscribers that anything may have changed."""
        with self._lock:
            for subscriber in self._subscribers:
                for kind in subscriber.kinds:
                    subscriber.offer(Change(kind))

    async def subscribe(self, kinds: Collection[str]) -> AsyncGenerator[Change, None]:
        """Yield changes of the kinds, beginning with everything."""
        subscriber = _Subscriber(frozenset(kinds), asyncio.get_running_loop())
        for kind in sorted(subscriber.kinds):
            subscriber.take(Change(kind))
        with self._lock:
            self._subscribers.add(subscriber)
        try:
            while True:
                yield await subscriber.next()
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)


class _Subscriber:
    """One reader: unread changes are kept once each, so there are never more than objects."""

    def __init__(self, kinds: frozenset[str], loop: asyncio.AbstractEventLoop) -> None:
        self.kinds = kinds
        self._loop = loop
        self._unread: dict[Change, None] = {}
        self._awake = asyncio.Event()

    def offer(self, change: Change) -> None:
        if change.kind in self.kinds and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.take, change)

    def take(self, change: Change) -> None:
        self._unread[change] = None
        self._awake.set()

    async def next(self) -> Change:
        while not self._unread:
            self._awake.clear()
            await self._awake.wait()
        change = next(iter(self._unread))
        del self._unread[change]
        return change


def changes_of(event: str, row: Row, updates: Row | None) -> Iterator[Change]:
    """Yield whose rows a row event is about.

    Args:
        event: create, update or delete.
        row: the row as it is now (for delete: as it was).
        updates: for update, a row with the former values of the columns that changed.
    """
    former = read_owner(updates) if updates is not None and "external_ids" in updates._data else None
    table = row._table.name
    owners = {o for o in (read_owner(row), former) if o is not None}
    columns = set(updates._data) if updates is not None else set()
    if table == GROUP and (columns == {"ports"} or event == "delete"):
        yield from _membership(event, row, updates)
    if columns == {"ports"}:
        return  # a switch or group whose members came or went; the members tell themselves
    for owner in owners:
        yield Change(owner.kind, owner)


def _membership(event: str, row: Row, updates: Row | None) -> Iterator[Change]:
    """Yield the ports that joined or left a group by this event."""
    new: set[Any] = set(row._data["ports"].values) if event != "delete" else set()
    before = row if event == "delete" else updates
    old: set[Any] = set(before._data["ports"].values) if before is not None else set()
    ports = row._idl.tables[PORT].rows
    for atom in old ^ new:
        port = ports.get(atom.value)
        owner = read_owner(port) if port is not None else None
        if owner is not None:
            yield Change(owner.kind, owner)
