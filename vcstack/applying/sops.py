"""Files encrypted by SOPS for age recipients, read. What is written stays as it was: nothing here encrypts.

The format is that of getsops/sops: each value is AES-256-GCM under a key of the file's own, bound to its path; that
key is encrypted to each recipient; and a MAC over all values is bound to the time of the last change, so that none can
be taken out, added or replaced unnoticed.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Wire = dict[str, Any]
KEY: Final = "sops"
"""Under which SOPS keeps what it needs in a document."""
_VALUE: Final = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:([a-z0-9]+)\]")
_ONLY_ENCRYPTED: Final = hashlib.sha256(b"sops").digest()
"""What a MAC begins with that is over encrypted values only."""
_RULES: Final = ("unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex")
_UNKNOWN_RULES: Final = ("unencrypted_comment_regex", "encrypted_comment_regex")


class SopsError(Exception):
    """The file cannot be decrypted, or is not as it was encrypted. The text names no values."""


def is_encrypted(documents: Sequence[Any]) -> bool:
    """Return whether the documents of a file are encrypted by SOPS."""
    return any(isinstance(d, dict) and isinstance(d.get(KEY), dict) and "mac" in d[KEY] for d in documents)


def read_identities(text: str) -> list[str]:
    """Return the age identities in a file like SOPS_AGE_KEY_FILE."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("AGE-SECRET-KEY-")]


def decrypt(documents: Sequence[Any], identities: Sequence[str]) -> list[Wire]:
    """Return the documents of one file as they were before.

    Raises:
        SopsError: no identity is a recipient's, or something was changed.
    """
    if not all(isinstance(d, dict) for d in documents):
        raise SopsError("beside what is encrypted stands something that is no object")
    metadata = next(d[KEY] for d in documents if isinstance(d.get(KEY), dict))
    reading = _Reading(metadata, _open_key(metadata, identities))
    plain = [{k: reading.walk(v, (k,)) for k, v in d.items() if k != KEY} for d in documents]
    reading.check()
    return plain


def _open_key(metadata: Wire, identities: Sequence[str]) -> bytes:
    """Return the file's own key."""
    if metadata.get("key_groups"):
        raise SopsError("key groups are not read here; encrypt for age recipients alone")
    recipients = metadata.get("age")
    if not isinstance(recipients, list) or not recipients:
        raise SopsError("it is not encrypted for an age recipient")
    if not identities:
        raise SopsError("it is encrypted by SOPS, and no age identity is given")
    try:
        known = [pyrage.x25519.Identity.from_str(text) for text in identities]
    except Exception as error:
        raise SopsError("an age identity cannot be read") from error
    for recipient in recipients:
        try:
            found = pyrage.decrypt(str(recipient["enc"]).strip().encode(), known)
        except (pyrage.DecryptError, KeyError, TypeError):
            continue
        if len(found) == 32:
            return bytes(found)
    named = ", ".join(str(r.get("recipient"))[:70] for r in recipients[:5] if isinstance(r, dict))
    raise SopsError(f"no identity that is given belongs to a recipient: {named}")


class _Reading:
    """One file, value by value in its order."""

    def __init__(self, metadata: Wire, key: bytes) -> None:
        if any(metadata.get(rule) for rule in _UNKNOWN_RULES):
            raise SopsError("rules by comments are not read here")
        self._cipher = AESGCM(key)
        self._metadata = metadata
        self._rules = {rule: str(metadata[rule]) for rule in _RULES if metadata.get(rule)}
        self._only_encrypted = metadata.get("mac_only_encrypted") is True
        self._digest = hashlib.sha512(_ONLY_ENCRYPTED if self._only_encrypted else b"")

    def walk(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the value in the clear, and take it into the MAC."""
        if isinstance(value, dict):
            return {k: self.walk(v, (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self.walk(v, path) for v in value]
        if value is None:
            return None
        encrypted = self._is_encrypted(path)
        plain = self._decrypt(value, path) if encrypted else value
        if encrypted or not self._only_encrypted:
            self._digest.update(_to_bytes(plain))
        return plain

    def check(self) -> None:
        """Return when all values are those that were encrypted. Raises SopsError."""
        stored, at = self._metadata.get("mac"), self._metadata.get("lastmodified")
        if not isinstance(stored, str) or not isinstance(at, str):
            raise SopsError("its MAC is missing")
        wanted = self._open(stored, at)
        if not isinstance(wanted, str) or not hmac.compare_digest(wanted.upper(), self._digest.hexdigest().upper()):
            raise SopsError("its MAC is wrong: it was changed after it was encrypted")

    def _is_encrypted(self, path: tuple[str, ...]) -> bool:
        found = True
        for rule, text in self._rules.items():
            matches = any(_matches(rule, text, step) for step in path)
            found = found and not matches if rule.startswith("unencrypted") else matches
        return found

    def _decrypt(self, value: Any, path: tuple[str, ...]) -> Any:
        if value == "":
            return value
        if not isinstance(value, str):
            raise SopsError(f"{'.'.join(path)} is not encrypted")
        return self._open(value, ":".join(path) + ":")

    def _open(self, text: str, bound_to: str) -> Any:
        found = _VALUE.fullmatch(text)
        where = bound_to.rstrip(":").replace(":", ".")
        if found is None:
            raise SopsError(f"{where} is not encrypted")
        try:
            data, iv, tag = (base64.b64decode(part, validate=True) for part in found.groups()[:3])
            plain = self._cipher.decrypt(iv, data + tag, bound_to.encode()).decode()
            return _typed(plain, found[4])
        except (InvalidTag, ValueError) as error:
            raise SopsError(f"{where} was changed after it was encrypted, or moved from elsewhere") from error


def _matches(rule: str, text: str, step: str) -> bool:
    if rule.endswith("suffix"):
        return step.endswith(text)
    try:
        return re.search(text, step) is not None
    except re.error as error:
        raise SopsError(f"{rule} is no expression that can be read here") from error


def _typed(text: str, type_: str) -> Any:
    match type_:
        case "str" | "bytes":
            return text
        case "int" | "int64":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return text.lower() == "true"
    raise ValueError(f"unknown type {type_}")


def _to_bytes(value: Any) -> bytes:
    """Return the value as SOPS takes it into the MAC."""
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f").removesuffix(".0").encode()
    return str(value).encode()
