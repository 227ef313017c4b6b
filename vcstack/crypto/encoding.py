"""Bytes as text and as associated data, each in exactly one way."""

import base64
import binascii

from vcstack.crypto.errors import MalformedText


def associate(*parts: str | bytes) -> bytes:
    """The parts as associated data. Each carries its length, so that ("ab", "c") is not ("a", "bc")."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def to_base64(data: bytes) -> str:
    """RFC 4648's standard alphabet, padded."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """The bytes of a text, in its one spelling only.

    Base64 lets the last character differ without a difference in the bytes; a ciphertext must have one spelling.

    Raises:
        MalformedText: any other text.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise MalformedText("not base64") from error
    if to_base64(data) != text:
        raise MalformedText("not base64 in its canonical spelling")
    return data


def to_version(text: str) -> int:
    """The version that a text names, in its one spelling.

    Raises:
        MalformedText: it is no positive number without leading zeros.
    """
    if not (text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 9):
        raise MalformedText("the key version is no number")
    return int(text)
