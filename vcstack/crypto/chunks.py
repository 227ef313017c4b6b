"""Something long, sealed part by part under a key derived for it alone: a part opens at its place only."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vcstack.crypto.encoding import associate
from vcstack.crypto.errors import Tampered
from vcstack.crypto.masterkey import KEY_BYTES, NONCE_BYTES

FORMAT: Final = "vcc1"


class ChunkCipher:
    """Seals and opens the parts of one thing."""

    def __init__(self, key: bytes, what: str, id_: str) -> None:
        """Args:
        key: of many things.
        what: what they are.
        id_: which of them it is.
        """
        derive = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=associate(FORMAT, what, id_))
        self._cipher = AESGCM(derive.derive(key))

    def seal(self, number: int, content: bytes) -> bytes:
        """Return the part of that number, encrypted."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, associate(FORMAT, str(number)))

    def open(self, number: int, sealed: bytes) -> bytes:
        """Return the part. Raises Tampered when it was changed, or is another one."""
        nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, content, associate(FORMAT, str(number)))
        except (InvalidTag, ValueError) as error:
            raise Tampered(f"part {number} was changed") from error
