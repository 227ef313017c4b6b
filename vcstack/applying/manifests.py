"""Manifests: read from text, checked for what they are, brought into order."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vcstack.specs.manifest import LIMITS, Limits, ManifestError, load_documents
from vcstack.specs.meta import API_VERSION
from vcstack.specs.model import is_label
from vcstack.specs.registry import KindDefinition, Scope, find_kind, load_kinds

Wire = dict[str, Any]
SUFFIXES = (".yaml", ".yml", ".json")
ProjectOf = Callable[[KindDefinition], str | None]
"""Returns the project of an object of the kind that names none."""


class BadManifest(Exception):
    """A document is no object that can be applied: a sentence, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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


def load_text(raw: bytes, source: str, limits: Limits = LIMITS) -> list[Wire]:
    """Return the documents of a file, those of lists one by one.

    Raises:
        BadManifest: it cannot be read, or exceeds a limit.
    """
    try:
        return list(expand_lists(load_documents(raw, source=source, limits=limits)))
    except ManifestError as error:
        raise BadManifest(error.message) from error


def expand_lists(documents: Iterable[Wire]) -> Iterator[Wire]:
    """Yield the documents, for a List its items; one that SOPS has encrypted is a whole until it is decrypted."""
    for document in documents:
        is_list = str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list)
        if is_list and "sops" not in document:
            yield from document["items"]
        else:
            yield document


def collect(documents: Iterable[tuple[Any, str]], project_of: ProjectOf) -> list[Manifest]:
    """Return the objects of documents, each with where it stands, in the order in which they are to be applied.

    Raises:
        BadManifest: a document is no object, names an unknown kind, or occurs twice.
    """
    found: dict[tuple[str, str | None, str], Manifest] = {}
    for document, source in documents:
        manifest = recognize(document, source, project_of)
        if manifest.key in found:
            raise BadManifest(f"{manifest} occurs twice: {found[manifest.key].source} and {manifest.source}")
        found[manifest.key] = manifest
    return in_order(found.values())


def in_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return what others need first."""
    return sorted(manifests, key=lambda m: m.definition.apply_order)


def recognize(document: Any, source: str, project_of: ProjectOf) -> Manifest:
    """Return what the document stands for. Raises BadManifest."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise BadManifest(f"{source}: kind is missing", "Each object needs kind, metadata.name and spec.")
    definition = find_kind(document["kind"])
    if definition is None:
        raise BadManifest(f"{source}: there is no kind {document['kind'][:80]!r}", propose_kind(document["kind"]))
    if document["kind"] != definition.kind:
        raise BadManifest(f"{source}: kind {document['kind']!r} is spelt {definition.kind}")
    version = document.get("apiVersion", API_VERSION)
    if version != API_VERSION:
        raise BadManifest(f"{source}: apiVersion is {str(version)[:80]!r}", f"Write {API_VERSION}.")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise BadManifest(f"{source}: metadata.name is missing", "Name the object, e.g. metadata: {name: web-1}.")
    metadata = _with_project(metadata, definition, source)
    for field in ("name", "project"):
        if (value := metadata.get(field)) is not None and not _is_name(value):
            hint = "Names are of lower-case letters, digits and '-', at most 63."
            raise BadManifest(f"{source}: metadata.{field} {str(value)[:80]!r} is no name", hint)
    if definition.scope is Scope.PROJECT and metadata.get("project") is None:
        metadata = {"project": project_of(definition), **{k: v for k, v in metadata.items() if k != "project"}}
    wire = {**document, "apiVersion": API_VERSION, "metadata": metadata}
    return Manifest(definition, _without_dump(wire), source)


def _is_name(value: Any) -> bool:
    """Return whether it names one thing: a name becomes part of an address, where ``x/status`` is another one."""
    return isinstance(value, str) and is_label(value)


def _with_project(metadata: Wire, definition: KindDefinition, source: str) -> Wire:
    """Return the metadata with the project that a namespace of Kubernetes stands for by default: the one of its name.

    So that one manifest is for ``kubectl apply`` and for us.
    """
    if "namespace" not in metadata:
        return metadata
    namespace, project = metadata["namespace"], metadata.get("project", metadata["namespace"])
    if project != namespace:
        raise BadManifest(f"{source}: metadata.project and metadata.namespace are different", "Leave one of them out.")
    given = {k: v for k, v in metadata.items() if k != "namespace"}
    return given if definition.scope is Scope.GLOBAL else {"project": project, **given}


def propose_kind(word: str) -> str:
    """Return a sentence that names kinds that are spelt like the word."""
    words = {w: d.plural for d in load_kinds().values() for w in (d.singular, d.plural, *d.short_names)}
    close = list(dict.fromkeys(words[w] for w in difflib.get_close_matches(word.lower(), words, n=3)))
    return f"Did you mean {' or '.join(close)}?" if close else "vcctl api-resources lists all kinds."


def _without_dump(wire: Wire) -> Wire:
    """Return what a user wrote: of an object that came from the API (it has a uid) only that part.

    A status without a uid was written by hand; it stays, for the API to refuse by name.
    """
    if not wire["metadata"].get("uid"):
        return wire
    kept = ("project", "name", "labels", "annotations")
    metadata = {k: v for k, v in wire["metadata"].items() if k in kept}
    return {**{k: v for k, v in wire.items() if k != "status"}, "metadata": metadata}
