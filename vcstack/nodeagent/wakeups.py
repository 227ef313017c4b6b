"""Streams of keys to look at: what happened outside, by uid, told to the controllers by name."""

import asyncio
from collections.abc import AsyncIterator, Callable

from vcstack.runtime.controller import Source
from vcstack.runtime.errors import BackendUnavailable, ReconcileError
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.resource import AnyResource, Ref

BY_UID = "uid"
LIMIT = 4096

GAP_SECONDS = 0.25
"""Between two looks at one instance because of events of one kind."""

Uids = Callable[[], AsyncIterator[str | None]]
"""Opens a stream of instance uids; None: anything may have happened."""


def index_by_uid(instances: Informer[Instance]) -> None:
    """Have the informer find instances by uid."""
    instances.add_index(BY_UID, lambda instance: [instance.uid])


def source_of(uids: Uids, instances: Informer[Instance]) -> Source:
    """Return a controller's source from a backend's stream of events.

    Of many events of one instance those that come too fast are held back and told as one: what the agent
    does causes events too, and a step that fails after such a one must not be tried without a pause.
    """

    async def refs() -> AsyncIterator[Ref]:
        told: dict[Ref, float] = {}
        late = _Late()
        reader = asyncio.create_task(_read(uids, late.queue))
        try:
            while True:
                uid = await late.queue.get()
                if isinstance(uid, BaseException):
                    raise uid
                now = asyncio.get_running_loop().time()
                for ref in [uid] if isinstance(uid, Ref) else _find(uid, instances):
                    if now - told.get(ref, -GAP_SECONDS) >= GAP_SECONDS or isinstance(uid, Ref):
                        told[ref] = now
                        late.waiting.discard(ref)
                        yield ref
                    else:
                        late.tell(ref, told[ref] + GAP_SECONDS - now)
                if len(told) > LIMIT:
                    told.clear()
        finally:
            reader.cancel()

    return refs


class _Late:
    """Keys that are held back for a moment."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | Ref | BaseException | None] = asyncio.Queue()
        self.waiting: set[Ref] = set()

    def tell(self, ref: Ref, seconds: float) -> None:
        if ref not in self.waiting:
            self.waiting.add(ref)
            asyncio.get_running_loop().call_later(seconds, self.queue.put_nowait, ref)


async def _read(uids: Uids, queue: "asyncio.Queue[str | Ref | BaseException | None]") -> None:
    try:
        async for uid in uids():
            queue.put_nowait(uid)
        queue.put_nowait(BackendUnavailable("the stream of events ended"))
    except ReconcileError as error:
        queue.put_nowait(error)


def _find(uid: str | None, instances: Informer[Instance]) -> list[Ref]:
    found = instances.list() if uid is None else instances.by_index(BY_UID, uid)
    return [instance.ref for instance in found]


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
