"""Is the content what it is declared to be, and harmless?

First our own reading of the header by oslo.utils' inspectors, which run no format driver at all: what could
make QEMU open another file (a backing file, a data file, an extent) is refused before any tool opens the
content. Only then qemu-img looks at it, confined.
"""

import asyncio
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from oslo_utils.imageutils import format_inspector

from vcstack.apiserver.images.sandbox import Outcome, run_confined
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.image import ImageFormat

HEAD_BYTES = 4 * 1024 * 1024
"""All headers that the inspectors know begin below."""
CHUNK_BYTES = 64 * 1024
RAW_LIKE = frozenset({"raw", "gpt", "iso"})
"""What the inspectors tell apart but QEMU opens as raw: partition tables and CD images are plain bytes."""
SECTOR_BYTES = 512
QEMU_FORMATS = {ImageFormat.QCOW2: "qcow2", ImageFormat.RAW: "raw"}
NOT_THERE = 127
CHECK_LEAKS = 3
"""Exit code of qemu-img check: only leaked clusters, harmless."""


class Refused(Exception):
    """The content is not accepted; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an inspection found."""

    virtual_size_bytes: int


async def inspect(content: Path, declared: ImageFormat, *, max_virtual_size_bytes: int) -> Inspected:
    """Return what the content is. Raises Refused; Unavailable when it could not be inspected."""
    size = await asyncio.to_thread(_inspect_header, content, declared)
    if size > max_virtual_size_bytes:
        raise Refused(
            f"The image describes a disk of {size} bytes; {max_virtual_size_bytes} are allowed, so make it smaller."
        )
    await _inspect_by_qemu(content, declared, size)
    return Inspected(size)


def _inspect_header(content: Path, declared: ImageFormat) -> int:
    """Return the virtual size by the header."""
    found = _find_formats(content)
    others = set(found) - RAW_LIKE
    if declared is ImageFormat.RAW:
        if others:
            raise Refused(f"The content is {_names(others)}, but the image is declared as Raw; declare what it is.")
        return content.stat().st_size
    inspector = found.get("qcow2")
    if inspector is None or set(found) - {"raw", "qcow2"}:
        seen = _names(set(found) - {"raw"}) or "raw"
        raise Refused(f"The content is {seen}, but the image is declared as QCOW2; declare what it is or convert it.")
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        reasons = "; ".join(sorted(f"{name}: {failure}" for name, failure in error.failures.items()))
        raise Refused(f"The image is not safe ({reasons}); flatten it with 'qemu-img convert -O qcow2'.") from error
    except (format_inspector.ImageFormatError, struct.error, ValueError, IndexError) as error:
        raise Refused(f"The image's header cannot be read ({error}); was it cut off?") from error
    _check_encryption(content)
    return int(inspector.virtual_size)


def _find_formats(content: Path) -> dict[str, Any]:
    """Return the inspectors of all formats that the content's beginning matches."""
    inspectors: dict[str, Any] = {name: make() for name, make in format_inspector.ALL_FORMATS.items()}
    with content.open("rb") as source:
        read = 0
        while read < HEAD_BYTES and (chunk := source.read(CHUNK_BYTES)):
            read += len(chunk)
            inspectors = {n: i for n, i in inspectors.items() if _eat(i, chunk)}
    return {n: i for n, i in inspectors.items() if _matches(i)}


def _eat(inspector: Any, chunk: bytes) -> bool:
    try:
        inspector.eat_chunk(chunk)
    except (format_inspector.ImageFormatError, struct.error, ValueError, IndexError, KeyError):
        return False
    return True


def _matches(inspector: Any) -> bool:
    try:
        return bool(inspector.format_match)
    except (format_inspector.ImageFormatError, struct.error, ValueError, IndexError, KeyError):
        return False


def _check_encryption(content: Path) -> None:
    """Refuse an encrypted image: crypt_method at offset 32 of the header (qemu's docs/interop/qcow2.txt)."""
    with content.open("rb") as source:
        header = source.read(36)
    if len(header) < 36 or struct.unpack(">I", header[32:36])[0] != 0:
        raise Refused("The image is encrypted; decrypt it before the upload.")


async def _inspect_by_qemu(content: Path, declared: ImageFormat, size: int) -> None:
    """Let qemu-img read it as the declared format, never guessing one."""
    format_ = QEMU_FORMATS[declared]
    name = f"./{content.name}"
    info = await run_confined("qemu-img", "info", "--output=json", "-f", format_, name, folder=content.parent)
    _demand_tool(info)
    if info.code != 0:
        raise Refused(f"qemu-img cannot read the image: {_clean(info, content)}")
    _check_info(orjson.loads(info.output), format_, size)
    if declared is ImageFormat.QCOW2:
        check = await run_confined("qemu-img", "check", "-q", "-f", format_, name, folder=content.parent)
        _demand_tool(check)
        if check.code not in (0, CHECK_LEAKS):
            raise Refused(f"The image is damaged or cut off: {_clean(check, content)}")


def _check_info(info: dict[str, Any], format_: str, size: int) -> None:
    """Compare what qemu-img says with what we read ourselves."""
    specific = (info.get("format-specific") or {}).get("data") or {}
    if info.get("format") != format_:
        raise Refused(f"qemu-img reads the image as {info.get('format')}, not as {format_}.")
    if "backing-filename" in info or "full-backing-filename" in info or "data-file" in specific:
        raise Refused("The image refers to another file; flatten it with 'qemu-img convert -O qcow2'.")
    if info.get("encrypted"):
        raise Refused("The image is encrypted; decrypt it before the upload.")
    seen = int(info.get("virtual-size", -1))
    if seen != -(-size // SECTOR_BYTES) * SECTOR_BYTES and seen != size:
        raise Refused(f"The image's size is ambiguous: {size} bytes by its header, {seen} by qemu-img.")


def _demand_tool(outcome: Outcome) -> None:
    if outcome.code == NOT_THERE or "unshare" in outcome.errors or "setpriv" in outcome.errors:
        raise Unavailable(f"images cannot be inspected here: {outcome.errors[:200]}")


def _clean(outcome: Outcome, content: Path) -> str:
    text = outcome.errors.replace(f"./{content.name}", "it").replace("qemu-img: ", "")
    return " ".join(text.split())[:300] or ("a limit was reached" if outcome.code < 0 else f"exit code {outcome.code}")


def _names(formats: set[str]) -> str:
    return " and ".join(sorted(formats))
