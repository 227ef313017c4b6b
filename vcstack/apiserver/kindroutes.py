"""``/api/v1/kinds``: what each kind is, for programs that learn the kinds at run time, as the console does.

All of it follows from the registry and is the same for everybody; so it is built once and sent as it is.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiserver.openapi_operations import Json
from vcstack.apiserver.queries import NONE, Query
from vcstack.apiserver.replies import json_reply
from vcstack.apiserver.targets import subresources_of, unknown_kind
from vcstack.specs.columns import columns_of
from vcstack.specs.errors import MethodNotAllowed, NotFound
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import Column, KindDefinition, load_kinds

KINDS: Final = "/api/v1/kinds"
COLUMN_TYPES: Final = {"text": "string", "age": "date", "bytes": "bytes", "power": "power"}
"""What a column's values are, by how they are shown."""


def is_of_kinds(path: str) -> bool:
    """Return whether the path is one of these."""
    return path.startswith(KINDS) and path[len(KINDS) : len(KINDS) + 1] in ("", "/")


def answer(request: Request) -> Response:
    """Return all kinds, or one with its schema. Raises NotFound, MethodNotAllowed."""
    Query.parse(request.scope["query_string"]).only(NONE)
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"{request.method} is not possible here; there is GET")
    plural = request.scope["path"].removeprefix(KINDS).removeprefix("/")
    if not plural:
        return json_reply(_all())
    definition = next((d for d in load_kinds().values() if d.plural == plural), None)
    if definition is None:
        raise NotFound(unknown_kind(plural))
    return json_reply(_one(definition))


@cache
def _all() -> bytes:
    kinds = sorted(load_kinds().values(), key=lambda d: d.plural)
    return orjson.dumps({"kind": "KindList", "apiVersion": API_VERSION, "items": [describe(d) for d in kinds]})


@cache
def _one(definition: KindDefinition) -> bytes:
    return orjson.dumps(describe_fully(definition))


def describe_fully(definition: KindDefinition) -> Json:
    """Return all there is to tell of a kind."""
    schema, example = schema_of(definition), example_of(definition)
    return {"apiVersion": API_VERSION, **describe(definition), "schema": schema, "example": example}


def describe(definition: KindDefinition) -> Json:
    """Return what all kinds together tell of one."""
    return {
        "kind": definition.kind,
        "plural": definition.plural,
        "singular": definition.singular,
        "shortNames": list(definition.short_names),
        "scope": definition.scope.value,
        "category": definition.category,
        "columns": [_column(c) for c in columns_of(definition, wide=True)],
        "conditions": list(definition.ready_when),
        "verbs": list(_verbs(definition)),
        "subresources": sorted(subresources_of(definition)),
        "doc": (definition.model.__doc__ or "").strip(),
    }


def example_of(definition: KindDefinition) -> Json:
    """Return an object as a user writes it."""
    example = definition.example
    return {
        "apiVersion": API_VERSION,
        "kind": definition.kind,
        "metadata": dict(example["metadata"]),
        "spec": dict(example["spec"]),
    }


def schema_of(definition: KindDefinition) -> Json:
    """Return the JSON schema of the kind's objects; what a field's docstring says is its description.

    ``x-vcstack-takes`` says what changing a field takes, ``x-vcstack-refers-to`` which kind it names,
    ``x-vcstack-sensitive`` that its value is never shown, and ``x-vcstack-depends-on`` which other field says what
    it may be.
    """
    schema: Json = definition.model.model_json_schema(by_alias=True)
    properties = schema["properties"]
    schema["properties"] = {
        "apiVersion": {**properties["apiVersion"], "const": API_VERSION},
        "kind": {"type": "string", "const": definition.kind, "description": "The kind."},
        **{name: found for name, found in properties.items() if name not in ("apiVersion", "kind")},
    }
    return {**schema, "description": (definition.model.__doc__ or "").strip()}


def _column(column: Column) -> Json:
    found: Json = {
        "name": column.name,
        "jsonPath": column.path,
        "type": COLUMN_TYPES[column.format],
        "priority": 1 if column.wide else 0,
    }
    return {**found, "default": column.default} if column.default else found


def _verbs(definition: KindDefinition) -> Iterator[str]:
    """Yield what people may ask for at all; what this one may is told by /api/v1/access/rights."""
    yield from ("get", "list", "watch")
    if not definition.system_only:
        yield from ("create", "update", "delete")
    elif definition.revocable:
        yield "delete"


KIND_LIST: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["kind", "apiVersion", "items"],
    "properties": {
        "kind": {"type": "string", "const": "KindList"},
        "apiVersion": {"type": "string"},
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/KindSummary"}},
    },
}
_TEXTS: Final[Json] = {"type": "array", "items": {"type": "string"}}
_SUMMARY: Final[Json] = {
    "kind": {"type": "string"},
    "plural": {"type": "string"},
    "singular": {"type": "string"},
    "shortNames": _TEXTS,
    "scope": {"type": "string", "enum": ["Global", "Project", "GlobalOrProject"]},
    "category": {"type": "string"},
    "columns": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "jsonPath", "type", "priority"],
            "properties": {
                "name": {"type": "string", "description": "The heading."},
                "jsonPath": {
                    "type": "string",
                    "description": "Where the value is: [*] joins all items, [X] picks the item whose type or name "
                    "is X.",
                },
                "type": {"type": "string", "enum": list(COLUMN_TYPES.values())},
                "priority": {"type": "integer", "description": "0: always shown, 1: where there is room."},
                "default": {"type": "string", "description": "Shown when the value is absent."},
            },
        },
    },
    "conditions": {**_TEXTS, "description": "What Ready sums up, in the order in which they come true."},
    "verbs": {**_TEXTS, "description": "What people may ask for, if their rights allow it."},
    "subresources": _TEXTS,
    "doc": {"type": "string"},
}
SCHEMAS: Final[Json] = {
    "KindSummary": {"type": "object", "required": list(_SUMMARY), "properties": _SUMMARY},
    "KindDescription": {
        "type": "object",
        "required": ["apiVersion", *_SUMMARY, "schema", "example"],
        "properties": {
            "apiVersion": {"type": "string"},
            **_SUMMARY,
            "schema": {
                "type": "object",
                "description": "JSON Schema of the objects, with x-vcstack-takes (Live, Reboot, Recreate, Immutable), "
                "x-vcstack-refers-to (a kind), x-vcstack-sensitive and x-vcstack-depends-on (another field, and "
                "for each of its values the schema of this one).",
            },
            "example": {"type": "object", "description": "An object as a user writes it."},
        },
    },
}
"""Schemas of the answers, for the OpenAPI document."""
