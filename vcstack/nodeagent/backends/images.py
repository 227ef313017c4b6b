"""The host's cache of image contents, one file for each digest, there only once the digest was checked."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from vcstack.specs.kinds.image import Image

Download = Callable[[Image, Path], Awaitable[None]]
"""Writes an image's content to a path, whole and with the right digest or not at all. Raises ApiError."""


class Images(Protocol):
    """What the realizers need of the image cache."""

    def find(self, digest: str) -> Path | None:
        """Return the content's file, or None when it is not in the cache."""

    async def ensure(self, image: Image) -> Path:
        """Return the content's file, fetching it first if need be. Raises ApiError."""

    def list_digests(self) -> list[str]:
        """Return the digests of what is in the cache, sorted."""


class ImageCache:
    """The Images protocol on a folder. A content is fetched once, however many instances wait for it."""

    def __init__(self, folder: Path, download: Download) -> None:
        self._folder = folder
        self._download = download
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def find(self, digest: str) -> Path | None:
        """Return the content's file, or None when it is not in the cache."""
        path = self._folder / digest.removeprefix("sha256:")
        return path if path.is_file() else None

    async def ensure(self, image: Image) -> Path:
        """Return the content's file, fetching it first if need be. Raises ApiError."""
        digest = image.status.digest or ""
        async with self._locks[digest]:
            found = self.find(digest)
            if found is None:
                found = self._folder / digest.removeprefix("sha256:")
                await self._download(image, found)
                await asyncio.to_thread(found.chmod, 0o444)
            return found

    def list_digests(self) -> list[str]:
        """Return the digests of what is in the cache, sorted."""
        return sorted(f"sha256:{p.name}" for p in self._folder.iterdir() if len(p.name) == 64)
