"""Envelopes: a text that holds a value, encrypted with a data key of its own, which a master key wraps.

    vcs1:<master key version>:<wrapped data key>:<nonce and ciphertext>

Both parts are AES-256-GCM in base64 and carry the place of the value as associated data, so an envelope opens only
where it was made for. A new master key version needs the data key wrapped anew, not the value encrypted anew.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vcstack.crypto.encoding import associate, from_base64, to_base64, to_version
from vcstack.crypto.errors import MalformedText, Tampered
from vcstack.crypto.keyring import Wrapping
from vcstack.crypto.masterkey import KEY_BYTES, NONCE_BYTES, TAG_BYTES

FORMAT: Final = "vcs1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value belongs: the key path it is kept under and the uid of its object."""

    path: str
    uid: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The parts of an envelope."""

    version: int
    wrapped: bytes
    content: bytes

    @classmethod
    def parse(cls, text: str) -> "Sealed":
        """The parts of the text. Raises MalformedText."""
        form, *rest = text.split(":")
        if form != FORMAT or len(rest) != 3:
            raise MalformedText(f"this is no envelope ({FORMAT}:version:key:content)")
        content = from_base64(rest[2])
        if len(content) < NONCE_BYTES + TAG_BYTES:
            raise MalformedText("the envelope is cut off")
        return cls(to_version(rest[0]), from_base64(rest[1]), content)

    def __str__(self) -> str:
        return f"{FORMAT}:{self.version}:{to_base64(self.wrapped)}:{to_base64(self.content)}"


def version_of(text: str) -> int:
    """The master key version that an envelope needs; nothing is decrypted. Raises MalformedText."""
    return Sealed.parse(text).version


class Envelopes:
    """Makes and opens envelopes. May be used by several threads.

    Unwrapped data keys are kept for a while, so that reading the same values again does not ask a token each time.
    """

    def __init__(
        self,
        keyring: Wrapping,
        *,
        cached_keys: int = 4096,
        cached_seconds: float = 300,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        keyring: the master keys.
        cached_keys: how many data keys are kept at most. Default 4096, half a MiB; 0 keeps none.
        cached_seconds: how long one is kept. Default five minutes: a token that is pulled is soon felt.
        monotonic: the clock.
        """
        self._keyring = keyring
        self._cache = _DataKeys(cached_keys, cached_seconds, monotonic)

    @property
    def active(self) -> int:
        """The master key version that encrypts now."""
        return self._keyring.active

    @property
    def active_id(self) -> str:
        """Which key that is: the same in every copy of its keyring, another one in every other keyring."""
        return self._keyring.active_id

    def encrypt(self, plaintext: bytes, place: Place) -> str:
        """Return an envelope for the value, with the active master key version. Raises KeyUnavailable."""
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
        version = self._keyring.active
        wrapped = self._keyring.wrap(version, data_key, _key_data(version, place))
        content = nonce + AESGCM(data_key).encrypt(nonce, plaintext, _content_data(place))
        return str(Sealed(version, wrapped, content))

    def decrypt(self, text: str, place: Place) -> bytes:
        """Return the value.

        Raises:
            MalformedText: the text is no envelope.
            UnknownKeyVersion: its master key version is not in the keyring.
            Tampered: it was changed, or made for another place.
            KeyUnavailable: the master key cannot be reached.
        """
        sealed = Sealed.parse(text)
        cipher = self._cache.cipher(sealed.version, sealed.wrapped, place)
        if cipher is None:
            data_key = self._unwrap(sealed, place)
            cipher = AESGCM(data_key)
            self._cache.keep(sealed.version, sealed.wrapped, place, data_key)
        try:
            return cipher.decrypt(sealed.content[:NONCE_BYTES], sealed.content[NONCE_BYTES:], _content_data(place))
        except InvalidTag as error:
            raise Tampered(f"the value of {place.path} was changed") from error

    def rewrap(self, text: str, place: Place) -> str:
        """Return the envelope under the active master key version; the very same text if it is that already.

        The value is authenticated on the way: damage is found now and not when the old key is gone.

        Raises: as decrypt.
        """
        sealed, version = Sealed.parse(text), self._keyring.active
        self.decrypt(text, place)
        if sealed.version == version:
            return text
        wrapped = self._keyring.wrap(version, self._unwrap(sealed, place), _key_data(version, place))
        return str(Sealed(version, wrapped, sealed.content))

    def forget(self) -> None:
        """Wipe the data keys that are kept."""
        self._cache.wipe()

    def _unwrap(self, sealed: Sealed, place: Place) -> bytes:
        data_key = self._keyring.unwrap(sealed.version, sealed.wrapped, _key_data(sealed.version, place))
        if len(data_key) != KEY_BYTES:
            raise Tampered(f"the data key of {place.path} has {len(data_key)} bytes")
        return data_key


class _DataKeys:
    """Unwrapped data keys, the oldest first, wiped when they go."""

    def __init__(self, limit: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: OrderedDict[tuple[int, bytes, Place], tuple[float, bytearray]] = OrderedDict()

    def cipher(self, version: int, wrapped: bytes, place: Place) -> AESGCM | None:
        # The cipher copies the key, under the lock: another thread may wipe it right after.
        with self._lock:
            self._drop_old()
            found = self._keys.get((version, wrapped, place))
            return AESGCM(found[1]) if found else None

    def keep(self, version: int, wrapped: bytes, place: Place, data_key: bytes) -> None:
        with self._lock:
            self._drop(version, wrapped, place)
            if self._limit:
                self._keys[version, wrapped, place] = (self._monotonic() + self._seconds, bytearray(data_key))
            self._drop_old()

    def wipe(self) -> None:
        with self._lock:
            for key in list(self._keys):
                self._drop(*key)

    def _drop_old(self) -> None:
        """All have the same lifetime, so the first is the next to expire."""
        now = self._monotonic()
        while self._keys:
            key, (until, _) = next(iter(self._keys.items()))
            if now < until and len(self._keys) <= self._limit:
                return
            self._drop(*key)

    def _drop(self, version: int, wrapped: bytes, place: Place) -> None:
        found = self._keys.pop((version, wrapped, place), None)
        if found:
            found[1][:] = bytes(len(found[1]))


def _key_data(version: int, place: Place) -> bytes:
    return associate(FORMAT, "data key", str(version), place.path, place.uid)


def _content_data(place: Place) -> bytes:
    return associate(FORMAT, "content", place.path, place.uid)
