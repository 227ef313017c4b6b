"""Fields whose values nobody sees who only reads the object. Pure.

Where a value was written, the object shows a stand-in, ``***:`` and twelve hexadecimal digits, another one for each
value that was ever given. Written back it means: as it was. So an object that was read can be written again.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from vcstack.specs.introspect import Shape, fields_of, join_path
from vcstack.specs.model import Model, Sensitive
from vcstack.specs.resource import AnyResource

HIDDEN: Final = "***"
"""What is shown where not even a stand-in is known."""
_STAND_IN: Final = re.compile(r"\*\*\*(:[0-9a-f]{12})?")

Change = Callable[[str, Any, Sensitive, Any], Any]
"""From a field's path, its value, its marker and what stands at the same place of another object to the new value."""


def is_stand_in(value: Any) -> bool:
    """Return whether the value stands for one that is not shown."""
    return isinstance(value, str) and _STAND_IN.fullmatch(value) is not None


@cache
def has_sensitive(model: type[AnyResource]) -> bool:
    """Return whether a kind's spec has such fields at all."""
    return _has(fields_of(model)["spec"].shape, ())


def change_sensitive(
    model: type[AnyResource], wire: Mapping[str, Any], change: Change, beside: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the wire object, which need not be valid, with each sensitive value changed; null stays.

    Args:
        model: the kind's.
        wire: the object, or a merge patch of it.
        change: what becomes of a value.
        beside: an object whose values at the same places ``change`` gets to see.
    """
    if "spec" not in wire or not has_sensitive(model):
        return dict(wire)
    other = (beside or {}).get("spec")
    return {**wire, "spec": _change(wire["spec"], fields_of(model)["spec"].shape, "spec", change, other)}


def iter_sensitive(model: type[AnyResource], wire: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each sensitive field that is set."""
    found: list[tuple[str, Any]] = []

    def note(path: str, value: Any, marker: Sensitive, other: Any) -> Any:
        found.append((path, value))
        return value

    change_sensitive(model, wire, note)
    yield from found


def redact(model: type[AnyResource], wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without sensitive values, for whatever writes down what was asked for; stand-ins stay."""
    return change_sensitive(model, wire, lambda path, value, marker, other: value if is_stand_in(value) else HIDDEN)


def _has(shape: Shape, above: tuple[type[Model], ...]) -> bool:
    if shape.sensitive:
        return True
    inner = [s for s in (shape.items, shape.values) if s is not None]
    if shape.model and shape.model not in above:
        inner += [field.shape for field in fields_of(shape.model).values()]
        above = (*above, shape.model)
    return any(_has(s, above) for s in inner)


def _change(value: Any, shape: Shape, path: str, change: Change, other: Any) -> Any:
    if shape.sensitive:
        return None if value is None else change(path, value, shape.sensitive, other)
    if isinstance(value, Mapping):
        fields = fields_of(shape.model) if shape.model else {}
        found = dict(value)
        for key, item in value.items():
            inner = shape.values or (fields[key].shape if key in fields else None)
            there = other.get(key) if isinstance(other, Mapping) else None
            if inner is not None:
                found[key] = _change(item, inner, join_path(path, str(key)), change, there)
            elif _has(shape, ()):
                found[key] = HIDDEN  # a misspelt name, which validation refuses, may stand before a secret
        return found
    if isinstance(value, list) and shape.items:
        others = other if isinstance(other, list) else []
        return [
            _change(item, shape.items, f"{path}[{i}]", change, others[i] if i < len(others) else None)
            for i, item in enumerate(value)
        ]
    return value if value is None or not _has(shape, ()) else HIDDEN
