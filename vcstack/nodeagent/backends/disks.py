"""Root disks: qcow2 overlays on cached images, made by qemu-img, which never opens the image itself."""

import asyncio
import secrets
import struct
from pathlib import Path
from typing import Protocol

from vcstack.nodeagent.backends.files import keep_file
from vcstack.runtime.errors import BackendRefused, BackendUnavailable
from vcstack.specs.kinds.image import ImageFormat

TIMEOUT_SECONDS = 30.0
QEMU_FORMATS = {ImageFormat.QCOW2: "qcow2", ImageFormat.RAW: "raw"}
GIB = 1024**3
HEADER = struct.Struct(">4sIQI")
"""Magic, version, offset and length of the backing file's name."""
MAGIC = b"QFI\xfb"
SANDBOX = (
    "unshare", "--net", "--",
    "prlimit", f"--as={2 * GIB}", "--cpu=10", f"--fsize={GIB}", "--nofile=64", "--core=0", "--",
)  # fmt: skip
"""Without network and with limits: what is created is a header of some 200 KiB."""


class Disks(Protocol):
    """What the realizers need to make root disks."""

    async def make_overlay(self, path: Path, *, base: Path, base_format: ImageFormat, size_gib: int) -> None:
        """Put a fresh overlay at path, replacing what is there, whole or not at all."""

    async def grow(self, path: Path, *, size_gib: int) -> None:
        """Give the disk that size, which is not less than its present one. No machine may use it."""

    async def find_base(self, path: Path) -> Path | None:
        """Return the file that the disk is an overlay of, None when it is none or not there.

        Raises BackendRefused when that cannot be told. A machine may use the disk meanwhile.
        """


class QemuDisks:
    """The Disks protocol by qemu-img."""

    def __init__(self, *, at_once: int = 4) -> None:
        self._limit = asyncio.Semaphore(at_once)

    async def make_overlay(self, path: Path, *, base: Path, base_format: ImageFormat, size_gib: int) -> None:
        """Put a fresh overlay at path, replacing what is there, whole or not at all."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        backing = f"backing_file={_escape(str(base))},backing_fmt={QEMU_FORMATS[base_format]}"
        # -u and a size: the image is not opened, neither to probe it nor to learn its size.
        arguments = ("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", backing, str(temporary), f"{size_gib}G")
        try:
            await self._run(*SANDBOX, *arguments)
            await asyncio.to_thread(keep_file, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    async def grow(self, path: Path, *, size_gib: int) -> None:
        """Give the disk that size, which is not less than its present one. No machine may use it."""
        await self._run(*SANDBOX, "qemu-img", "resize", "-q", "-f", "qcow2", str(path), f"{size_gib}G")

    async def find_base(self, path: Path) -> Path | None:
        """Return the file that the disk is an overlay of, None when it is none or not there."""
        return await asyncio.to_thread(_read_base, path)

    async def _run(self, *arguments: str) -> None:
        async with self._limit:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    _, said = await process.communicate()
            except TimeoutError as error:
                raise BackendUnavailable(f"qemu-img took longer than {TIMEOUT_SECONDS:g} s") from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            raise BackendRefused(f"qemu-img: {said.decode(errors='replace').strip()[:500]}")


def _read_base(path: Path) -> Path | None:
    """Read the backing file's name from the header (QEMU's docs/interop/qcow2.txt), which no guest can write to."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            if len(header) < HEADER.size or not header.startswith(MAGIC):
                raise BackendRefused(f"{path} is no qcow2 image")
            _, _, offset, length = HEADER.unpack(header)
            file.seek(offset)
            name = file.read(length).decode(errors="surrogateescape") if offset else ""
    except FileNotFoundError:
        return None
    if offset and not name.startswith("/"):
        raise BackendRefused(f"{path} lies on {name!r}, which is no path of ours")
    return Path(name) if name else None


def _escape(text: str) -> str:
    """Return the text as a value of QEMU's option syntax, where a comma is written twice."""
    return text.replace(",", ",,")
