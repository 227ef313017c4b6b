"""Master keys: they wrap the data keys that encrypt everything else, and never anything else themselves.

Here are those that are known as 32 bytes, from a file or a passphrase; `hsm` has the one that stays in a token.
"""

import hashlib
import hmac
import os
import string
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vcstack.crypto.encoding import from_base64
from vcstack.crypto.errors import InsecureKey, MalformedText, Tampered

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""NIST SP 800-38D: 96 bits, random. Good for 2^32 wraps under one key; see the ADR."""
TAG_BYTES: Final = 16
SALT_BYTES: Final = 16
MIN_PASSPHRASE: Final = 16
"""Characters. With fewer, Argon2id only delays who has the file."""
MIN_DISTINCT: Final = 12
"""Different values among 32 bytes. Random ones have fewer about once in 10^14 keys."""
_WELL_KNOWN: Final = ("", "admin", "changeit", "changeme", "default", "password", "secret", "test", "vcstack")


class MasterKey(Protocol):
    """What wraps data keys, wherever it lives."""

    @property
    def id(self) -> str:
        """What tells it from every other master key, without telling anything about it."""

    def wrap(self, data_key: bytes, associated: bytes) -> bytes:
        """Encrypt a data key for the place that `associated` names."""

    def unwrap(self, wrapped: bytes, associated: bytes) -> bytes:
        """Return the data key.

        Raises:
            Tampered: `wrapped` was changed, made by another key, or for another place.
            KeyUnavailable: the key cannot be reached now.
        """


class LocalMasterKey:
    """A master key in this process's memory: AES-256-GCM, nonce before the ciphertext."""

    def __init__(self, key: bytes) -> None:
        """Take 32 bytes.

        Raises:
            InsecureKey: they are not random, or not 32.
        """
        check_strength(key)
        self._cipher = AESGCM(key)
        # A MAC of a constant says whether two keys are the same and nothing about either.
        self._id = "local:" + hmac.digest(key, b"vcstack master key id", "sha256")[:8].hex()

    @property
    def id(self) -> str:
        """A fingerprint of the key."""
        return self._id

    def wrap(self, data_key: bytes, associated: bytes) -> bytes:
        """Encrypt a data key for the place that `associated` names."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key, associated)

    def unwrap(self, wrapped: bytes, associated: bytes) -> bytes:
        """Return the data key. Raises Tampered."""
        if len(wrapped) < NONCE_BYTES + TAG_BYTES:
            raise Tampered("the wrapped data key is cut off")
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], associated)
        except InvalidTag as error:
            raise Tampered("the data key was changed, or belongs to another place or master key") from error


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """The cost of trying one passphrase (RFC 9106)."""

    memory_kib: int = 256 * 1024
    """Default 256 MiB: four times RFC 9106's second recommendation, for it is paid once a start."""
    passes: int = 4
    lanes: int = 4

    def __post_init__(self) -> None:
        """Refuse what RFC 9106 would find too cheap, and what a damaged file might ask for."""
        if not (64 * 1024 <= self.memory_kib <= 4 * 1024 * 1024 and 3 <= self.passes <= 64 and 1 <= self.lanes <= 64):
            raise InsecureKey(
                "Argon2id's parameters are out of bounds: 64 MiB to 4 GiB of memory, 3 to 64 passes, 1 to 64 lanes"
            )


def from_passphrase(passphrase: str, salt: bytes, parameters: Argon2Parameters) -> LocalMasterKey:
    """The master key that belongs to a passphrase; deliberately slow.

    Raises:
        InsecureKey: the passphrase is too short or repeats itself, or the salt is too short.
    """
    check_passphrase(passphrase)
    if len(salt) < SALT_BYTES:
        raise InsecureKey(f"the salt has {len(salt)} bytes; {SALT_BYTES} are needed")
    return LocalMasterKey(
        hash_secret_raw(
            # Keyboards differ in how they compose an accent (RFC 8265, OpaqueString).
            unicodedata.normalize("NFC", passphrase).encode(),
            salt,
            time_cost=parameters.passes,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )
    )


def parse_key(content: bytes, source: str) -> bytes:
    """The 32 bytes of a key file's content; `source` names it in errors."""
    try:
        key = from_base64(content.decode("ascii").strip())
    except (UnicodeDecodeError, MalformedText) as error:
        raise MalformedText(f"{source} holds no key: one line of base64 of {KEY_BYTES} random bytes") from error
    if len(key) != KEY_BYTES:
        raise MalformedText(f"{source} holds {len(key)} bytes; a key has {KEY_BYTES}")
    return key


def check_strength(key: bytes) -> None:
    """Refuse what was typed, counted or copied from an example instead of drawn at random.

    Raises:
        InsecureKey: so it was.
    """
    if len(key) != KEY_BYTES:
        raise InsecureKey(f"a master key has {KEY_BYTES} bytes, not {len(key)}")
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    typed = all(byte in string.printable.encode() for byte in key)
    hashed = key in {hashlib.sha256(word.encode()).digest() for word in _WELL_KNOWN}
    if len(set(key)) < MIN_DISTINCT or len(steps) == 1 or typed or hashed:
        raise InsecureKey("the key is weak or a default one; make a random one: vcctl secrets init")


def check_passphrase(passphrase: str) -> None:
    """Refuse passphrases that are guessed soon.

    Raises:
        InsecureKey: it is one of them.
    """
    if len(passphrase) < MIN_PASSPHRASE or len(set(passphrase)) < MIN_PASSPHRASE // 2:
        raise InsecureKey(
            f"a passphrase has {MIN_PASSPHRASE} characters or more, {MIN_PASSPHRASE // 2} of them different; "
            "five random words are good"
        )
