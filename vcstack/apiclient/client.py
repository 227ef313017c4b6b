"""The typed client: what the runtime needs of the API, over HTTP, for a host's agent and for tests."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from vcstack.apiclient.connection import Connection, Credentials
from vcstack.apiclient.paths import object_path
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.wire import Wire, WireClient
from vcstack.specs.access import EventType, Page, Propagation, WatchEvent
from vcstack.specs.errors import BadRequest, Conflict, NotFound
from vcstack.specs.registry import definition_of, get_kind
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)

REOPEN_SECONDS = 0.05
"""Between the end of a watch stream and the next one, so that a server that ends them at once is not flooded."""


class ApiClient(WireClient):
    """``runtime.client.ResourceClient`` over HTTP, and the wire methods beside it."""

    @classmethod
    def connect(cls, settings: ConnectionSettings, credentials: Credentials | None = None) -> "ApiClient":
        """Return a client with a connection of its own; nothing is sent yet."""
        return cls(Connection(settings, credentials=credentials))

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """Return the object, consistently read. Raises NotFound."""
        answer = await self.connection.request("GET", object_path(definition_of(kind), project, name))
        return kind.from_wire(answer.content)

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        """Return all objects, in the project or in all."""
        page = await self.list_wire(definition_of(kind), project=project, labels=labels, fields=fields)
        return Page([kind.from_wire(item) for item in page.items], page.resource_version)

    async def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent[R]]:
        """Yield what happens after that version; reopens a stream that the server ended.

        Raises:
            Expired: list again.
            Unavailable: the server cannot be reached; watch again from the last version seen.
        """
        version = since
        while True:
            stream = self.watch_wire(definition_of(kind), since=version, project=project, labels=labels, fields=fields)
            async with aclosing(stream):
                async for event in stream:
                    version = event.resource_version
                    found = None if event.type is EventType.BOOKMARK else kind.from_wire(event.object)
                    yield WatchEvent(event.type, found, version)
            await asyncio.sleep(REOPEN_SECONDS)

    async def create(self, resource: R) -> R:
        """Return the object as created. Raises AlreadyExists, ClaimTaken, Invalid."""
        definition = definition_of(resource)
        return self._typed(resource, await self.create_wire(definition, _without_status(resource.to_wire())))

    async def update(self, resource: R) -> R:
        """Write metadata (labels, annotations, owners) and spec; Conflict when the version is stale."""
        definition = definition_of(resource)
        return self._typed(resource, await self.replace_wire(definition, _without_status(resource.to_wire())))

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        """Merge the given wire fields into status and return the object as stored.

        Limits belong to the scheduler, which writes to the store directly.
        """
        if limits is not None:
            raise BadRequest("limits of claims are checked by the store; they cannot be set through the API")
        meta = resource.metadata
        patch: Wire = {"metadata": {"uid": meta.uid}, "status": dict(status)}
        if exact_version:
            patch["metadata"]["resourceVersion"] = meta.resource_version
        definition = definition_of(resource)
        try:
            wire = await self.merge_patch_wire(definition, meta.name, patch, project=meta.project, subresource="status")
        except Conflict as error:
            raise _replaced(resource, error) from error
        return self._typed(resource, wire)

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        """Remove the finalizers; absent is success."""
        meta = resource.metadata
        body: Wire = {"remove": list(finalizers), "uid": meta.uid}
        if exact_version:
            body["resourceVersion"] = meta.resource_version
        path = object_path(definition_of(resource), meta.project, meta.name, "finalize")
        try:
            await self._write("POST", path, body)
        except NotFound:
            return
        except Conflict as error:
            if not isinstance(_replaced(resource, error), NotFound):
                raise

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        """Ask for the deletion. Absent is success; a uid that differs counts as absent."""
        try:
            await self.delete_wire(get_kind(ref.kind), ref.name, project=ref.project, uid=uid, propagation=propagation)
        except NotFound:
            return
        except Conflict as error:
            if not _is_about_uid(error):
                raise

    def _typed(self, resource: R, wire: Wire) -> R:
        return type(resource).from_wire(wire)


def _without_status(wire: Wire) -> Wire:
    wire.pop("status", None)
    return wire


def _is_about_uid(error: Conflict) -> bool:
    return any(c.field in ("metadata.uid", "uid") for c in error.causes)


def _replaced(resource: AnyResource, error: Conflict) -> Conflict | NotFound:
    if _is_about_uid(error):
        return NotFound(f"{resource.ref} with uid {resource.uid} is gone", details=error.details)
    return error
