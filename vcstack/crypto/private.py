"""Files of which only their owner may know the content."""

import os
import stat
from pathlib import Path
from typing import Final

from vcstack.crypto.errors import InsecureKey, KeyUnavailable

MAX_BYTES: Final = 256 * 1024
"""More than any keyring; a path that names an image by accident is not read into memory."""


def read_private(path: Path) -> bytes:
    """The content of a file that belongs to us or root and that nobody else may read.

    What is checked is the opened file, not the path, which may name another one a moment later. In
    $CREDENTIALS_DIRECTORY group bits may be set: systemd gives the service's user access by an ACL, and its mask
    shows up there (systemd.exec(5), LoadCredential=).

    Raises:
        KeyUnavailable: it cannot be read.
        InsecureKey: others could read or replace it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InsecureKey(f"{path} is no regular file")
            _check_access(path, status)
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise InsecureKey(f"{path} is larger than any key file, {MAX_BYTES} bytes")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """The opening of a FIFO would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_access(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise InsecureKey(f"{path} belongs to user {status.st_uid}, who could change it; chown it to yourself")
    forbidden = 0o007 if _is_credential(path) else 0o077
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        raise InsecureKey(f"{path} has mode {mode:04o}, so others could read it; chmod 600 it and replace the key")
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise InsecureKey(f"anybody may replace files in {path.parent}; chmod o-w it")


def _is_credential(path: Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.absolute().is_relative_to(Path(folder or "/"))
