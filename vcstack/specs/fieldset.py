"""Sets of fields as field managers own them, and their FieldsV1 notation.

A path is a tuple of FieldsV1 steps: ``f:NAME`` for a field or a map's key, ``k:{"name":"x"}`` for an
item of a keyed list, ``v:"x"`` for an item of a set. Members of a set are leaves, empty containers and the
items of keyed lists (written as "." when something below is a member too), as in Kubernetes'
structured-merge-diff.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from vcstack.specs.errors import Cause, Invalid
from vcstack.specs.introspect import Shape, fields_of, join_path
from vcstack.specs.resource import AnyResource

Path = tuple[str, ...]
Leaves = Mapping[Path, Any]

EMPTY = object()
"""The value of a container without content: equal to any container of that place."""
ITEM = object()
"""The value of a keyed item as such: that it is there."""
MISSING = object()
"""What a leaf that is not there compares as."""

TRACKED_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
"""What of the metadata users write."""


def leaves_of(model: type[AnyResource], wire: Mapping[str, Any], *, status: bool = False) -> dict[Path, Any]:
    """Return the owned paths of a wire object with their values: of spec and metadata, or of status.

    Raises:
        Invalid: if a keyed list names an item twice or not at all.
    """
    found: dict[Path, Any] = {}
    for section, shape in sections(model, status=status):
        _add_section(found, section, shape, wire.get(section))
    return found


def sections(model: type[AnyResource], *, status: bool) -> Iterator[tuple[str, Shape]]:
    """Yield the tracked sections of a kind's objects with their shapes."""
    for name in ("status",) if status else ("metadata", "spec"):
        yield name, fields_of(model)[name].shape


def _add_section(found: dict[Path, Any], section: str, shape: Shape, value: Any) -> None:
    if not isinstance(value, Mapping) or shape.model is None:
        return
    fields = fields_of(shape.model)
    for key, child in value.items():
        if section != "metadata" or key in TRACKED_METADATA:
            inner = fields[key].shape if key in fields else Shape()
            _add(found, (f"f:{section}", f"f:{key}"), inner, child, f"{section}.{key}")


def changed_leaves(
    model: type[AnyResource], old: Mapping[str, Any], new: Mapping[str, Any], *, status: bool
) -> tuple[set[Path], set[Path]]:
    """Return the paths that are new or have another value, and those that are gone."""
    before: dict[Path, Any] = {}
    after: dict[Path, Any] = {}
    for section, shape in sections(model, status=status):
        was, now = old.get(section) or {}, new.get(section) or {}
        differing = {k for k in (*was, *now) if was.get(k) != now.get(k)}
        _add_section(before, section, shape, {k: was[k] for k in was if k in differing})
        _add_section(after, section, shape, {k: now[k] for k in now if k in differing})
    return {p for p, v in after.items() if before.get(p, MISSING) != v}, before.keys() - after.keys()


def _add(found: dict[Path, Any], path: Path, shape: Shape, value: Any, where: str) -> None:
    """Add the leaves of a value; null counts as absent."""
    if value is None:
        return
    if isinstance(value, Mapping) and (shape.model or shape.values):
        fields = fields_of(shape.model) if shape.model else {}
        given = {k: v for k, v in value.items() if v is not None}
        for key, child in given.items():
            inner = shape.values or (fields[key].shape if key in fields else Shape())
            _add(found, (*path, f"f:{key}"), inner, child, join_path(where, str(key)))
        if not given:
            found[path] = EMPTY
    elif isinstance(value, list) and shape.items and (shape.key or shape.unique):
        for step, item in steps_of(value, shape, where).items():
            found[(*path, step)] = ITEM
            if shape.key:
                _add(found, (*path, step), shape.items, item, where)
        if not value:
            found[path] = EMPTY
    else:
        found[path] = value


def steps_of(items: Sequence[Any], shape: Shape, where: str) -> dict[str, Any]:
    """Return the items of a keyed list or a set by their FieldsV1 step.

    Raises:
        Invalid: if an item has no key or one occurs twice.
    """
    found: dict[str, Any] = {}
    for i, item in enumerate(items):
        key = item if shape.unique else item.get(shape.key) if isinstance(item, Mapping) else None
        if not isinstance(key, str):
            field = f"{where}[{i}]" if shape.unique else f"{where}[{i}].{shape.key}"
            raise _refusal(field, "FieldValueRequired", "each item needs it as a string: items are told apart by it")
        step = f"v:{_compact(key)}" if shape.unique else f"k:{_compact({shape.key: key})}"
        if step in found:
            field = f"{where}[{i}]" if shape.unique else f"{where}[{i}].{shape.key}"
            raise _refusal(field, "Duplicate", f"{key} occurs twice; give each item its own")
        found[step] = item
    return found


def _refusal(field: str, reason: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason=reason, message=message)])


def _compact(value: Any) -> str:
    return orjson.dumps(value).decode()


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the set as a FieldsV1 tree, in sorted order."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return {step: _drop_lone_dots(child) for step, child in tree.items()}


def _drop_lone_dots(node: dict[str, Any]) -> dict[str, Any]:
    """Write a member without members below as {} instead of {".": {}}."""
    if node.keys() == {"."}:
        return {}
    return {step: child if step == "." else _drop_lone_dots(child) for step, child in node.items()}


def from_fields_v1(tree: Mapping[str, Any]) -> set[Path]:
    """Return the set that a FieldsV1 tree stands for."""
    found: set[Path] = set()
    stack: list[tuple[Path, Mapping[str, Any]]] = [((), tree)]
    while stack:
        path, node = stack.pop()
        if path and (not node or "." in node):
            found.add(path)
        stack.extend(((*path, step), child) for step, child in node.items() if step != ".")
    return found


def has_path(tree: Mapping[str, Any], path: Path) -> bool:
    """Return whether the path is in the set that a FieldsV1 tree stands for, without decoding it."""
    node = tree
    for step in path:
        if step not in node:
            return False
        node = node[step]
    return not node or "." in node


def format_path(path: Path) -> str:
    """Return the path as people write it: spec.rules[ssh].portMin."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text = join_path(text, rest)
        else:
            key = orjson.loads(rest)
            text += f"[{next(iter(key.values())) if isinstance(key, dict) else key}]"
    return text
