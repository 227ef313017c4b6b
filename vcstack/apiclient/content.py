"""Image content: chunked uploads that resume where they stopped, downloads whose digest is verified."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from vcstack.apiclient.connection import Connection, decode
from vcstack.apiclient.faults import transport_error
from vcstack.apiclient.paths import object_path
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.specs.registry import get_kind

CHUNK_BYTES = 8 * 1024 * 1024
"""A request's share of an upload: lost work when the connection breaks, against round trips."""
READ_BYTES = 1024 * 1024
OCTETS = "application/octet-stream"
TRANSFER_TIMEOUT_SECONDS = 120.0
"""For one chunk, the last one with its inspection included."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class DigestMismatch(Unavailable):
    """What came is not what was promised; nothing was kept."""


class ImageContent:
    """Content of images by name; ``project`` None means a public image."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def get_received_bytes(self, name: str, *, project: str | None = None) -> int:
        """Return how much of an unfinished upload the server has."""
        path = object_path(get_kind("Image"), project, name, "content")
        answer = await self.connection.request("HEAD", path)
        return int(answer.headers.get("upload-offset", "0"))

    async def upload(
        self, name: str, file: Path, *, project: str | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Send the file, from where an earlier upload stopped, and return the Image afterwards.

        Raises:
            Invalid: the content is refused (dangerous, another format, digest or size); nothing is kept.
        """
        total = (await asyncio.to_thread(file.stat)).st_size
        if (there := await self.find_digest(name, project=project)) is not None:
            return await self._compare(name, file, there, project)
        failures = 0
        while True:
            try:
                return await self._upload_rest(name, file, total, project, progress)
            except (Unavailable, Conflict):
                failures += 1
                if failures >= self.connection.settings.attempts:
                    raise
                await asyncio.sleep(min(2**failures * 0.1, 5.0))

    async def find_digest(self, name: str, *, project: str | None = None) -> str | None:
        """Return sha256:HEX of the image's accepted content, None while it has none."""
        answer = await self.connection.request("HEAD", object_path(get_kind("Image"), project, name, "content"))
        digest: str | None = answer.headers.get("upload-complete")
        return digest

    async def _compare(self, name: str, file: Path, there: str, project: str | None) -> dict[str, Any]:
        """Return the Image when it has that very content already."""
        hasher = hashlib.sha256()
        await asyncio.to_thread(_hash_existing, file, hasher)
        if f"sha256:{hasher.hexdigest()}" != there:
            raise Conflict(f"image {name} has other content already ({there}); content never changes")
        return decode(await self.connection.request("GET", object_path(get_kind("Image"), project, name)))

    async def _upload_rest(
        self, name: str, file: Path, total: int, project: str | None, progress: Progress | None
    ) -> dict[str, Any]:
        path = object_path(get_kind("Image"), project, name, "content")
        offset = await self.get_received_bytes(name, project=project)
        while True:
            if progress:
                progress(offset, total)
            chunk = await asyncio.to_thread(_read_at, file, offset, CHUNK_BYTES)
            end = offset + len(chunk)
            headers = {"content-range": f"bytes {offset}-{end - 1}/{total}" if chunk else f"bytes */{total}"}
            answer = await self.connection.request(
                "PUT", path, content=chunk, content_type=OCTETS, headers=headers,
                timeout_seconds=TRANSFER_TIMEOUT_SECONDS,
            )  # fmt: skip
            offset = end
            if offset >= total:
                if progress:
                    progress(total, total)
                return decode(answer)

    async def download(
        self,
        name: str,
        target: Path,
        *,
        digest: str,
        project: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write the content to target, atomically and only if its digest is ``sha256:HEX`` as given.

        A partial file of an earlier try (target with ``.part``) is resumed.
        """
        partial = target.with_name(target.name + ".part")
        hasher = hashlib.sha256()
        offset = await asyncio.to_thread(_hash_existing, partial, hasher)
        path = object_path(get_kind("Image"), project, name, "content")
        headers = {"range": f"bytes={offset}-"} if offset else {}
        accept = frozenset({416})
        async with self.connection.stream(
            "GET", path, headers=headers, timeout_seconds=TRANSFER_TIMEOUT_SECONDS, accept_codes=accept
        ) as response:
            if offset and response.status_code != 206:
                hasher, offset = hashlib.sha256(), 0
            if response.status_code != 416:
                await self._write_body(response, partial, hasher, offset, progress)
        if f"sha256:{hasher.hexdigest()}" != digest:
            partial.unlink(missing_ok=True)
            raise DigestMismatch(f"image {name}: got sha256:{hasher.hexdigest()}, not {digest}; it was not kept")
        os.replace(partial, target)

    async def _write_body(
        self, response: httpx2.Response, partial: Path, hasher: Any, offset: int, progress: Progress | None
    ) -> None:
        total = offset + int(response.headers.get("content-length", "0"))
        with partial.open("r+b" if offset else "wb") as out:
            out.seek(offset)
            async for chunk in _chunks(response, str(response.url)):
                await asyncio.to_thread(_append, out, hasher, chunk)
                offset += len(chunk)
                if progress:
                    progress(offset, total)
            await asyncio.to_thread(os.fsync, out.fileno())


async def _chunks(response: httpx2.Response, url: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_bytes(READ_BYTES):
            yield chunk
    except httpx2.TransportError as error:
        raise transport_error(error, url) from error


def _append(out: Any, hasher: Any, chunk: bytes) -> None:
    hasher.update(chunk)
    out.write(chunk)


def _read_at(file: Path, offset: int, count: int) -> bytes:
    with file.open("rb") as source:
        source.seek(offset)
        return source.read(count)


def _hash_existing(partial: Path, hasher: Any) -> int:
    if not partial.exists():
        return 0
    length = 0
    with partial.open("rb") as source:
        while block := source.read(READ_BYTES):
            hasher.update(block)
            length += len(block)
    return length
