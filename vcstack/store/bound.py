"""The store as controllers see it: typed, bound to one actor. Implements ``runtime.client.ResourceClient``."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from vcstack.specs.access import EventType, Page, Propagation, WatchEvent
from vcstack.specs.errors import Conflict, NotFound
from vcstack.specs.registry import definition_of, get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.records import Stored, WatchItem

if TYPE_CHECKING:
    from vcstack.store.store import Store

R = TypeVar("R", bound=AnyResource)


class BoundStore:
    """Typed access for one actor."""

    def __init__(self, store: "Store", actor: Actor) -> None:
        self._store = store
        self.actor = actor

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """Return the object, consistently read. Raises NotFound."""
        return _typed(kind, await self._store.get(definition_of(kind), project, name))

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        """Return all objects, in the project or in all."""
        page = await self._store.list(definition_of(kind), project, label_selector=labels, field_selector=fields)
        return Page([kind.model_validate_json(item) for item in page.items], str(page.revision))

    async def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        """Yield what happens after that version; begins again by itself when it was too slow. Raises Expired."""
        version = int(since)
        while True:
            stream = await self._store.watch(
                definition_of(kind), project, since=version, label_selector=labels, field_selector=fields
            )
            async with stream:
                async for item in stream:
                    version = item.revision
                    yield _typed_event(kind, item)

    async def create(self, resource: R) -> R:
        """Return the object as created. Raises AlreadyExists, ClaimTaken, Invalid."""
        wire = _without_status(resource)
        return _typed(type(resource), await self._store.create(definition_of(resource), wire, actor=self.actor))

    async def update(self, resource: R) -> R:
        """Write labels, annotations, owners and spec. Raises Conflict when the version is stale."""
        wire = _without_status(resource)
        wire["metadata"].pop("finalizers", None)
        meta = resource.metadata
        try:
            stored = await self._store.replace(definition_of(resource), meta.project, meta.name, wire, actor=self.actor)
        except Conflict as error:
            raise _or_gone(resource.ref, error) from error
        return _typed(type(resource), stored)

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        """Merge the wire fields into status and return the object as stored; nothing is written for nothing."""
        meta = resource.metadata
        try:
            stored = await self._store.patch_status(
                definition_of(resource),
                meta.project,
                meta.name,
                status,
                uid=meta.uid or None,
                resource_version=meta.resource_version if exact_version else None,
                limits=limits,
                actor=self.actor,
            )
        except Conflict as error:
            raise _or_gone(resource.ref, error) from error
        return _typed(type(resource), stored)

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        """Remove the finalizers; the last one gone removes a deleting object. Absent is success."""
        meta = resource.metadata
        try:
            await self._store.finalize(
                definition_of(resource),
                meta.project,
                meta.name,
                finalizers,
                uid=meta.uid or None,
                resource_version=meta.resource_version if exact_version else None,
                actor=self.actor,
            )
        except NotFound:
            return
        except Conflict as error:
            if not _is_about_uid(error):
                raise

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        """Ask for the deletion. Absent is success; a uid that differs counts as absent."""
        try:
            await self._store.delete(
                get_kind(ref.kind), ref.project, ref.name, uid=uid, propagation=propagation, actor=self.actor
            )
        except NotFound:
            return
        except Conflict as error:
            if not _is_about_uid(error):
                raise


def _typed(kind: type[R], stored: Stored) -> R:
    return kind.model_validate_json(stored.json)


def _typed_event(kind: type[R], item: WatchItem) -> WatchEvent[R]:
    found = None if item.type is EventType.BOOKMARK else kind.model_validate_json(item.json)
    return WatchEvent(item.type, found, str(item.revision))


def _without_status(resource: AnyResource) -> dict[str, Any]:
    wire = resource.to_wire()
    del wire["status"]
    return wire


def _is_about_uid(error: Conflict) -> bool:
    return any(cause.field == "metadata.uid" for cause in error.causes)


def _or_gone(ref: Ref, error: Conflict) -> Conflict | NotFound:
    if _is_about_uid(error):
        return NotFound(f"{ref} is gone; another object has its name", details=error.details)
    return error
