"""All informers of a program: one for each kind and selection, shared by whoever asks."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.informer import Informer
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)

FieldsOf = Callable[[type[AnyResource]], str]
"""The field selector that a program's informers of a kind have by default (a host's: status.host=h1)."""


class Informers:
    """Makes informers on demand and runs them; one asked for later is started at once."""

    def __init__(self, client: ResourceClient, clock: Clock, *, fields_of: FieldsOf = lambda kind: "") -> None:
        self._client = client
        self._clock = clock
        self._fields_of = fields_of
        self._made: dict[tuple[str, str | None, str, str], Informer[Any]] = {}
        self._group: asyncio.TaskGroup | None = None

    def of(
        self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str | None = None
    ) -> Informer[R]:
        """Return the informer of a kind, the same one each time."""
        fields = self._fields_of(kind) if fields is None else fields
        key = (kind.KIND, project, labels, fields)
        if key not in self._made:
            made = Informer(self._client, kind, clock=self._clock, project=project, labels=labels, fields=fields)
            self._made[key] = made
            if self._group is not None:
                self._group.create_task(made.run(), name=f"informer-{kind.KIND}")
        return self._made[key]

    def find(self, ref: Ref) -> AnyResource | None:
        """Return the object from its kind's informer, or None when it is not there."""
        found: AnyResource | None = self.of(get_kind(ref.kind).model).get(ref)
        return found

    def observe(self, resource: AnyResource) -> None:
        """Show what a write returned to the informers that hold the object or all of its kind."""
        for (kind, _, labels, fields), informer in self._made.items():
            if kind == resource.kind and (not (labels or fields) or informer.get(resource.ref) is not None):
                informer.observe(resource)

    async def wait_synced(self, informers: Iterable[Informer[Any]] | None = None) -> None:
        """Wait for the first list of these, or of all."""
        for informer in tuple(self._made.values() if informers is None else informers):
            await informer.wait_synced()

    async def relist(self) -> None:
        """Take in a list of each, without watching: for programs that run once, and tests."""
        for informer in tuple(self._made.values()):
            await informer.relist()

    async def run(self) -> None:
        """Run all informers until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for (kind, *_), informer in self._made.items():
                    group.create_task(informer.run(), name=f"informer-{kind}")
                await asyncio.Event().wait()
            finally:
                self._group = None
