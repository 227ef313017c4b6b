"""Master keys in use: the active version wraps new data keys, the others only unwrap what they once wrapped."""

import logging
import threading
from pathlib import Path
from typing import Final, Protocol

from vcstack.crypto import keyringfile
from vcstack.crypto.errors import CryptoError
from vcstack.crypto.keyringfile import Contents, Entry
from vcstack.crypto.masterkey import MasterKey
from vcstack.crypto.sources import Ask

logger = logging.getLogger(__name__)

_Stamp = tuple[int, ...]
_ABSENT: Final[_Stamp] = ()


class Wrapping(Protocol):
    """What an envelope needs of master keys."""

    @property
    def active(self) -> int:
        """The version that wraps."""

    @property
    def active_id(self) -> str:
        """Which key that is."""

    def wrap(self, version: int, data_key: bytes, associated: bytes) -> bytes:
        """Wrap a data key with that version."""

    def unwrap(self, version: int, wrapped: bytes, associated: bytes) -> bytes:
        """Return the data key. Raises UnknownKeyVersion, Tampered, KeyUnavailable."""


class Keyring:
    """The keys of a keyring file, which is read again when it changes. May be used by several threads.

    The active key is open from the start, so that a program that cannot encrypt does not start. Older ones are opened
    when something needs them: one whose token is gone costs what it wrapped, not the whole cloud.
    """

    def __init__(self, path: Path, ask: Ask | None = None) -> None:
        """Read the file and open the active key.

        Raises:
            CryptoError: the file or the key cannot or must not be used.
        """
        self.path = path
        self.problem = ""
        """Why the file as it is now was not taken over; empty when it was."""
        self._ask = ask
        self._lock = threading.Lock()
        self._seen = _stamp_of(path)
        self._contents, self._keys = self._read({})

    @property
    def active(self) -> int:
        """The version that wraps."""
        self._look()
        return self._contents.active

    @property
    def active_id(self) -> str:
        """Which key that is."""
        contents = self.contents
        return contents.entry(contents.active).id

    @property
    def contents(self) -> Contents:
        """All versions."""
        self._look()
        return self._contents

    def wrap(self, version: int, data_key: bytes, associated: bytes) -> bytes:
        """Wrap a data key with that version."""
        return self._key(version).wrap(data_key, associated)

    def unwrap(self, version: int, wrapped: bytes, associated: bytes) -> bytes:
        """Return the data key. Raises UnknownKeyVersion, Tampered, KeyUnavailable."""
        return self._key(version).unwrap(wrapped, associated)

    def reload(self) -> None:
        """Read the file now. One that must not be used leaves the keys in force as they were. Raises CryptoError."""
        with self._lock:
            seen = _stamp_of(self.path)  # before the reading: what comes in between is seen next time
            try:
                self._contents, self._keys = self._read(self._keys)
                self.problem = ""
            except CryptoError as error:
                self.problem = str(error)
                raise
            finally:
                self._seen = seen

    def _look(self) -> None:
        """Take over a file that was replaced; costs a stat, some microseconds."""
        if _stamp_of(self.path) == self._seen:
            return
        try:
            self.reload()
        except CryptoError as error:
            # A good keyring is not dropped for a bad file: what it encrypted stays readable.
            logger.error("the keyring was not read again, the keys in force stay: %s", error)
        else:
            logger.info("the keyring was read again; master key version %d is active", self._contents.active)

    def _key(self, version: int) -> MasterKey:
        self._look()
        key = self._keys.get(version)
        if key is None:
            with self._lock:
                key = self._open(self._contents.entry(version), self._keys)
        return key

    def _read(self, before: dict[int, MasterKey]) -> tuple[Contents, dict[int, MasterKey]]:
        contents = keyringfile.read(self.path)
        ids = {entry.version: entry.id for entry in contents.entries}
        keys = {version: key for version, key in before.items() if ids.get(version) == key.id}
        self._open(contents.entry(contents.active), keys)
        return contents, keys

    def _open(self, entry: Entry, keys: dict[int, MasterKey]) -> MasterKey:
        if entry.version not in keys:
            keys[entry.version] = entry.open(self.path.parent, self._ask)
        return keys[entry.version]


def _stamp_of(path: Path) -> _Stamp:
    """What differs when the file is replaced, or its mode or owner put right."""
    try:
        status = path.stat()
    except OSError:
        return _ABSENT
    # Mode and owner by themselves: on older kernels the times of two changes within milliseconds are the same.
    owned = (status.st_mode, status.st_uid)
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, *owned)
