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
    changed: set[Path] = set()
    gone: set[Path] = set()
    for section, shape in sections(model, status=status):
        was, now = old.get(section) or {}, new.get(section) or {}
        if shape.model is None or was == now:
            continue
        fields = fields_of(shape.model)
        for key in {**was, **now}:
            before, after = was.get(key), now.get(key)
            if before != after and (section != "metadata" or key in TRACKED_METADATA):
                inner = fields[key].shape if key in fields else Shape()
                _compare(changed, gone, (f"f:{section}", f"f:{key}"), inner, before, after, f"{section}.{key}")
    return changed, gone


def _compare(changed: set[Path], gone: set[Path], path: Path, shape: Shape, was: Any, now: Any, where: str) -> None:
    """Add the leaves in which two values differ; what is equal in both is not looked into."""
    if was and now and isinstance(was, Mapping) and isinstance(now, Mapping) and (shape.model or shape.values):
        fields = fields_of(shape.model) if shape.model else {}
        for key in {**was, **now}:
            before, after = was.get(key), now.get(key)
            if before != after:
                inner = shape.values or (fields[key].shape if key in fields else Shape())
                _compare(changed, gone, (*path, f"f:{key}"), inner, before, after, join_path(where, str(key)))
        # Of a container with nothing but nulls it counts that it is empty.
        was_empty, is_empty = _has_nulls_only(was), _has_nulls_only(now)
        if was_empty != is_empty:
            (gone if was_empty else changed).add(path)
    elif (
        was and now and isinstance(was, list) and isinstance(now, list) and shape.items and (shape.key or shape.unique)
    ):
        before_by, after_by = steps_of(was, shape, where), steps_of(now, shape, where)
        for step in {**before_by, **after_by}:
            before, after = before_by.get(step), after_by.get(step)
            here = (*path, step)
            if step not in before_by:
                changed.add(here)
            elif step not in after_by:
                gone.add(here)
            if shape.key and before != after:
                _compare(changed, gone, here, shape.items, before, after, where)
    else:
        found: dict[Path, Any] = {}
        left: dict[Path, Any] = {}
        _add(left, path, shape, was, where)
        _add(found, path, shape, now, where)
        changed |= {p for p, v in found.items() if left.get(p, MISSING) != v}
        gone |= left.keys() - found.keys()


def _has_nulls_only(value: Mapping[str, Any]) -> bool:
    return all(child is None for child in value.values())


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


def overlay_fields_v1(tree: Mapping[str, Any], added: Iterable[Path], removed: Iterable[Path]) -> dict[str, Any]:
    """Return the tree of the set with some members added and then some removed, without decoding it."""
    plus, minus = to_fields_v1(added), to_fields_v1(removed)
    joined = _join(tree, plus) if plus else dict(tree)
    return _subtract(joined, minus) if minus else joined


def _join(node: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the union of two trees with something in each."""
    joined: dict[str, Any] = {}
    for step in sorted(node.keys() | other.keys()):
        here, there = node.get(step), other.get(step)
        if here is None or there is None:
            joined[step] = here if there is None else there
        elif here and there:
            joined[step] = _join(here, there)
        else:  # a member without members below, as long as the other has none
            below = here or there
            joined[step] = {".": {}, **below} if below and step != "." else below
    return joined


def _subtract(node: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree without the other's members; empty when nothing is left below and it is no member."""
    left: dict[str, Any] = {}
    for step, child in node.items():
        taken = other.get(step)
        if taken is None:
            left[step] = child
        elif step == ".":
            continue
        else:
            is_member, takes_member = not child or "." in child, not taken or "." in taken
            below = _subtract({k: v for k, v in child.items() if k != "."}, taken)
            stays = is_member and not takes_member
            if below:
                left[step] = {".": {}, **below} if stays else below
            elif stays:
                left[step] = {}
    return left


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
