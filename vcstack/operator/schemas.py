"""Structural schemas, as Kubernetes demands them of custom resources, from the kinds' models. Pure.

A structural schema says each value's type once: no references, no alternatives, no unknown extensions. What it cannot
say (which keys a map may have, what fields mean together) the API of VC Stack says when the object is applied.
Defaults stay out: a default that Kubernetes filled in would be a wish that nobody had.
"""

from collections.abc import Mapping
from typing import Any, Final

from vcstack.specs.registry import KindDefinition

Schema = dict[str, Any]

LIMITS: Final = (
    "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "minProperties",
    "maxProperties", "multipleOf",
)  # fmt: skip
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
SECRET_KEY_REF: Final = "secretKeyRef"  # noqa: S105 (the name of a field)

CONDITION: Final[Schema] = {
    "type": "object",
    "description": "One observed aspect of the object's state.",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "description": "What is observed."},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "The answer."},
        "reason": {"type": "string", "description": "A machine's word for why."},
        "message": {"type": "string", "description": "A sentence for people."},
        "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When status last changed."},
        "observedGeneration": {
            "type": "integer", "format": "int64",
            "description": "The generation of the custom resource that the observation belongs to.",
        },
    },
}  # fmt: skip
PLACE: Final[Schema] = {
    "type": "object",
    "description": "The object of VC Stack.",
    "properties": {
        "project": {"type": "string", "description": "The project it lies in; none: it is global."},
        "name": {"type": "string", "description": "Its name."},
        "uid": {"type": "string", "description": "Its uid."},
        "fieldManager": {"type": "string", "description": "As whom the operator applies it."},
    },
}
SECRET_KEY: Final[Schema] = {
    "type": "object",
    "required": [SECRET_KEY_REF],
    "properties": {
        SECRET_KEY_REF: {
            "type": "object",
            "description": "A value of a Secret of Kubernetes, in the same namespace, else in the operator's.",
            "required": ["name", "key"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "description": "The Secret."},
                "key": {"type": "string", "minLength": 1, "description": "Which of its values."},
            },
        }
    },
}


def build_schema(definition: KindDefinition) -> Schema:
    """Return the structural schema of the kind's custom resource."""
    model: Any = definition.model
    made = model.model_json_schema(by_alias=True)
    defs, properties = made.get("$defs", {}), made["properties"]
    spec = _convert(properties["spec"], defs, limits=True)
    status = _convert(properties["status"], defs, limits=False)
    status["properties"] |= {
        "conditions": {
            "type": "array", "description": "What is observed, one entry a type.", "items": CONDITION,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        },
        "observedGeneration": {
            "type": "integer", "format": "int64",
            "description": "The generation of the custom resource that the operator has worked on.",
        },
        "vcstack": PLACE,
    }  # fmt: skip
    name = properties["metadata"]
    named = _resolve(name, defs)["properties"]["name"]
    return {
        "type": "object",
        "description": (definition.model.__doc__ or "").strip().splitlines()[0],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {k: named[k] for k in ("type", "pattern", "maxLength") if k in named}},
            },
            "spec": spec,
            "status": status,
        },
        **({"required": ["spec"]} if "spec" in made.get("required", ()) else {}),
    }


def _resolve(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    """Return the schema without a reference at its top, what stands beside the reference laid over it."""
    found = dict(schema)
    while "$ref" in found:
        target = defs[found.pop("$ref").rpartition("/")[2]]
        found = {**target, **found}
    return found


def _convert(schema: Mapping[str, Any], defs: Mapping[str, Any], *, limits: bool) -> Schema:
    found = _resolve(schema, defs)
    described = {"description": " ".join(found["description"].split())} if "description" in found else {}
    if found.get("x-vcstack-sensitive"):
        return {**SECRET_KEY, **described}
    if "anyOf" in found:
        return {**_convert_choice(found["anyOf"], defs, limits=limits), **described}
    kind = found["type"]
    made: Schema = {"type": kind, **described}
    if limits:
        made |= {key: found[key] for key in LIMITS if key in found}
    if kind == "object":
        made |= _convert_object(found, defs, limits=limits)
    elif kind == "array":
        made["items"] = _convert(found["items"], defs, limits=limits)
        if limits and _is_named(made["items"]):
            made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    elif kind == "integer":
        made["format"] = "int64"
    elif found.get("format") == "date-time":
        made["format"] = "date-time"
    return made


def _convert_choice(choices: list[Mapping[str, Any]], defs: Mapping[str, Any], *, limits: bool) -> Schema:
    """Return the schema of a value that may be of several types; null is left out, for absence says the same."""
    left = [choice for choice in choices if choice.get("type") != "null"]
    if len(left) == 1:
        return _convert(left[0], defs, limits=limits)
    types = {_resolve(choice, defs).get("type") for choice in left}
    return {"x-kubernetes-int-or-string": True} if types == {"integer", "string"} else {PRESERVE: True}


def _convert_object(found: Mapping[str, Any], defs: Mapping[str, Any], *, limits: bool) -> Schema:
    if "properties" in found:
        made: Schema = {"properties": {n: _convert(s, defs, limits=limits) for n, s in found["properties"].items()}}
        if limits and found.get("required"):
            made["required"] = list(found["required"])
        return made
    patterns = list(found.get("patternProperties", {}).values())
    values = found.get("additionalProperties") or (patterns[0] if patterns else None)
    if isinstance(values, Mapping):
        return {"additionalProperties": _convert(values, defs, limits=limits)}
    return {PRESERVE: True}


def _is_named(item: Schema) -> bool:
    return "name" in item.get("properties", {}) and "name" in item.get("required", ())
