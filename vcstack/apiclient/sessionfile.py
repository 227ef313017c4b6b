"""A session in a file that only its owner can read, shared by all programs of the user."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import ValidationError

from vcstack.apiclient.credentials import HeldSession
from vcstack.pki.files import PRIVATE, make_private_folder, write_atomically
from vcstack.specs.errors import Unavailable

POLL_SECONDS = 0.02
LOCK_SECONDS = 60.0
"""A renewal takes one request."""


class SessionFile:
    """Implements ``SessionPlace`` on a file of mode 0600 and a lock file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> HeldSession | None:
        """Return what is kept; what cannot be read as a session is as good as none. Raises OSError."""
        try:
            return HeldSession.from_wire(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            return None

    def write(self, session: HeldSession) -> None:
        """Keep it instead, whole or not at all. Raises OSError."""
        make_private_folder(self.path.parent)
        write_atomically(self.path, session.to_json(), PRIVATE)

    def remove(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep the other programs waiting. The lock ends with the process, however that ends. Raises OSError."""
        make_private_folder(self.path.parent)
        # The lock file is never removed: who opened a removed one would lock nothing.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path.with_name(self.path.name + ".lock"), flags, PRIVATE)
        try:
            await self._take(descriptor)
            yield
        finally:
            os.close(descriptor)

    async def _take(self, descriptor: int) -> None:
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                while not _try_lock(descriptor):  # noqa: ASYNC110 - another process tells nobody that it is done
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise Unavailable(f"another program has held {self.path}.lock for {LOCK_SECONDS:g} s") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
