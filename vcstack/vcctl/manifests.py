"""Manifests from files, folders and stdin: read, checked for what they are, brought into order."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from vcstack.specs.manifest import ManifestError, load_documents
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.selection import parse_kind
from vcstack.vcctl.session import Session

Wire = dict[str, Any]
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as it is wanted."""

    definition: KindDefinition
    wire: Wire
    source: str
    """Where it stands, for messages."""

    @property
    def name(self) -> str:
        """Return metadata.name."""
        return str(self.wire["metadata"]["name"])

    @property
    def project(self) -> str | None:
        """Return metadata.project, None for global objects."""
        project: str | None = self.wire["metadata"].get("project")
        return project

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Return its identity."""
        return self.definition.kind, self.project, self.name

    def __str__(self) -> str:
        return f"{self.definition.singular}/{self.name}"


def read_manifests(session: Session, files: Sequence[str], *, recursive: bool = False) -> list[Manifest]:
    """Return the objects of all files in the order in which they are to be applied.

    Raises:
        CommandError: if a file cannot be read, or what is in it is no object, names an unknown kind, or
            occurs twice.
    """
    found: dict[tuple[str, str | None, str], Manifest] = {}
    for path in _expand(files, recursive=recursive):
        for index, document in enumerate(_load(path)):
            manifest = _recognize(session, document, f"{path}, object {index + 1}")
            if manifest.key in found:
                raise _fault(f"{manifest} occurs twice: {found[manifest.key].source} and {manifest.source}")
            found[manifest.key] = manifest
    if not found:
        raise _fault(f"there is no object in {', '.join(files)}")
    return sorted(found.values(), key=lambda m: m.definition.apply_order)


def derive_set(files: Sequence[str]) -> str:
    """Return the name of the apply set that these sources stand for: the last part of a path and a digest.

    Raises:
        CommandError: for stdin, which has no identity.
    """
    if STDIN in files:
        raise CommandError("stdin stands for no apply set", hint="Name the set with --set NAME.")
    paths = sorted(str(Path(f).resolve()) for f in files)
    word = "".join(c if c.isalnum() else "-" for c in Path(paths[0]).stem).strip("-")[:40] or "set"
    return f"{word}-{sha256(chr(0).join(paths).encode()).hexdigest()[:8]}"


def is_folder(files: Sequence[str]) -> bool:
    """Return whether the sources are folders, which stand for a set of objects."""
    return all(f != STDIN and Path(f).is_dir() for f in files)


def _expand(files: Sequence[str], *, recursive: bool) -> list[str]:
    if not files:
        raise CommandError("name a manifest", hint="E.g. -f web.yaml, -f manifests/ or -f - for stdin.")
    found: list[str] = []
    for file in files:
        path = Path(file)
        if file == STDIN or path.is_file() or path.is_fifo():
            found.append(file)
        elif path.is_dir():
            listed = sorted(path.rglob("*") if recursive else path.iterdir())
            inside = [str(p) for p in listed if p.suffix in SUFFIXES and p.is_file()]
            if not inside:
                raise _fault(f"there is no {', '.join(SUFFIXES)} file in {file}")
            found += inside
        else:
            raise _fault(f"{file} does not exist")
    return list(dict.fromkeys(found))


def _load(path: str) -> Iterable[Wire]:
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        documents = load_documents(raw, source="stdin" if path == STDIN else path)
    except OSError as error:
        raise _fault(f"cannot read {path}: {error.strerror}") from error
    except ManifestError as error:
        raise _fault(error.message) from error
    for document in documents:
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from document["items"]
        else:
            yield document


def _recognize(session: Session, document: Any, source: str) -> Manifest:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise _fault(f"{source}: kind is missing", "Each object needs kind, metadata.name and spec.")
    try:
        definition = parse_kind(document["kind"])
    except CommandError as error:
        raise _fault(f"{source}: {error.message}", error.hint) from None
    if document["kind"] != definition.kind:
        raise _fault(f"{source}: kind {document['kind']!r} is spelt {definition.kind}")
    version = document.get("apiVersion", API_VERSION)
    if version != API_VERSION:
        raise _fault(f"{source}: apiVersion is {version!r}", f"Write {API_VERSION}.")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise _fault(f"{source}: metadata.name is missing", "Name the object, e.g. metadata: {name: web-1}.")
    if definition.scope is Scope.PROJECT and metadata.get("project") is None:
        metadata = {"project": session.project_of(definition), **metadata}
    wire = {**document, "apiVersion": API_VERSION, "metadata": metadata}
    return Manifest(definition, _without_dump(wire), source)


def _without_dump(wire: Wire) -> Wire:
    """Return what a user wrote: of an object that came from the API (it has a uid) only that part.

    A status without a uid was written by hand; it stays, for the API to refuse by name.
    """
    if not wire["metadata"].get("uid"):
        return wire
    kept = ("project", "name", "labels", "annotations")
    metadata = {k: v for k, v in wire["metadata"].items() if k in kept}
    return {**{k: v for k, v in wire.items() if k != "status"}, "metadata": metadata}


def _fault(message: str, hint: str = "") -> CommandError:
    return CommandError(message, hint=hint, code=ExitCode.LOCAL)
