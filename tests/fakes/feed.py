"""The reading half of a ResourceClient, driven by the test: what lists return and what watches yield or raise."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from vcstack.specs.access import EventType, Page, WatchEvent
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.meta import ObjectMeta
from vcstack.specs.resource import AnyResource


def flavor(name: str, version: int, *, uid: str = "", labels: dict[str, str] | None = None) -> Flavor:
    meta = ObjectMeta(name=name, uid=uid or f"fl-{name}", resource_version=str(version), labels=labels or {})
    return Flavor(metadata=meta, spec=FlavorSpec(vcpus=1, memory_mib=64, root_disk_gib=1))


class Feed:
    """Give it pages with ``will_list`` and events with ``send``; an exception in either is raised.

    A list waits for its page; while ``away`` it fails.
    """

    def __init__(self) -> None:
        self.pages: asyncio.Queue[Page[Any] | Exception] = asyncio.Queue()
        self.away = False
        self.events: asyncio.Queue[WatchEvent[Any] | Exception | None] = asyncio.Queue()
        self.watched_since: list[str] = []
        self.lists = 0

    def will_list(self, version: int, *items: AnyResource) -> None:
        self.pages.put_nowait(Page(items, str(version)))

    def send(self, type_: EventType, resource: AnyResource | None, version: int) -> None:
        self.events.put_nowait(WatchEvent(type_, resource, str(version)))

    def break_watch(self, error: Exception | None = None) -> None:
        """Raise the error in the watch, or end it when none is given."""
        self.events.put_nowait(error)

    async def list(self, kind: type[Any], **selectors: Any) -> Page[Any]:
        self.lists += 1
        if self.away:
            raise Unavailable("away")
        page = await self.pages.get()
        if isinstance(page, Exception):
            raise page
        return page

    async def watch(self, kind: type[Any], *, since: str, **selectors: Any) -> AsyncIterator[WatchEvent[Any]]:
        self.watched_since.append(since)
        while True:
            event = await self.events.get()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event


def names(resources: Sequence[AnyResource]) -> list[str]:
    return sorted(r.metadata.name for r in resources)
