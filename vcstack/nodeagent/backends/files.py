"""Files of the agent that are whole or not there at all, also across a power cut."""

import os
import re
import secrets
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")


def remove_temporaries(folder: Path) -> None:
    """Remove what writers left that were killed; none may be writing."""
    for path in folder.rglob(".*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Put content at path in one rename; the folder must exist. Without flush a power cut may lose it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if flush:
        flush_folder(path.parent)


def keep_file(temporary: Path, path: Path) -> None:
    """Give a finished temporary file its name, so that it stays there."""
    descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Have the folder's entries written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
