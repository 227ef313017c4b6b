"""The host's cache of image contents, one file for each digest, there only once the digest was checked.

A file's modification time says when it was last needed, so that what nobody needs can go, the longest
unneeded first.
"""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Set
from pathlib import Path
from typing import NamedTuple, Protocol

from vcstack.specs.kinds.image import Image

Download = Callable[[Image, Path], Awaitable[None]]
"""Writes an image's content to a path, whole and with the right digest or not at all. Raises ApiError."""

DIGEST_LENGTH = 64
PARTIAL_KEPT_SECONDS = 3600.0
"""A download that broke off is resumed from its partial file, unless nobody has wanted it for so long."""


class Images(Protocol):
    """What the realizers need of the image cache."""

    def find(self, digest: str) -> Path | None:
        """Return the content's file, or None when it is not in the cache."""

    async def ensure(self, image: Image) -> Path:
        """Return the content's file, fetching it first if need be. Raises ApiError."""

    def list_digests(self) -> list[str]:
        """Return the digests of what is in the cache, sorted."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call the listener whenever a content has come or gone."""

    async def prune(self, needed: Set[str], *, max_bytes: int, keep_seconds: float, now: float) -> list[str]:
        """Remove what has not been needed for some time, until the rest fits; return the digests removed."""


class _File(NamedTuple):
    """A file of the cache."""

    used_at: float
    path: Path
    size: int


class ImageCache:
    """The Images protocol on a folder. A content is fetched once, however many instances wait for it."""

    def __init__(self, folder: Path, download: Download) -> None:
        self._folder = folder
        self._download = download
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call the listener whenever a content has come or gone."""
        self._listeners.append(listener)

    def find(self, digest: str) -> Path | None:
        """Return the content's file, or None when it is not in the cache."""
        path = self._path(digest)
        return path if path.is_file() else None

    async def ensure(self, image: Image) -> Path:
        """Return the content's file, fetching it first if need be. Raises ApiError."""
        digest = image.status.digest or ""
        async with self._locks[digest]:
            path = self._path(digest)
            if not _touch(path):
                await self._download(image, path)
                await asyncio.to_thread(path.chmod, 0o444)
                _touch(path)  # it may be a file that was complete but for its name, long ago
                self._tell()
            return path

    def list_digests(self) -> list[str]:
        """Return the digests of what is in the cache, sorted."""
        return sorted(f"sha256:{file.path.name}" for file in self._files())

    async def prune(self, needed: Set[str], *, max_bytes: int, keep_seconds: float, now: float) -> list[str]:
        """Remove what has not been needed for some time, until the rest fits; return the digests removed.

        Args:
            needed: The digests that must stay.
            max_bytes: What all contents together may take. What is needed stays even when it is more.
            keep_seconds: How long a content stays that is not needed any more. Not less than an instance
                may take from asking for a content to having its disk on it.
            now: The wall clock.
        """
        await self._remove_partials(now)
        for digest in needed:
            _touch(self._path(digest))
        files, removed = sorted(self._files()), []
        excess = sum(file.size for file in files) - max_bytes
        for file in files:
            digest = f"sha256:{file.path.name}"
            async with self._locks[digest]:
                if excess <= 0 or digest in needed or now - _used_at(file.path, now) < keep_seconds:
                    continue
                await asyncio.to_thread(file.path.unlink, missing_ok=True)
            excess -= file.size
            removed.append(digest)
        if removed:
            self._tell()
        return removed

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    async def _remove_partials(self, now: float) -> None:
        for path in list(self._folder.glob("*.part")):
            async with self._locks[f"sha256:{path.stem}"]:
                if now - _used_at(path, now) >= PARTIAL_KEPT_SECONDS:
                    await asyncio.to_thread(path.unlink, missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _files(self) -> Iterator[_File]:
        for path in self._folder.iterdir():
            if len(path.name) == DIGEST_LENGTH:
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    yield _File(stat.st_mtime, path, stat.st_size)


def _touch(path: Path) -> bool:
    """Note that the file is needed; return whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _used_at(path: Path, default: float) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return default
