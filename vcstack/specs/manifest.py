"""Reads YAML and JSON text safely into documents, with the place of every fault.

YAML is read as its 1.2 core schema (``yes``, ``22:22`` and ``2026-01-01`` are strings), from PyYAML's
events, so that aliases, depth, size, duplicate keys and tags are checked while reading and a small text
can never become a large object. Used by vcctl for manifests and by the API server for bodies.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import yaml
from yaml import events

from vcstack.specs.errors import BadRequest

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where it was built in; only its events are used."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much text is read; whatever exceeds them is refused."""

    max_bytes: int = 16 * 1024 * 1024
    max_documents: int = 10_000
    max_depth: int = 32
    """Nested lists and objects."""
    max_nodes: int = 1_000_000
    """Values, those behind aliases counted at each alias (YAML bombs)."""
    max_aliases: int = 1_000


LIMITS = Limits()
BODY_LIMITS = Limits(max_bytes=1024 * 1024, max_documents=1, max_nodes=100_000, max_aliases=100)
"""For one request's body."""


class ManifestError(BadRequest):
    """The text cannot be read; the message begins with source, line and column."""


def load_documents(text: str | bytes, *, source: str, limits: Limits = LIMITS) -> list[dict[str, Any]]:
    """Return the documents of YAML or JSON text, empty ones left out.

    Raises:
        ManifestError: if the text cannot be read, exceeds a limit, repeats a key or has a document that
            is no object.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > limits.max_bytes:
        raise ManifestError(f"{source}: {len(raw)} bytes, at most {limits.max_bytes} are read")
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{source}: byte {error.start} is no UTF-8; save the file as UTF-8") from None
    documents = []
    for line, document in _Composer(decoded, source, limits).documents():
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ManifestError(f"{source}:{line}: a document must be an object with apiVersion, kind and metadata")
        documents.append(document)
    return documents


def load_json(raw: bytes, *, source: str = "body", limits: Limits = BODY_LIMITS) -> Any:
    """Return the value of strict JSON text: no repeated keys, NaN, lone surrogates or oversized integers.

    Raises:
        ManifestError: if it cannot be read or exceeds a limit.
    """
    if len(raw) > limits.max_bytes:
        raise ManifestError(f"{source}: {len(raw)} bytes, at most {limits.max_bytes} are read")
    try:
        # orjson refuses what is no JSON; it keeps the last of repeated keys and rounds oversized integers.
        value = orjson.loads(raw)
        if _count_keys(value) != raw.count(b":"):
            value = json.loads(raw, object_pairs_hook=_unique, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{source}: {error}") from None
    if raw.count(b"{") + raw.count(b"[") > limits.max_depth:
        _check_depth(value, source, limits.max_depth)
    return value


def _count_keys(value: Any) -> int:
    """Return how many keys all objects have together, -1 or less when a number is not whole.

    Text with as many colons as its objects have keys repeats none: each key that was written has its colon.
    """
    if type(value) is dict:
        return len(value) + sum([_count_keys(v) for v in value.values() if type(v) in _COUNTED])
    if type(value) is list:
        return sum([_count_keys(v) for v in value if type(v) in _COUNTED])
    return _NOT_WHOLE if type(value) is float else 0


_COUNTED = frozenset((dict, list, float))
_NOT_WHOLE = -(2**62)
"""So low that no text has as many keys."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice in one object; remove one")
    return found


def _parse_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:24]} does not fit into 64 bits")
    return int(text)


def _check_depth(value: Any, source: str, limit: int) -> None:
    level = [value]
    for _ in range(limit + 1):
        containers = [v for v in level if isinstance(v, dict | list)]
        level = [c for v in containers for c in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return
    raise ManifestError(f"{source}: nested deeper than {limit} levels")


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_TAGS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT, "str": re.compile(r"(?s).*")}
_TAG_PREFIX = "tag:yaml.org,2002:"


def is_text(plain: str) -> bool:
    """Return whether an unquoted scalar is read as the text that it is; else it must be written in quotes."""
    patterns = (_NULL, _BOOL, _INT, _FLOAT, _NOT_FINITE)
    return plain != "<<" and not any(pattern.fullmatch(plain) for pattern in patterns)


class _Node(NamedTuple):
    """A value with its extent, aliases counted in full."""

    value: Any
    size: int
    """How many values it consists of."""
    height: int
    """How many levels it nests, at least 1."""


