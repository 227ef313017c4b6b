"""The image cache's upkeep: which contents are needed on this host, and that the others go in time.

A content is needed while a root disk is an overlay of it, or an instance that is bound here may still get
one. When either cannot be told, nothing is removed.
"""

import asyncio

import structlog

from vcstack.clock import Clock
from vcstack.nodeagent.backends.disks import GIB, Disks
from vcstack.nodeagent.backends.images import Images
from vcstack.nodeagent.layout import InstanceFiles, Layout
from vcstack.nodeagent.record import read_record
from vcstack.nodeagent.references import References
from vcstack.nodeagent.settings import ImageCacheSettings
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import WaitingFor
from vcstack.specs.kinds.instance import Instance

HOUR_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class ImageKeeper:
    """Prunes the cache."""

    def __init__(
        self,
        host: str,
        client: ResourceClient,
        references: References,
        layout: Layout,
        disks: Disks,
        images: Images,
        clock: Clock,
        settings: ImageCacheSettings,
    ) -> None:
        self._host, self._references, self._layout, self._clock = host, references, layout, clock
        self._disks, self._images, self._settings = disks, images, settings
        self._client = client
        """Asks the API itself, never a cache."""

    async def run_once(self) -> list[str]:
        """Remove what nobody has needed for long enough; return the digests.

        Raises:
            ApiError: the API cannot be asked.
            BackendError: a disk does not say what it is an overlay of.
        """
        needed = await self._find_asked_for() | await self._find_backing()
        removed = await self._images.prune(
            needed,
            max_bytes=self._settings.max_gib * GIB,
            keep_seconds=self._settings.keep_hours * HOUR_SECONDS,
            now=self._clock.now().timestamp(),
        )
        for digest in removed:
            log.info("image.removed", digest=digest)
        return removed

    async def _find_asked_for(self) -> set[str]:
        """Return the contents of the images that instances bound here name."""
        page = await self._client.list(Instance, fields=f"status.host={self._host}")
        found = set()
        for instance in page.items:
            try:
                found.add((await self._references.get_image(instance)).status.digest or "")
            except WaitingFor:  # no content yet
                continue
        return found

    async def _find_backing(self) -> set[str]:
        """Return what the disks on this host lie on, whoever's they are."""
        found: set[str] = set()
        for folder in list(self._layout.instances.iterdir()):
            found |= await self._find_backing_of(InstanceFiles(folder))
        return found

    async def _find_backing_of(self, files: InstanceFiles) -> set[str]:
        record = await asyncio.to_thread(read_record, files.record)
        found = {record.image_digest} if record is not None and record.image_digest else set()
        for disk in files.folder.glob("*.qcow2"):
            base = await self._disks.find_base(disk)
            if base is not None and base.parent == self._layout.images:
                found.add(f"sha256:{base.name}")
        return found
