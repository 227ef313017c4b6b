"""Plans: what differs between two states of an object, and what each change takes. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vcstack.specs.introspect import Field, Shape, fields_of, join_path
from vcstack.specs.model import Change
from vcstack.specs.resource import AnyResource

ORDER = (Change.LIVE, Change.REBOOT, Change.RECREATE, Change.IMMUTABLE)
"""From harmless to impossible."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs."""

    path: str
    """Items of keyed lists by name: spec.rules[ssh].portMin."""
    change: Change
    """What the change takes. Live when only a default is spelled out or left out."""
    old: Any
    """The wire value before; None: absent."""
    new: Any
    """The wire value after; None: absent."""


def compare(model: type[AnyResource], old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[FieldChange]:
    """Return the differences of labels, annotations and spec between two wire objects; old None: a new one."""
    old = old or {}
    found: list[FieldChange] = []
    meta = fields_of(model)["metadata"].shape
    for name in ("labels", "annotations"):
        was, now = ((w.get("metadata") or {}).get(name) or {} for w in (old, new))
        assert meta.model is not None
        found += _compare(was, now, fields_of(meta.model)[name].shape, f"metadata.{name}", Change.LIVE)
    spec = fields_of(model)["spec"].shape
    found += _compare(old.get("spec") or {}, new.get("spec") or {}, spec, "spec", Change.LIVE)
    return found


def worst(changes: Iterable[FieldChange]) -> Change:
    """Return the most demanding change class; Live when there is no change."""
    return max((c.change for c in changes), key=ORDER.index, default=Change.LIVE)


def _compare(old: Any, new: Any, shape: Shape, path: str, above: Change) -> Iterator[FieldChange]:
    change = shape.change or above
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and shape.model:
        yield from _compare_fields(old, new, fields_of(shape.model), path, change)
    elif isinstance(old, Mapping) and isinstance(new, Mapping) and shape.values:
        for key in dict.fromkeys((*old, *new)):
            yield from _compare(old.get(key), new.get(key), shape.values, join_path(path, key), change)
    elif isinstance(old, list) and isinstance(new, list) and shape.key and _keyed(old, new, shape.key):
        yield from _compare_items(old, new, shape, path, change)
    else:
        yield FieldChange(path, change, old, new)


def _compare_fields(
    old: Mapping[str, Any], new: Mapping[str, Any], fields: Mapping[str, Field], path: str, above: Change
) -> Iterator[FieldChange]:
    """Compare two objects field by field; an absent field counts as its default for the change class."""
    for name in dict.fromkeys((*fields, *old, *new)):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        field = fields.get(name)
        where = f"{path}.{name}"
        if field is None:
            yield FieldChange(where, above, was, now)
            continue
        default = field.default
        if (was if was is not None else default) == (now if now is not None else default):
            yield FieldChange(where, Change.LIVE, was, now)
        elif isinstance(default, Mapping) and field.shape.model:
            yield from _compare(was or {}, now or {}, field.shape, where, above)
        else:
            yield from _compare(was, now, field.shape, where, above)


def _keyed(old: list[Any], new: list[Any], key: str) -> bool:
    """Return whether both lists can be matched by the key."""
    for items in (old, new):
        names = [i.get(key) for i in items if isinstance(i, Mapping)]
        if len(names) != len(items) or None in names or len(set(map(str, names))) != len(names):
            return False
    return True


def _compare_items(old: list[Any], new: list[Any], shape: Shape, path: str, change: Change) -> Iterator[FieldChange]:
    """Compare keyed lists item by item; another order of what both have is a change of the list."""
    assert shape.items is not None
    assert shape.key is not None
    was, now = {i[shape.key]: i for i in old}, {i[shape.key]: i for i in new}
    for name in dict.fromkeys((*was, *now)):
        if name in was and name in now:
            yield from _compare(was[name], now[name], shape.items, f"{path}[{name}]", change)
        else:
            yield FieldChange(f"{path}[{name}]", change, was.get(name), now.get(name))
    before, after = [n for n in was if n in now], [n for n in now if n in was]
    if before != after:
        yield FieldChange(path, change, before, after)
