"""The runtime's own small protocol for reading and writing resources.

The store (in the manager) and the API client (on a host) both implement it; the runtime, the controllers
and the host's realizers know nothing else. All methods raise the errors of ``vcstack.specs.errors``.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, TypeVar

from vcstack.specs.access import Page, Propagation, WatchEvent
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)


class ResourceClient(Protocol):
    """Typed access to resources, bound to one actor."""

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """Return the object, consistently read. Raises NotFound."""

    async def list(
        self,
        kind: type[R],
        *,
        project: str | None = None,
        labels: str = "",
        fields: str = "",
    ) -> Page[R]:
        """Return all objects, in the project or in all; selectors as in Kubernetes (``status.host=h1``)."""

    def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        """Yield what happens after that resourceVersion, for ever. Raises Expired: list again.

        With selectors an object that begins to match is ADDED, one that ceases to is DELETED.
        """

    async def create(self, resource: R) -> R:
        """Return the object as created. Raises AlreadyExists, ClaimTaken, Invalid."""

    async def update(self, resource: R) -> R:
        """Write metadata (labels, annotations, owners) and spec.

        Raises Conflict when resourceVersion is stale, NotFound when it is gone or the uid differs.
        """

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        """Merge the given wire fields into status and return the object as stored.

        An RFC 7386 merge patch, but conditions merge by type; Ready and observedGeneration are derived.
        Writes nothing when nothing changes. The patch lands on the newest version unless exact_version
        is set (then a stale resourceVersion is a Conflict). limits: pool → name → sum allowed, for
        claims that follow from the new status (``capacity/h1``). Raises ClaimTaken, NotFound (also when
        the uid differs).
        """

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        """Remove the finalizers; the last one gone removes a deleting object. Absent is success."""

    async def delete(
        self,
        ref: Ref,
        *,
        uid: str | None = None,
        propagation: Propagation = Propagation.BACKGROUND,
    ) -> None:
        """Ask for the deletion. Absent is success; a uid that differs counts as absent."""
