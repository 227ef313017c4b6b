"""A client that keeps on disk what it reads, so that a host that is cut off works on across restarts."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from vcstack.nodeagent.backends.files import write_file
from vcstack.runtime.client import ResourceClient
from vcstack.specs.access import EventType, Page, Propagation, WatchEvent
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.registry import definition_of
from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)

log = structlog.get_logger(__name__)
VERSION_FILE = ".version"
WRITE_SECONDS = 2.0
"""The version to resume from is written at most this often; an older one only repeats a few events."""


Write = Callable[[Path, bytes], None]


def keep(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a power cut may lose it, for the API has it too."""
    write_file(path, content, flush=False)


class LastKnownClient:
    """A ResourceClient around another one.

    Only an API that does not answer (Unavailable) is replaced by what is on disk: a list only as long as
    none has come since the start, for it stands for the world before.
    """

    def __init__(self, client: ResourceClient, folder: Path, write: Write = keep) -> None:
        self._client = client
        self._folder = folder
        self._write_file = write
        self._listed: set[str] = set()
        self._written_at: dict[str, float] = {}

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """Return the object, or what was last known of it while the API does not answer."""
        try:
            found = await self._client.get(kind, name, project)
        except Unavailable:
            known = self._read(kind, self._path("got", kind, project, name))
            if known is None:
                raise
            return known
        except NotFound:
            self._path("got", kind, project, name).unlink(missing_ok=True)
            raise
        self._write(self._path("got", kind, project, name), found)
        return found

    async def list(self, kind: type[R], *, project: str | None = None, labels: str = "", fields: str = "") -> Page[R]:
        """Return all objects, or those last known when the API has not answered since the start."""
        try:
            page = await self._client.list(kind, project=project, labels=labels, fields=fields)
        except Unavailable:
            known = None if kind.KIND in self._listed else self._read_list(kind)
            if known is None:
                raise
            log.warning("api.away", kind=kind.KIND, known=len(known.items))
            return known
        self._listed.add(kind.KIND)
        self._write_list(kind, page)
        return page

    async def watch(
        self, kind: type[R], *, since: str, project: str | None = None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent[R]]:
        """Yield what happens, and keep it."""
        async for event in self._client.watch(kind, since=since, project=project, labels=labels, fields=fields):
            if event.object is not None:
                path = self._path("listed", kind, event.object.metadata.project, event.object.metadata.name)
                if event.type is EventType.DELETED:
                    path.unlink(missing_ok=True)
                else:
                    self._write(path, event.object)
            self._write_version(kind, event.resource_version)
            yield event

    async def create(self, resource: R) -> R:
        """Return the object as created."""
        return await self._client.create(resource)

    async def update(self, resource: R) -> R:
        """Write metadata and spec."""
        return await self._client.update(resource)

    async def patch_status(
        self,
        resource: R,
        status: Mapping[str, Any],
        *,
        exact_version: bool = False,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> R:
        """Merge into status and return the object as stored."""
        return await self._client.patch_status(resource, status, exact_version=exact_version, limits=limits)

    async def remove_finalizer(self, resource: AnyResource, *finalizers: str, exact_version: bool = False) -> None:
        """Remove the finalizers."""
        await self._client.remove_finalizer(resource, *finalizers, exact_version=exact_version)

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        """Ask for the deletion."""
        await self._client.delete(ref, uid=uid, propagation=propagation)

    def _path(self, how: str, kind: type[AnyResource], project: str | None, name: str) -> Path:
        folder = self._folder / how / definition_of(kind).plural
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"{project or '-'}_{name}.json"

    def _write(self, path: Path, resource: AnyResource) -> None:
        self._write_file(path, resource.to_json())

    def _read(self, kind: type[R], path: Path) -> R | None:
        try:
            return kind.from_wire(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _write_list(self, kind: type[R], page: Page[R]) -> None:
        folder = self._path("listed", kind, None, "").parent
        shutil.rmtree(folder)
        for item in page.items:
            self._write(self._path("listed", kind, item.metadata.project, item.metadata.name), item)
        self._written_at.pop(kind.KIND, None)
        self._write_version(kind, page.resource_version)

    def _write_version(self, kind: type[AnyResource], version: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._written_at.get(kind.KIND, -WRITE_SECONDS) >= WRITE_SECONDS:
            self._written_at[kind.KIND] = now
            folder = self._path("listed", kind, None, "").parent
            folder.mkdir(parents=True, exist_ok=True)
            self._write_file(folder / VERSION_FILE, version.encode())

    def _read_list(self, kind: type[R]) -> Page[R] | None:
        """Return what was last known, None when there was never a whole list."""
        folder = self._path("listed", kind, None, "").parent
        try:
            version = (folder / VERSION_FILE).read_text()
        except FileNotFoundError:
            return None
        found = [self._read(kind, path) for path in sorted(folder.glob("*.json"))]
        return Page([r for r in found if r is not None], version)