class _Composer:
    """Builds values from the parser's events."""

    def __init__(self, text: str, source: str, limits: Limits) -> None:
        self._text, self._source, self._limits = text, source, limits
        self._anchors: dict[str, _Node | None] = {}
        self._nodes = 0
        self._aliases = 0

    def documents(self) -> Iterator[tuple[int, Any]]:
        """Yield each document with its first line."""
        count = 0
        try:
            stream: Iterator[Any] = iter(yaml.parse(self._text, Loader=Loader))
            for event in stream:
                if isinstance(event, events.DocumentStartEvent):
                    self._anchors = {}
                    first = next(stream)
                    yield first.start_mark.line + 1, self._compose(first, stream, 1).value
                    count += 1
                    if count > self._limits.max_documents:
                        raise self._fault(event, f"more than {self._limits.max_documents} documents")
        except yaml.MarkedYAMLError as error:
            raise self._fault_at(error.problem_mark or error.context_mark, str(error.problem)) from None
        except yaml.YAMLError as error:
            raise ManifestError(f"{self._source}: {' '.join(str(error).split())}") from None

    def _compose(self, event: Any, stream: Iterator[Any], depth: int) -> _Node:
        """Return the value that begins with the event."""
        if isinstance(event, events.AliasEvent):
            return self._resolve(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = None
        before = self._nodes
        self._count(event, 1)
        self._check_depth(event, depth)
        value: Any
        if isinstance(event, events.ScalarEvent):
            value, height = self._scalar(event), 1
        elif isinstance(event, events.SequenceStartEvent):
            self._check_tag(event, "seq")
            value, height = self._sequence(stream, depth)
        else:
            self._check_tag(event, "map")
            value, height = self._mapping(stream, depth)
        node = _Node(value, self._nodes - before, height)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _check_depth(self, event: Any, depth: int) -> None:
        if depth > self._limits.max_depth:
            raise self._fault(event, f"nested deeper than {self._limits.max_depth} levels")

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._limits.max_nodes:
            raise self._fault(event, f"more than {self._limits.max_nodes} values (aliases counted in full)")

    def _resolve(self, event: Any, depth: int) -> _Node:
        self._aliases += 1
        if self._aliases > self._limits.max_aliases:
            raise self._fault(event, f"more than {self._limits.max_aliases} aliases")
        if event.anchor not in self._anchors:
            raise self._fault(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        found = self._anchors[event.anchor]
        if found is None:
            raise self._fault(event, f"the alias *{event.anchor} refers to what it is part of")
        self._count(event, found.size)
        self._check_depth(event, depth + found.height - 1)
        return found

    def _sequence(self, stream: Iterator[Any], depth: int) -> tuple[list[Any], int]:
        items, height = [], 0
        for event in stream:
            if isinstance(event, events.SequenceEndEvent):
                break
            node = self._compose(event, stream, depth + 1)
            items.append(node.value)
            height = max(height, node.height)
        return items, height + 1

    def _mapping(self, stream: Iterator[Any], depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        height = 0
        for event in stream:
            if isinstance(event, events.MappingEndEvent):
                break
            key = self._compose(event, stream, depth + 1).value
            merges = key == "<<" and isinstance(event, events.ScalarEvent) and event.implicit[0]
            node = self._compose(next(stream), stream, depth + 1)
            height = max(height, node.height)
            if merges:
                self._merge(event, merged, node.value)
            elif not isinstance(key, str):
                raise self._fault(event, f"the key {key!r} is no string; put it in quotes")
            elif key in found:
                raise self._fault(event, f"the key {key!r} occurs twice in one object; remove one")
            else:
                found[key] = node.value
        return ({**merged, **found} if merged else found), height + 1

    def _merge(self, event: Any, merged: dict[str, Any], value: Any) -> None:
        """Take the entries of << (YAML 1.1's merge key, which manifests in the wild use); the first one wins."""
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise self._fault(event, "<< takes an object or a list of objects")
            for key, child in source.items():
                merged.setdefault(key, child)

    def _scalar(self, event: Any) -> Any:
        text, tag = event.value, event.tag
        plain, quoted = event.implicit
        if tag is None or (tag == "!" and not plain):
            return self._resolve_plain(event, text) if plain else text
        name = tag.removeprefix(_TAG_PREFIX)
        if quoted and not plain and name == "str":
            return text
        if name not in _TAGS or not tag.startswith(_TAG_PREFIX):
            raise self._fault(event, f"the tag {tag} is not allowed; write plain YAML")
        if not _TAGS[name].fullmatch(text):
            raise self._fault(event, f"{text!r} is no {name}")
        return text if name == "str" else float(text) if name == "float" else self._resolve_plain(event, text)

    def _resolve_plain(self, event: Any, text: str) -> Any:
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            try:
                return _parse_int(text) if text[:2] not in ("0o", "0x") else _parse_int(str(int(text, 0)))
            except ValueError as error:
                raise self._fault(event, f"{error}; put it in quotes if it is text") from None
        if _NOT_FINITE.fullmatch(text):
            raise self._fault(event, f"{text} is no number that JSON knows; put it in quotes if it is text")
        if _FLOAT.fullmatch(text):
            return self._float(event, text)
        return text

    def _float(self, event: Any, text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise self._fault(event, f"{text} is too large for a number; put it in quotes if it is text")
        return value

    def _check_tag(self, event: Any, name: str) -> None:
        if event.tag not in (None, "!", _TAG_PREFIX + name):
            raise self._fault(event, f"the tag {event.tag} is not allowed; write plain YAML")

    def _fault(self, event: Any, message: str) -> ManifestError:
        return self._fault_at(event.start_mark, message)

    def _fault_at(self, mark: Any, message: str) -> ManifestError:
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        return ManifestError(f"{self._source}{place}: {message}")
