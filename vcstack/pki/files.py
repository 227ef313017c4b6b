"""Files that must never be seen half written, or by anybody else."""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credential:
    """Where a certificate and its key lie."""

    cert: Path
    key: Path


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


Stamps = tuple[tuple[int, ...], ...]


def stamps_of(files: Iterable[Path]) -> Stamps:
    """What changes when one of the files is replaced, however soon after the last time; an absent one has none."""
    return tuple(_stamp(path) for path in files)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time: two processes started together must not make two authorities."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # As a rule for milliseconds; whoever is stopped while it holds the lock should be found by the log.
            logger.info("waiting for another process that works on the files in %s", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> None:
    """The folder, entered by its owner only; parents that are missing are made as well."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
