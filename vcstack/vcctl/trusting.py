"""Keeping the context's copy of the authorities to trust: one that is replaced by the cloud must not end us.

The copy is taken over from an API that the copy itself trusts, in the time in which both are good.
"""

import contextlib
import ssl
import time
from pathlib import Path

from vcstack.apiclient.connection import Connection
from vcstack.pki.files import PUBLIC, write_atomically
from vcstack.specs.errors import ApiError

EVERY_SECONDS = 86_400.0
"""A copy is looked after so often; the authority gives a week by default."""
TIMEOUT_SECONDS = 5.0


async def take_over(connection: Connection, path: Path) -> bool:
    """Make the file hold what the cloud trusts; return whether it did not. Raises ApiError, OSError."""
    answer = await connection.request("GET", "/ca", anonymous=True, timeout_seconds=TIMEOUT_SECONDS)
    return _replace(path, answer.content)


async def keep(connection: Connection, path: Path, stamp: Path) -> None:
    """Take over when that was last tried a day ago; what hinders it hinders nothing else."""
    with contextlib.suppress(OSError, ApiError):
        if _is_due(stamp):
            await take_over(connection, path)


def _is_due(stamp: Path) -> bool:
    """Whether it is time; noted at once, so that an API that is away is not waited for each time."""
    if stamp.exists() and time.time() - stamp.stat().st_mtime < EVERY_SECONDS:
        return False
    stamp.touch()
    return True


def _replace(path: Path, content: bytes) -> bool:
    ssl.create_default_context(cadata=content.decode())  # refuses what holds no certificate
    if path.read_bytes() == content:
        return False
    write_atomically(path, content, PUBLIC)
    return True
