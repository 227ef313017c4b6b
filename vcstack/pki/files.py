"""Files that must never be seen half written, or by anybody else."""

import os
import secrets
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Put `content` at `path`, whole or not at all, also across a power cut.

    The file has its mode from its first byte on: a secret that is made readable and then closed off was
    readable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # the umask may have taken bits away
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """The folder, entered by its owner only; parents that are missing are made as well."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
