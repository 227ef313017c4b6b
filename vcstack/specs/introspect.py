"""What the models say of their fields: references, change classes and how lists are keyed.

Everything generic (referential checks, server-side apply, diff, describe, explain) asks here instead of
knowing kinds. The annotations of each model are read once and cached.
"""

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vcstack.specs.meta import Condition, ObjectMeta, OwnerReference
from vcstack.specs.model import Change, Model, RefersTo, Sensitive, Takes, split_lent
from vcstack.specs.resource import AnyResource


@dataclass(frozen=True, slots=True)
class Shape:
    """What an annotation says of a value: an object, a list, a map or, with nothing set, a leaf."""

    model: type[Model] | None = None
    """The value is an object with that model's fields."""
    items: "Shape | None" = None
    """The value is a list of such items."""
    values: "Shape | None" = None
    """The value is a map with such values."""
    key: str | None = None
    """The wire field that tells the list's items apart; None: the list is one value (atomic)."""
    unique: bool = False
    """The list is a set of strings."""
    refers_to: str | None = None
    """The value names an object of that kind."""
    lent: bool = False
    """The name may be PROJECT/NAME of what another project shares."""
    change: Change | None = None
    """The marker on the field itself; None: inherited."""
    sensitive: Sensitive | None = None
    """The value is a secret."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model."""

    attribute: str
    """Its name in Python."""
    wire: str
    """Its name on the wire."""
    shape: Shape
    info: FieldInfo

    @property
    def default(self) -> Any:
        """Return the wire value that its absence stands for; None: nothing."""
        value = self.info.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, Model):
            return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
        if value is PydanticUndefined:
            return None
        return value.value if isinstance(value, StrEnum) else value


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A field that names another object."""

    path: str
    """E.g. spec.networkInterfaces[0].securityGroups[1]."""
    kind: str
    """The kind referred to."""
    name: str
    """The name given, without the project."""
    project: str | None = None
    """The project given: it is another one's object. None: what the name stands for at home."""

    def __str__(self) -> str:
        return f"{self.kind} {self.project + '/' if self.project else ''}{self.name}"


def list_key_of(model: type[Model]) -> str | None:
    """Return the wire field that tells items of a list of that model apart, None when there is none.

    Conditions go by type, owners by uid, everything that has a name by name.
    """
    if issubclass(model, Condition):
        return "type"
    if issubclass(model, OwnerReference):
        return "uid"
    return "name" if "name" in model.model_fields else None


@cache
def fields_of(model: type[Model]) -> Mapping[str, Field]:
    """Return the model's fields by wire name."""
    found = {}
    for attribute, info in model.model_fields.items():
        wire = info.serialization_alias or info.alias or attribute
        shape = _shape_of(info.annotation, tuple(info.metadata))
        if model is ObjectMeta and attribute == "finalizers":
            shape = Shape(items=shape.items, unique=True)
        found[wire] = Field(attribute, wire, shape, info)
    return found


def _shape_of(annotation: Any, metadata: tuple[Any, ...]) -> Shape:
    """Return the shape of an annotation that carries that metadata."""
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation, metadata = args[0], (*metadata, *args[1:])
        elif origin in (Union, types.UnionType) and len([a for a in args if a is not type(None)]) == 1:
            annotation = next(a for a in args if a is not type(None))
        else:
            break
    reference = next((m for m in metadata if isinstance(m, RefersTo)), None)
    change = next((m.change for m in metadata if isinstance(m, Takes)), None)
    sensitive = next((m for m in metadata if isinstance(m, Sensitive)), None)
    if origin is list:
        items = _shape_of(args[0], ())
        key = list_key_of(items.model) if items.model else None
        return Shape(items=items, key=key, change=change)
    if origin is dict:
        return Shape(values=_shape_of(args[1], ()), change=change)
    model = annotation if isinstance(annotation, type) and issubclass(annotation, Model) else None
    refers_to, lent = (reference.kind, reference.lent) if reference else (None, False)
    return Shape(model=model, refers_to=refers_to, lent=lent, change=change, sensitive=sensitive)


def iter_references(resource: AnyResource) -> Iterator[FoundReference]:
    """Yield every reference in the resource's spec, in the order of its fields."""
    return _walk_references(resource.spec, Shape(model=type(resource.spec)), "spec")


def iter_wire_references(model: type[AnyResource], wire: Mapping[str, Any]) -> Iterator[FoundReference]:
    """Yield every reference in the spec of a wire object, which need not be valid."""
    return _walk_references(wire.get("spec"), fields_of(model)["spec"].shape, "spec")


