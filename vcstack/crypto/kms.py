"""Managed keys: versions of key material, and what can be done with them. Pure: no I/O, nothing is remembered.

The material exists in the clear only inside a call; what is handed out and kept is an envelope. Ciphertexts and
signatures name the key and version that made them, so that any older version still reads its own:

    vck1:<key uid>:<version>:<ciphertext>       vcsig1:<key uid>:<version>:<signature>
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vcstack.crypto.encoding import associate, from_base64, to_base64, to_version
from vcstack.crypto.envelope import Envelopes, Place
from vcstack.crypto.errors import MalformedText, Tampered, UnfitKey, UnknownKeyVersion
from vcstack.crypto.masterkey import KEY_BYTES, NONCE_BYTES, TAG_BYTES

CIPHERTEXT: Final = "vck1"
SIGNATURE: Final = "vcsig1"
SALT_BYTES: Final = 16
MAX_DATA_KEY: Final = 128
"""Bytes of a data key: an AES-256-XTS key and an HMAC key fit twice."""
_UID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")


class KeyKind(StrEnum):
    """What a key is."""

    AES_256_GCM = "AES-256-GCM"
    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    RSA_OAEP_3072 = "RSA-OAEP-3072"
    RSA_OAEP_4096 = "RSA-OAEP-4096"

    @property
    def encrypts(self) -> bool:
        """Whether it encrypts and decrypts; the others sign and verify. No key does both."""
        return self not in (KeyKind.ECDSA_P256, KeyKind.ECDSA_P384)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key's material."""

    number: int
    sealed: str
    """The envelope of the material: 32 bytes, or a PKCS 8 private key."""
    public_pem: str = ""
    """The public key, for those who verify or encrypt without us; empty for AES."""


@dataclass(frozen=True, slots=True)
class ManagedKey:
    """A key with its versions."""

    uid: str
    kind: KeyKind
    versions: tuple[KeyVersion, ...]
    """The oldest first. The last one encrypts and signs; each decrypts and verifies its own."""

    @property
    def newest(self) -> KeyVersion:
        """The version that encrypts and signs."""
        return self.versions[-1]

    def version(self, number: int) -> KeyVersion:
        """That version. Raises UnknownKeyVersion."""
        for version in self.versions:
            if version.number == number:
                return version
        raise UnknownKeyVersion(f"key {self.uid} has no version {number}")


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key for its caller's own use, and the same encrypted, to be kept beside what it encrypts."""

    plaintext: bytes = field(repr=False)
    ciphertext: str


@dataclass(frozen=True, slots=True)
class Named:
    """A ciphertext or signature with the key that made it."""

    uid: str
    version: int
    payload: bytes

    @classmethod
    def parse(cls, text: str, form: str) -> "Named":
        """The parts of a text of that form. Raises MalformedText."""
        found, *rest = text.split(":")
        if found != form or len(rest) != 3 or not _UID.fullmatch(rest[0]):
            raise MalformedText(f"not of the form {form}:key:version:base64")
        return cls(rest[0], to_version(rest[1]), from_base64(rest[2]))

    def to_text(self, form: str) -> str:
        """The text."""
        return f"{form}:{self.uid}:{self.version}:{to_base64(self.payload)}"


