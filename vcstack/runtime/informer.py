"""The informer: a local copy of the objects of one kind, kept true by list and watch.

It never shows an older version after a newer one: own writes are put in at once (``observe``) and the
watch's later echo of them changes nothing. When the connection breaks the last known state stays, so a
host that is cut off works on.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import structlog

from vcstack.clock import Clock
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.client import ResourceClient
from vcstack.specs.access import EventType, WatchEvent
from vcstack.specs.errors import ApiError, Expired
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)

Handler = Callable[[R | None, R | None], None]
"""Called with (old, new) at each change; old is None for a new object, new is None for one that is gone."""

IndexFunction = Callable[[R], Iterable[Hashable]]

YIELD_EVERY = 200
"""While a list is taken in, others run after this many objects."""

log = structlog.get_logger(__name__)


class Informer(Generic[R]):
    """The objects of a kind, all or those that match the selectors."""

    def __init__(
        self,
        client: ResourceClient,
        kind: type[R],
        *,
        clock: Clock,
        project: str | None = None,
        labels: str = "",
        fields: str = "",
        backoff: Backoff | None = None,
    ) -> None:
        self.kind = kind
        self._client = client
        self._clock = clock
        self._project, self._labels, self._fields = project, labels, fields
        self._backoff = backoff or Backoff(limit_seconds=15.0)
        self._objects: dict[Ref, R] = {}
        self._handlers: list[Handler[R]] = []
        self._functions: dict[str, IndexFunction[R]] = {}
        self._indexes: dict[str, defaultdict[Hashable, dict[Ref, R]]] = {}
        self._version = 0
        self._resume_from: str | None = None
        self._synced = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Return whether the first list has been taken in."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    def get(self, ref: Ref) -> R | None:
        """Return the object, or None when there is none."""
        return self._objects.get(ref)

    def find(self, name: str, project: str | None = None) -> R | None:
        """Return the object of that name, or None when there is none."""
        return self._objects.get(Ref(self.kind.KIND, project, name))

    def list(self) -> list[R]:
        """Return all objects."""
        return list(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def by_index(self, name: str, value: Hashable) -> Sequence[R]:
        """Return the objects for which the index function named so yields the value."""
        return list(self._indexes[name].get(value, {}).values())

    def index_values(self, name: str) -> Sequence[Hashable]:
        """Return all values that the index has objects for."""
        return list(self._indexes[name])

    def add_index(self, name: str, function: IndexFunction[R]) -> None:
        """Index by what the pure function yields; an index of that name stays as it is."""
        if name in self._functions:
            return
        self._functions[name] = function
        self._indexes[name] = defaultdict(dict)
        for ref, resource in self._objects.items():
            self._index(name, ref, None, resource)

    def add_handler(self, handler: Handler[R], *, replay: bool = False) -> Callable[[], None]:
        """Call the handler at every change from now on; it must not block. Return what removes it.

        replay: call it for all present objects first, as if they were new.
        """
        for resource in self._objects.values() if replay else ():
            handler(None, resource)
        self._handlers.append(handler)
        return lambda: self._handlers.remove(handler)

    def observe(self, resource: R) -> None:
        """Take in what a write returned, unless something newer is known."""
        version = int(resource.metadata.resource_version)
        known = self._objects.get(resource.ref)
        # At one version several objects may have changed, and not all of them have been told of yet.
        if version > int(known.metadata.resource_version) if known else version >= self._version:
            self._put(resource.ref, resource)

    async def run(self) -> None:
        """List and watch until cancelled, whatever goes wrong."""
        failures = 0
        while True:
            before = self._version
            try:
                if self._resume_from is None:
                    await self.relist()
                    failures = 0
                await self._watch()
            except Expired:
                self._resume_from = None
            except ApiError as error:
                log.warning("watch.broken", kind=self.kind.KIND, error=str(error))
            except Exception:
                log.exception("watch.failed", kind=self.kind.KIND)
            failures = 1 if self._version > before else failures + 1
            await self._clock.sleep(self._backoff.delay(failures))

    async def _watch(self) -> None:
        assert self._resume_from is not None
        events = self._client.watch(
            self.kind, since=self._resume_from, project=self._project, labels=self._labels, fields=self._fields
        )
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(events, AsyncGenerator):
                stack.push_async_callback(events.aclose)
            async for event in events:
                self._take_in(event)

    async def relist(self) -> None:
        """Take in a list of all that there is; what is newer than the list stays."""
        page = await self._client.list(self.kind, project=self._project, labels=self._labels, fields=self._fields)
        version = int(page.resource_version)
        listed = set()
        for i, resource in enumerate(page.items):
            listed.add(resource.ref)
            known = self._objects.get(resource.ref)
            if known is None or int(known.metadata.resource_version) < int(resource.metadata.resource_version):
                self._put(resource.ref, resource)
            if i % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
        for ref, resource in list(self._objects.items()):
            if ref not in listed and int(resource.metadata.resource_version) <= version:
                self._put(ref, None)
        self._resume_from = page.resource_version
        self._version = version
        self._synced.set()

    def _take_in(self, event: WatchEvent[R]) -> None:
        self._resume_from = event.resource_version
        version = self._version = max(self._version, int(event.resource_version))
        if event.type is EventType.BOOKMARK or event.object is None:
            return
        ref, gone = event.object.ref, event.type is EventType.DELETED
        known = self._objects.get(ref)
        # Its own write's echo tells nothing new, unless it is that the object no longer matches.
        if known is None or int(known.metadata.resource_version) < version + gone:
            self._put(ref, None if gone else event.object)

    def _put(self, ref: Ref, new: R | None) -> None:
        old = self._objects.get(ref)
        if old is None and new is None:
            return
        if new is None:
            del self._objects[ref]
        else:
            self._objects[ref] = new
        for name in self._functions:
            self._index(name, ref, old, new)
        if old is not None and new is not None and old.uid != new.uid:
            self._tell(old, None)  # gone and made anew while we looked away
            old = None
        self._tell(old, new)

    def _tell(self, old: R | None, new: R | None) -> None:
        for handler in tuple(self._handlers):
            handler(old, new)

    def _index(self, name: str, ref: Ref, old: R | None, new: R | None) -> None:
        function, index = self._functions[name], self._indexes[name]
        for value in set(function(old)) if old is not None else ():
            index[value].pop(ref, None)
            if not index[value]:
                del index[value]
        for value in set(function(new)) if new is not None else ():
            index[value][ref] = new  # type: ignore[assignment]
