"""Streams of keys to look at: what happened outside, by uid, told to the controllers by name."""

import asyncio
from collections.abc import AsyncIterator, Callable

from vcstack.runtime.controller import Source
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.resource import AnyResource, Ref

BY_UID = "uid"
LIMIT = 4096

Uids = Callable[[], AsyncIterator[str | None]]
"""Opens a stream of instance uids; None: anything may have happened."""


def index_by_uid(instances: Informer[Instance]) -> None:
    """Have the informer find instances by uid."""
    instances.add_index(BY_UID, lambda instance: [instance.uid])


def source_of(uids: Uids, instances: Informer[Instance]) -> Source:
    """Return a controller's source from a backend's stream of events."""

    async def refs() -> AsyncIterator[Ref]:
        async for uid in uids():
            found = instances.list() if uid is None else instances.by_index(BY_UID, uid)
            for instance in found:
                yield instance.ref

    return refs


class Wakeups:
    """Keys that other parts of the agent want to have looked at."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Ref] = asyncio.Queue(LIMIT)

    def wake(self, resource: AnyResource) -> None:
        """Have the object looked at soon. When too many wait already, the resync will do."""
        if not self._queue.full():
            self._queue.put_nowait(resource.ref)

    async def refs(self) -> AsyncIterator[Ref]:
        """Yield keys for ever."""
        while True:
            yield await self._queue.get()