class Kms:
    """The operations. `context` is data that must be given again, unchanged, to decrypt; it is not kept."""

    def __init__(self, envelopes: Envelopes) -> None:
        self._envelopes = envelopes

    def create(self, uid: str, kind: KeyKind) -> ManagedKey:
        """A new key with version 1. RSA takes its seconds. Raises MalformedText for an unfit uid."""
        if not _UID.fullmatch(uid):
            raise MalformedText(f"{uid!r} cannot be the uid of a key")
        return ManagedKey(uid, kind, (self._generate(uid, kind, 1),))

    def rotate(self, key: ManagedKey) -> ManagedKey:
        """The key with one more version, which encrypts and signs from now on."""
        return replace(key, versions=(*key.versions, self._generate(key.uid, key.kind, key.newest.number + 1)))

    def rewrap(self, key: ManagedKey) -> ManagedKey:
        """The key with its material under the active master key; equal if it is so already."""
        versions = tuple(
            replace(each, sealed=self._envelopes.rewrap(each.sealed, _place(key.uid, each.number)))
            for each in key.versions
        )
        return replace(key, versions=versions)

    def encrypt(self, key: ManagedKey, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt with the newest version.

        Raises:
            UnfitKey: the key only signs, or the plaintext is too long for RSA.
        """
        _need(key, encrypts=True)
        version = key.newest
        if key.kind is KeyKind.AES_256_GCM:
            salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
            cipher = self._message_cipher(key, version, salt)
            payload = salt + nonce + cipher.encrypt(nonce, plaintext, _aes_data(key.uid, version.number, context))
        else:
            public = serialization.load_pem_public_key(version.public_pem.encode())
            assert isinstance(public, rsa.RSAPublicKey)
            limit = public.key_size // 8 - 2 * hashes.SHA256.digest_size - 2  # RFC 8017, 7.1.1
            if len(plaintext) > limit:
                raise UnfitKey(f"{key.kind} encrypts {limit} bytes at most; encrypt with a data key instead")
            payload = public.encrypt(plaintext, _oaep(context))
        return Named(key.uid, version.number, payload).to_text(CIPHERTEXT)

    def decrypt(self, key: ManagedKey, ciphertext: str, context: bytes = b"") -> bytes:
        """Return the plaintext.

        Raises:
            MalformedText: the text is no ciphertext.
            UnfitKey: it is one of another key, or the key only signs.
            UnknownKeyVersion: its version is not there any more.
            Tampered: it was changed, or the context is another one.
        """
        _need(key, encrypts=True)
        named, version = self._find(key, ciphertext, CIPHERTEXT)
        if key.kind is KeyKind.AES_256_GCM:
            return self._decrypt_aes(key, version, named.payload, context)
        private = self._private(key, version)
        assert isinstance(private, rsa.RSAPrivateKey)
        try:
            return private.decrypt(named.payload, _oaep(context))
        except ValueError as error:
            raise Tampered("the ciphertext was changed, or the context is another one") from error

    def re_encrypt(
        self,
        source: ManagedKey,
        ciphertext: str,
        target: ManagedKey,
        *,
        context: bytes = b"",
        target_context: bytes | None = None,
    ) -> str:
        """Decrypt with one key and encrypt with the newest version of another, or the same; the caller sees nothing.

        Raises: as decrypt and encrypt.
        """
        _need(target, encrypts=True)
        plaintext = self.decrypt(source, ciphertext, context)
        return self.encrypt(target, plaintext, context if target_context is None else target_context)

    def generate_data_key(self, key: ManagedKey, length: int = KEY_BYTES, context: bytes = b"") -> DataKey:
        """A new random data key of 16 to 128 bytes. Raises UnfitKey."""
        if not 16 <= length <= MAX_DATA_KEY:
            raise UnfitKey(f"a data key has 16 to {MAX_DATA_KEY} bytes, not {length}")
        plaintext = os.urandom(length)
        return DataKey(plaintext, self.encrypt(key, plaintext, context))

    def sign(self, key: ManagedKey, message: bytes, *, prehashed: bool = False) -> str:
        """Sign a message, or with `prehashed` its digest, with the newest version; ECDSA in DER.

        The hash is SHA-256 for P-256 and SHA-384 for P-384.

        Raises:
            UnfitKey: the key only encrypts, or the digest's length is another hash's.
        """
        _need(key, encrypts=False)
        private = self._private(key, key.newest)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        signature = private.sign(message, _ecdsa(key.kind, message, prehashed=prehashed))
        return Named(key.uid, key.newest.number, signature).to_text(SIGNATURE)

    def verify(self, key: ManagedKey, message: bytes, signature: str, *, prehashed: bool = False) -> bool:
        """Whether the signature is the key's for this message.

        Raises:
            MalformedText, UnknownKeyVersion: it is no signature, or its version is gone.
            UnfitKey: it is one of another key, the key only encrypts, or the digest's length is another hash's.
        """
        _need(key, encrypts=False)
        named, version = self._find(key, signature, SIGNATURE)
        public = serialization.load_pem_public_key(version.public_pem.encode())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        try:
            public.verify(named.payload, message, _ecdsa(key.kind, message, prehashed=prehashed))
        except InvalidSignature:
            return False
        return True

    def _generate(self, uid: str, kind: KeyKind, number: int) -> KeyVersion:
        if kind is KeyKind.AES_256_GCM:
            return KeyVersion(number, self._envelopes.encrypt(os.urandom(KEY_BYTES), _place(uid, number)))
        private = _MAKERS[kind]()
        material = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return KeyVersion(number, self._envelopes.encrypt(material, _place(uid, number)), public.decode())

    def _find(self, key: ManagedKey, text: str, form: str) -> tuple[Named, KeyVersion]:
        named = Named.parse(text, form)
        if named.uid != key.uid:
            raise UnfitKey(f"this was made by key {named.uid}, not by {key.uid}")
        return named, key.version(named.version)

    def _private(self, key: ManagedKey, version: KeyVersion) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        material = self._envelopes.decrypt(version.sealed, _place(key.uid, version.number))
        # The envelope has authenticated what we made ourselves; checking RSA's primes again takes most of the time.
        private = serialization.load_der_private_key(material, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        return private

    def _message_cipher(self, key: ManagedKey, version: KeyVersion, salt: bytes) -> AESGCM:
        """A cipher for one message only: random nonces under one key would be good for 2^32 messages, no more."""
        material = self._envelopes.decrypt(version.sealed, _place(key.uid, version.number))
        derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt, associate(CIPHERTEXT, key.uid, str(version.number)))
        return AESGCM(derivation.derive(material))

    def _decrypt_aes(self, key: ManagedKey, version: KeyVersion, payload: bytes, context: bytes) -> bytes:
        head = SALT_BYTES + NONCE_BYTES
        if len(payload) < head + TAG_BYTES:
            raise Tampered("the ciphertext is cut off")
        cipher = self._message_cipher(key, version, payload[:SALT_BYTES])
        try:
            return cipher.decrypt(payload[SALT_BYTES:head], payload[head:], _aes_data(key.uid, version.number, context))
        except InvalidTag as error:
            raise Tampered("the ciphertext was changed, or the context is another one") from error


def _rsa(bits: int) -> Callable[[], rsa.RSAPrivateKey]:
    return lambda: rsa.generate_private_key(public_exponent=65537, key_size=bits)


_MAKERS: Final[dict[KeyKind, Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]]] = {
    KeyKind.ECDSA_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyKind.ECDSA_P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyKind.RSA_OAEP_3072: _rsa(3072),
    KeyKind.RSA_OAEP_4096: _rsa(4096),
}


def _need(key: ManagedKey, *, encrypts: bool) -> None:
    if key.kind.encrypts != encrypts:
        raise UnfitKey(f"the key is {key.kind}; it cannot {'encrypt or decrypt' if encrypts else 'sign or verify'}")


def _place(uid: str, number: int) -> Place:
    return Place(f"kms/{uid}/{number}", uid)


def _aes_data(uid: str, number: int, context: bytes) -> bytes:
    return associate(CIPHERTEXT, uid, str(number), context)


def _oaep(context: bytes) -> padding.OAEP:
    """Without a context plain OAEP with SHA-256, so that anybody can encrypt with the public key."""
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), context or None)


def _ecdsa(kind: KeyKind, message: bytes, *, prehashed: bool) -> ec.ECDSA:
    algorithm = hashes.SHA256() if kind is KeyKind.ECDSA_P256 else hashes.SHA384()
    if not prehashed:
        return ec.ECDSA(algorithm)
    if len(message) != algorithm.digest_size:
        raise UnfitKey(f"{kind} signs digests of {algorithm.name}: {algorithm.digest_size} bytes, not {len(message)}")
    return ec.ECDSA(Prehashed(algorithm))
