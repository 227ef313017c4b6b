"""A client that shows what its writes return to the informers, so that nobody acts on an older state."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from vcstack.runtime.client import ResourceClient
from vcstack.runtime.informers import Informers
from vcstack.specs.access import Page, Propagation, WatchEvent
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)


class ObservingClient:
    """A ResourceClient around another one."""

    def __init__(self, client: ResourceClient, informers: Informers) -> None:
        self._client = client
        self._informers = informers

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """Return the object, consistently read."""
        return self._seen(await self._client.get(kind, name, project))

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        """Return all objects that match."""
        return await self._client.list(kind, project=project, labels=labels, fields=fields)

    def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        """Yield what happens after that resourceVersion."""
        return self._client.watch(kind, since=since, project=project, labels=labels, fields=fields)

    async def create(self, resource: R) -> R:
        """Return the object as created."""
        return self._seen(await self._client.create(resource))

    async def update(self, resource: R) -> R:
        """Write metadata and spec."""
        return self._seen(await self._client.update(resource))

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        """Merge into status and return the object as stored."""
        return self._seen(await self._client.patch_status(resource, status, exact_version=exact_version, limits=limits))

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        """Remove the finalizers."""
        await self._client.remove_finalizer(resource, *finalizers, exact_version=exact_version)

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        """Ask for the deletion."""
        await self._client.delete(ref, uid=uid, propagation=propagation)

    def _seen(self, resource: R) -> R:
        self._informers.observe(resource)
        return resource
