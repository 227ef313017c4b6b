"""The keyring on disk: which master key versions there are, where each is, and which one is active.

The file is JSON, or one line of base64: a single key, version 1. It is replaced whole or not at all, and no change
opens a key it does not need: a version whose token is lost can still be retired.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vcstack.crypto.errors import CryptoError, InsecureKey, KeyUnavailable, MalformedText, Tampered, UnknownKeyVersion
from vcstack.crypto.masterkey import LocalMasterKey, MasterKey, parse_key
from vcstack.crypto.private import read_private
from vcstack.crypto.sources import Ask, InFile, InToken, Source, source_from_wire
from vcstack.pki.files import PRIVATE, make_private_folder, write_atomically

FORMAT: Final = "vcstack-keyring-1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One version."""

    version: int
    id: str
    """The key's; a passphrase or token that gives another key is noticed before anything is encrypted with it."""
    source: Source

    def open(self, folder: Path, ask: Ask | None) -> MasterKey:
        """Return the key. Raises CryptoError."""
        key = self.source.open(folder, ask)
        if key.id != self.id:
            raise KeyUnavailable(
                f"master key version {self.version} ({self.source.describe()}) is another one than when it was added: "
                "a wrong passphrase, or a changed token"
            )
        return key


@dataclass(frozen=True, slots=True)
class Contents:
    """What the file says."""

    active: int
    entries: tuple[Entry, ...]
    """The oldest first."""

    def entry(self, version: int) -> Entry:
        """That version. Raises UnknownKeyVersion."""
        for entry in self.entries:
            if entry.version == version:
                return entry
        have = ", ".join(str(entry.version) for entry in self.entries) or "none"
        raise UnknownKeyVersion(f"master key version {version} is not in the keyring, which has {have}")


def read(path: Path) -> Contents:
    """What the file says; no token is asked and no passphrase needed.

    Raises:
        KeyUnavailable: it cannot be read.
        InsecureKey: others could read it, or its key is weak.
        MalformedText: it is no keyring.
    """
    content, name = read_private(path), str(path)
    if not content.lstrip().startswith(b"{"):
        key = parse_key(content, name)
        return Contents(1, (Entry(1, LocalMasterKey(key).id, InFile(key)),))
    try:
        return _parse(content)
    except CryptoError as error:
        raise type(error)(f"{name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Without the parser's error, which carries the whole text: the keys.
        raise MalformedText(f"{name} is a damaged keyring ({type(error).__name__})") from None


def _parse(content: bytes) -> Contents:
    wire = json.loads(content)
    if wire.get("format") != FORMAT:
        raise MalformedText(f"its format is not {FORMAT}")
    entries = [Entry(_number(e["version"]), str(e["id"]), source_from_wire(e["source"])) for e in wire["keys"]]
    if len({entry.version for entry in entries}) != len(entries):
        raise MalformedText("it has a key version twice")
    found = Contents(_number(wire["active"]), tuple(sorted(entries, key=lambda entry: entry.version)))
    found.entry(found.active)
    return found


def create(path: Path, source: Source, ask: Ask | None = None) -> Contents:
    """Write a new keyring with one version.

    Raises:
        KeyUnavailable: the file exists already; its keys may be all that can read something.
    """
    make_private_folder(path.parent)
    with _locked(path.parent):
        if path.exists():
            raise KeyUnavailable(f"{path} exists already and is kept: what it encrypted could not be read without")
        return _write(path, Contents(1, (_prove(1, source, path.parent, ask),)))


def ensure(path: Path) -> None:
    """Write a keyring with a random key in the file itself, unless there is a keyring. Raises CryptoError."""
    try:
        if not path.exists():
            create(path, InFile.fresh())
    except KeyUnavailable:
        if not path.exists():
            raise  # somebody else did not make it at the same time


def add(path: Path, source: Source, ask: Ask | None = None, *, activate: bool) -> int:
    """Add a version and return its number.

    Where machines have copies of the file, a version is first added to all of them and then made active: a copy
    without it cannot read what the others write with it.

    Raises:
        InsecureKey: the key is in the file already.
        CryptoError: the new key cannot be opened, or does not return what it wraps.
    """
    with _locked(path.parent):
        before = read(path)
        version = before.entries[-1].version + 1
        entry = _prove(version, source, path.parent, ask)
        if any(entry.id == each.id for each in before.entries):
            raise InsecureKey("this master key is in the keyring already; a rotation needs a new one")
        _write(path, Contents(version if activate else before.active, (*before.entries, entry)))
    return version


def make_active(path: Path, version: int, ask: Ask | None = None) -> None:
    """Let a version wrap from now on. Raises UnknownKeyVersion, or CryptoError when its key cannot be opened."""
    with _locked(path.parent):
        before = read(path)
        before.entry(version).open(path.parent, ask)
        _write(path, replace(before, active=version))


def retire(path: Path, version: int) -> None:
    """Forget a version: what it wrapped and was not rewrapped is lost. Raises UnknownKeyVersion, InsecureKey."""
    with _locked(path.parent):
        before = read(path)
        gone = before.entry(version)
        if version == before.active:
            raise InsecureKey(f"master key version {version} is the active one; activate another first")
        _write(path, replace(before, entries=tuple(entry for entry in before.entries if entry is not gone)))


def _prove(version: int, source: Source, folder: Path, ask: Ask | None) -> Entry:
    """The entry of a new key that does return what it wraps; nothing depends on it yet."""
    key = source.generate(folder, ask) if isinstance(source, InToken) else source.open(folder, ask)
    probe = os.urandom(32)
    if key.unwrap(key.wrap(probe, b"probe"), b"probe") != probe:
        raise Tampered(f"the new master key ({source.describe()}) does not return what it wrapped")
    return Entry(version, key.id, source)


def _write(path: Path, contents: Contents) -> Contents:
    write_atomically(path, _to_json(contents.active, contents.entries), PRIVATE)
    return contents


def _to_json(active: int, entries: Iterable[Entry]) -> bytes:
    keys = [{"version": entry.version, "id": entry.id, "source": entry.source.to_wire()} for entry in entries]
    return json.dumps({"format": FORMAT, "active": active, "keys": keys}, indent=2).encode() + b"\n"


def _number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise MalformedText("key versions are numbers from 1")
    return value


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time: of two rotations at once neither may lose the other's key."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