def _walk_references(value: Any, shape: Shape, path: str) -> Iterator[FoundReference]:
    if shape.refers_to:
        if isinstance(value, str) and value:
            project, name = split_lent(value, None) if shape.lent else (None, value)
            yield FoundReference(path, shape.refers_to, name, project)
    elif shape.model and isinstance(value, Model | Mapping):
        for field in fields_of(shape.model).values():
            child = value.get(field.wire) if isinstance(value, Mapping) else getattr(value, field.attribute)
            if child is not None:
                yield from _walk_references(child, field.shape, f"{path}.{field.wire}")
    elif shape.items and isinstance(value, list):
        for i, item in enumerate(value):
            yield from _walk_references(item, shape.items, f"{path}[{i}]")
    elif shape.values and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk_references(item, shape.values, join_path(path, str(key)))


def in_order(model: type[Model], wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wire object with its fields as the model has them; a database may have put them otherwise."""
    found = _in_order(wire, Shape(model=model))
    return dict(found)


def _in_order(value: Any, shape: Shape) -> Any:
    if isinstance(value, list):
        return [_in_order(item, shape.items) for item in value] if shape.items else value
    if not isinstance(value, Mapping):
        return value
    if not shape.model:
        return {k: _in_order(v, shape.values) for k, v in value.items()} if shape.values else value
    fields = fields_of(shape.model)
    known = {k: _in_order(value[k], field.shape) for k, field in fields.items() if k in value}
    return known | {k: v for k, v in value.items() if k not in known}


@cache
def refers_to(model: type[AnyResource]) -> frozenset[str]:
    """Return the kinds that a kind's spec may refer to."""
    return frozenset(_walk_kinds(fields_of(model)["spec"].shape, ()))


def _walk_kinds(shape: Shape, above: tuple[type[Model], ...]) -> Iterator[str]:
    if shape.refers_to:
        yield shape.refers_to
    if shape.model and shape.model not in above:
        for field in fields_of(shape.model).values():
            yield from _walk_kinds(field.shape, (*above, shape.model))
    for inner in (shape.items, shape.values):
        if inner:
            yield from _walk_kinds(inner, above)


_TOKEN = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")


def split_path(path: str) -> list[str]:
    """Return the steps of a field path: names, and what stands in brackets as given.

    Raises:
        ValueError: if it is no path.
    """
    steps, end = [], 0
    while end < len(path):
        match = _TOKEN.match(path, end)
        if match is None:
            raise ValueError(f"{path!r} is no field path; write e.g. spec.networkInterfaces[0].network")
        steps.append(match[1] or match[2])
        end = match.end()
    return steps


def join_path(path: str, key: str) -> str:
    """Return the path of a map's entry or an object's field: in brackets when the key has a dot."""
    return f"{path}[{key}]" if "." in key or "[" in key else f"{path}.{key}" if path else key


@cache
def reference_paths(model: type[AnyResource]) -> tuple[tuple[str, str], ...]:
    """Return the fields of spec that name other objects, with the kind: (spec.networkInterfaces[*].port, Port)."""
    return tuple(_find_references(fields_of(model)["spec"].shape, "spec"))


def _find_references(shape: Shape, path: str) -> Iterator[tuple[str, str]]:
    if shape.refers_to:
        yield path, shape.refers_to
    if shape.items:
        yield from _find_references(shape.items, f"{path}[*]")
    for name, field in fields_of(shape.model).items() if shape.model else ():
        yield from _find_references(field.shape, f"{path}.{name}")


def shapes_along(model: type[Model], path: str) -> list[Shape]:
    """Return the shapes from the path's first step to its last.

    Raises:
        KeyError: if there is no such field; its argument names the steps up to the wrong one.
    """
    shape, found, steps = Shape(model=model), [], split_path(path)
    for i, step in enumerate(steps):
        if shape.items:
            shape = shape.items
        elif shape.values:
            shape = shape.values
        elif shape.model and step in fields_of(shape.model):
            shape = fields_of(shape.model)[step].shape
        else:
            raise KeyError(".".join(steps[: i + 1]))
        found.append(shape)
    return found


def change_of(model: type[Model], path: str) -> Change:
    """Return what changing the field takes: the nearest marker on it or above it, else Live."""
    try:
        shapes = shapes_along(model, path)
    except KeyError:
        return Change.LIVE
    return next((s.change for s in reversed(shapes) if s.change), Change.LIVE)
