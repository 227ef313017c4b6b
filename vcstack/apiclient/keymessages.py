"""What is said to a managed key, as it is on the wire: ``POST .../keys/NAME/{encrypt,...}``. Bytes are in base64."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from vcstack.specs.model import Model, Name

MAX_BYTES: Final = 64 * 1024
"""Of what is encrypted or signed at once: more is encrypted with a data key, and signed by its digest."""
Bytes = Annotated[str, StringConstraints(max_length=MAX_BYTES * 4 // 3 + 4)]
Context = Annotated[str, StringConstraints(max_length=4096)]
Text = Annotated[str, StringConstraints(max_length=MAX_BYTES * 2)]


class EncryptRequest(Model):
    """What to encrypt."""

    plaintext: Bytes
    """In base64."""
    context: Context = ""
    """Text that has to be given again to decrypt; it is kept nowhere."""


class Ciphertext(Model):
    """What was encrypted."""

    ciphertext: Text
    """It names the key and its version."""


class DecryptRequest(Model):
    """What to decrypt."""

    ciphertext: Text
    """As it came from encrypt, re-encrypt or data key."""
    context: Context = ""
    """The same as when it was encrypted."""


class Plaintext(Model):
    """What was decrypted."""

    plaintext: Bytes
    """In base64."""


class ReencryptRequest(Model):
    """What to encrypt with the newest version of the same or another key; nobody sees the plaintext."""

    ciphertext: Text
    """Of this key."""
    context: Context = ""
    """The same as when it was encrypted."""
    target_key: Name | None = None
    """Another key of the project, for which the caller needs encrypt; default the same."""
    target_context: Context | None = None
    """The new context; default the same."""


class DataKeyRequest(Model):
    """How long a data key is to be."""

    length_bytes: Annotated[int, Field(ge=16, le=128)] = 32
    """Its length."""
    context: Context = ""
    """As for encrypt."""


class DataKeyReply(Model):
    """A key for the caller's own use, and the same encrypted, to be kept beside what it encrypts."""

    plaintext: Bytes
    """In base64; never written down."""
    ciphertext: Text
    """To be decrypted with this key."""


class SignRequest(Model):
    """What to sign."""

    message: Bytes
    """In base64; with prehashed its digest."""
    prehashed: bool = False
    """Whether it is the digest: SHA-256 for P-256, SHA-384 for P-384."""


class Signature(Model):
    """A signature."""

    signature: Text
    """It names the key and its version; behind the last colon ECDSA in DER, base64."""


class VerifyRequest(SignRequest):
    """What was signed, and how."""

    signature: Text
    """As it came from sign."""


class Verdict(Model):
    """Whether a signature is good."""

    valid: bool
    """Whether it is the key's for this message."""


REQUESTS: Final[dict[str, type[Model]]] = {
    "encrypt": EncryptRequest,
    "decrypt": DecryptRequest,
    "reencrypt": ReencryptRequest,
    "datakey": DataKeyRequest,
    "sign": SignRequest,
    "verify": VerifyRequest,
}
"""The body of each operation."""
REPLIES: Final[dict[str, type[Model]]] = {
    "encrypt": Ciphertext,
    "decrypt": Plaintext,
    "reencrypt": Ciphertext,
    "datakey": DataKeyReply,
    "sign": Signature,
    "verify": Verdict,
}
"""The answer of each operation."""
