"""Fields as people read about them: type, rules, what a change takes, what is referred to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vcstack.specs.introspect import Field, Shape, fields_of
from vcstack.specs.model import LABEL_PATTERN, Change, Model
from vcstack.specs.resource import AnyResource

LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
    "pattern": "matches {}",
}
"""JSON schema's rules in words."""


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """All that can be said of a field."""

    path: str
    name: str
    type_name: str
    description: str
    required: bool
    default: str | None
    """As it is written in manifests; None: there is none, or it is empty."""
    change: Change
    refers_to: str | None
    choices: tuple[str, ...]
    rules: tuple[str, ...]
    model: type[Model] | None
    """What is nested in it, of an object or of a list's items."""


@cache
def _schema(model: type[Model]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def document(model: type[Model], *, path: str = "", above: Change = Change.LIVE) -> list[FieldDoc]:
    """Return the fields of a model, in its order."""
    return [_document(model, f, path, above) for f in fields_of(model).values()]


def document_tree(model: type[Model], *, path: str = "", above: Change = Change.LIVE) -> Iterator[FieldDoc]:
    """Yield the fields of a model and all that is nested in them."""
    for field in document(model, path=path, above=above):
        yield field
        if field.model is not None:
            yield from document_tree(field.model, path=field.path, above=field.change)


def find_field(resource: type[AnyResource], path: str) -> FieldDoc:
    """Return the field at a dotted path; brackets are not needed.

    Raises:
        KeyError: if there is none; its argument is the path up to the wrong step.
    """
    model: type[Model] | None = resource
    steps, above, found = path.split("."), Change.LIVE, None
    for i, step in enumerate(steps):
        prefix = ".".join(steps[:i])
        fields = {f.name: f for f in document(model, path=prefix, above=above)} if model is not None else {}
        if step not in fields:
            raise KeyError(".".join(steps[: i + 1]))
        found = fields[step]
        model, above = found.model, found.change
    assert found is not None
    return found


def _document(model: type[Model], field: Field, path: str, above: Change) -> FieldDoc:
    root = _schema(model)
    schema = _plain(root["properties"].get(field.wire, {}), root)
    items = _plain(schema.get("items", {}), root) if schema.get("type") == "array" else schema
    shape = field.shape.items or field.shape
    return FieldDoc(
        path=f"{path}.{field.wire}" if path else field.wire,
        name=field.wire,
        type_name=_type_of(field.shape, schema, root),
        description=model.describe_fields().get(field.attribute, ""),
        required=field.info.is_required(),
        default=None if field.default in (None, "", [], {}) else _write(field.default),
        change=field.shape.change or above,
        refers_to=shape.refers_to,
        choices=tuple(str(c) for c in items.get("enum", ())),
        rules=tuple(_rules(schema, items)),
        model=shape.model,
    )


def _write(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_write, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rules(schema: Mapping[str, Any], items: Mapping[str, Any]) -> Iterator[str]:
    is_name = items.get("pattern") == LABEL_PATTERN
    if is_name:
        yield ("a DNS label" if items is schema else "each a DNS label") + _length_of_name(items)
    for name, words in LIMITS.items():
        if is_name and name in ("pattern", "maxLength"):
            continue
        if name in schema:
            yield words.format(schema[name])
        elif name in items and items is not schema:
            yield "each " + words.format(items[name])


def _length_of_name(schema: Mapping[str, Any]) -> str:
    limit = schema.get("maxLength", 63)
    return f" of at most {limit} characters" if limit != 63 else ""


def _plain(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with its reference followed and null left out; True (anything) is empty."""
    found = dict(schema) if isinstance(schema, Mapping) else {}
    while True:
        options = [o for o in found.get("anyOf", []) if o.get("type") != "null"]
        if len(options) == 1:
            found = {**{k: v for k, v in found.items() if k != "anyOf"}, **options[0]}
        elif "$ref" in found:
            target = root.get("$defs", {}).get(found["$ref"].rpartition("/")[2], {})
            found = {**{k: v for k, v in found.items() if k != "$ref"}, **target}
        elif len(found.get("allOf", [])) == 1:
            found = {**{k: v for k, v in found.items() if k != "allOf"}, **found["allOf"][0]}
        else:
            return found


def _type_of(shape: Shape, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if shape.items:
        return f"[]{_type_of(shape.items, _plain(schema.get('items', {}), root), root)}"
    if shape.values:
        patterns: dict[str, Any] = schema.get("patternProperties", {})
        values: Any = schema.get("additionalProperties") or next(iter(patterns.values()), {})
        return f"map[string]{_type_of(shape.values, _plain(values, root), root)}"
    if shape.model:
        return shape.model.__name__
    if "enum" in schema:
        return str(schema.get("title") or "enum")
    if schema.get("format") == "date-time":
        return "time"
    return str(schema.get("type", "any"))
