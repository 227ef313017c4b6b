"""Where a master key comes from, as a keyring file says it."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Protocol

from vcstack.crypto.encoding import from_base64, to_base64
from vcstack.crypto.errors import InsecureKey, KeyUnavailable, MalformedText
from vcstack.crypto.hsm import Pkcs11MasterKey, TokenAddress
from vcstack.crypto.masterkey import (
    KEY_BYTES,
    SALT_BYTES,
    Argon2Parameters,
    LocalMasterKey,
    MasterKey,
    from_passphrase,
    parse_key,
)
from vcstack.crypto.private import read_private

Ask = Callable[[str], str]
"""Asks a person for what a prompt names, without echo."""


class Source(Protocol):
    """A place of a master key."""

    def open(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Return the key; paths are relative to `folder`. Raises CryptoError."""

    def to_wire(self) -> dict[str, Any]:
        """Return what stands in the keyring file."""

    def describe(self) -> str:
        """Return one phrase for people, without any secret."""


@dataclass(frozen=True, slots=True)
class InFile:
    """The key itself stands in the keyring file."""

    key: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> "InFile":
        """A new random key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def open(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Return the key."""
        return LocalMasterKey(self.key)

    def to_wire(self) -> dict[str, Any]:
        """Return what stands in the keyring file."""
        return {"type": "file", "key": to_base64(self.key)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "InFile":
        """The reverse."""
        return cls(parse_key(_text(wire, "key").encode(), "the keyring"))

    def describe(self) -> str:
        """Return one phrase for people."""
        return "in the keyring file"


@dataclass(frozen=True, slots=True)
class FromPassphrase:
    """The key is derived from a passphrase, which is in a file of its own or typed."""

    salt: bytes
    parameters: Argon2Parameters
    passphrase_file: str = ""

    @classmethod
    def fresh(cls, passphrase_file: str = "", parameters: Argon2Parameters | None = None) -> "FromPassphrase":
        """The same with a new salt."""
        return cls(os.urandom(SALT_BYTES), parameters or Argon2Parameters(), passphrase_file)

    def open(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Return the key; takes as long as Argon2id is meant to."""
        if self.passphrase_file:
            passphrase = _read_line(folder / self.passphrase_file)
        elif ask is not None:
            passphrase = ask("Passphrase of the master key")
        else:
            raise KeyUnavailable("the master key needs a passphrase; give the keyring a passphraseFile")
        return from_passphrase(passphrase, self.salt, self.parameters)

    def to_wire(self) -> dict[str, Any]:
        """Return what stands in the keyring file."""
        cost = self.parameters
        return {
            "type": "passphrase",
            "kdf": "argon2id",
            "salt": to_base64(self.salt),
            "memoryKiB": cost.memory_kib,
            "passes": cost.passes,
            "lanes": cost.lanes,
            "passphraseFile": self.passphrase_file,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "FromPassphrase":
        """The reverse."""
        if wire.get("kdf") != "argon2id":
            raise MalformedText("the keyring's kdf is not argon2id")
        cost = {f.name: wire.get("memoryKiB" if f.name == "memory_kib" else f.name) for f in fields(Argon2Parameters)}
        if not all(type(value) is int for value in cost.values()):
            raise MalformedText("the keyring's memoryKiB, passes and lanes are not numbers")
        return cls(
            from_base64(_text(wire, "salt")),
            Argon2Parameters(**{name: int(value or 0) for name, value in cost.items()}),
            _text(wire, "passphraseFile"),
        )

    def describe(self) -> str:
        """Return one phrase for people."""
        return f"passphrase ({self.passphrase_file or 'typed'}), Argon2id"


@dataclass(frozen=True, slots=True)
class InToken:
    """The key is in a PKCS#11 token; its PIN is in a file of its own or typed."""

    module: str
    token: str
    label: str
    pin_file: str = ""

    def open(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Return the key."""
        return Pkcs11MasterKey(TokenAddress(self.module, self.token), self.label, self._pin(folder, ask))

    def generate(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Make the key in the token."""
        return Pkcs11MasterKey.create(TokenAddress(self.module, self.token), self.label, self._pin(folder, ask))

    def _pin(self, folder: Path, ask: Ask | None) -> str:
        if self.pin_file:
            return _read_line(folder / self.pin_file)
        if ask is None:
            raise KeyUnavailable(f"token {self.token} needs its PIN; give the keyring a pinFile")
        return ask(f"PIN of token {self.token}")

    def to_wire(self) -> dict[str, Any]:
        """Return what stands in the keyring file."""
        return {
            "type": "pkcs11",
            "module": self.module,
            "token": self.token,
            "label": self.label,
            "pinFile": self.pin_file,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "InToken":
        """The reverse."""
        return cls(_text(wire, "module"), _text(wire, "token"), _text(wire, "label"), _text(wire, "pinFile"))

    def describe(self) -> str:
        """Return one phrase for people."""
        return f"key {self.label} in token {self.token}"


_TYPES: Final[dict[str, Callable[[Mapping[str, Any]], Source]]] = {
    "file": InFile.from_wire,
    "passphrase": FromPassphrase.from_wire,
    "pkcs11": InToken.from_wire,
}


def source_from_wire(wire: Mapping[str, Any]) -> Source:
    """The source that a keyring file names.

    Raises:
        MalformedText: there is none of that type, or a field is missing.
    """
    kind = wire.get("type")
    if kind not in _TYPES:
        raise MalformedText(f"the keyring names a key of an unknown type; known are {', '.join(_TYPES)}")
    return _TYPES[kind](wire)


def _text(wire: Mapping[str, Any], name: str) -> str:
    value = wire.get(name, "" if name.endswith("File") else None)
    if not isinstance(value, str):
        raise MalformedText(f"the keyring's field {name} is missing or no text")
    return value


def _read_line(path: Path) -> str:
    try:
        line = read_private(path).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise MalformedText(f"{path} is no text") from error
    if not line:
        raise InsecureKey(f"{path} is empty")
    return line
