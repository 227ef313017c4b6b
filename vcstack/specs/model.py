"""The base of every typed object: one pydantic model configuration for the whole project.

Wire names are camelCase, unknown fields are refused, types are strict (a string is no number) and a
field's docstring is its description in OpenAPI, CRDs, ``vcctl explain`` and the reference pages.
"""

import ast
import inspect
import itertools
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""A DNS label: RFC 1123 section 2.1; at most 63 characters."""
_LABEL: Final = re.compile(LABEL_PATTERN)

Name = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, max_length=63)]
"""A resource's name: a DNS label, lower case, at most 63 characters."""

LENT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"

LentName = Annotated[str, StringConstraints(pattern=LENT_PATTERN, max_length=127)]
"""A name of the own project, or PROJECT/NAME of what another project shares with it."""

Observed = Annotated[str, StringConstraints(max_length=256)]
"""A short text of a status: a name, a version, an address."""

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$", max_length=1024)]
"""Free text for people: no control characters but tab and newline."""


class Model(BaseModel):
    """The base of specs, statuses and everything else that crosses the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        validate_default=False,
        # A class's validator is built when it is first used: a start of vcctl uses few of them.
        defer_build=True,
    )

    @classmethod
    def describe_fields(cls) -> Mapping[str, str]:
        """Return the docstring below each field, by attribute; read from the source when first asked for.

        pydantic's ``use_attribute_docstrings`` reads them when a class is made, which took a third of each
        start of vcctl.
        """
        return _describe_fields(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Give each property its docstring as description."""
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for attribute, text in cls.describe_fields().items():
            info = cls.model_fields.get(attribute)
            wire = properties.get((info.alias or attribute) if info else attribute)
            if wire is not None:
                wire["description"] = text
        return made

    @classmethod
    def from_wire(cls, value: bytes | str | Mapping[str, Any]) -> Self:
        """Return the validated object of JSON text or of its decoded mapping.

        Raises:
            pydantic.ValidationError: if the value does not fit the schema.
        """
        data = value if isinstance(value, bytes | str) else orjson.dumps(value)
        return cls.model_validate_json(data)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON-ready mapping: camelCase keys, fields that are None left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=False)

    def to_json(self) -> bytes:
        """Return the object as JSON text, fields that are None left out."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


@cache
def _describe_fields(model: type[Model]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, Model):
            # A parametrized generic, Resource[X, Y], has no source but that of Resource.
            found |= _read_docstrings(cls.__module__).get(cls.__qualname__.partition("[")[0], {})
    return found


@cache
def _read_docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return class → attribute → docstring of the classes at the top of a module."""
    source = inspect.getsource(sys.modules[module])
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text.value.value)
            for field, text in itertools.pairwise(node.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def is_label(text: str) -> bool:
    """Return whether the text is a DNS label, as names are."""
    return _LABEL.fullmatch(text) is not None


def split_lent(name: str, home: str | None) -> tuple[str | None, str]:
    """Return the project and the name that a LentName stands for in a project."""
    project, slash, bare = name.rpartition("/")
    return (project if slash else home), bare


def join_lent(project: str | None, name: str, home: str | None) -> str:
    """Return the LentName of a project's object as it is written in another project, or in its own."""
    return name if project == home or project is None else f"{project}/{name}"


class Change(StrEnum):
    """What changing a field takes. It is inherited from the enclosing field; the default is Live."""

    LIVE = "Live"
    REBOOT = "Reboot"
    RECREATE = "Recreate"
    IMMUTABLE = "Immutable"


@dataclass(frozen=True, slots=True)
class Takes:
    """Field marker, ``Annotated[int, Takes(Change.REBOOT)]``: what changing the field takes."""

    change: Change

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Show the change class in JSON schema as ``x-vcstack-takes``."""
        return {**handler(schema), "x-vcstack-takes": self.change.value}


@dataclass(frozen=True, slots=True)
class RefersTo:
    """Field marker, ``Annotated[Name, RefersTo("Network")]``: the value names an object of that kind.

    The name is looked up in the object's own project first when the kind lives in projects, then among
    the global ones when the kind may be global.
    """

    kind: str
    lent: bool = False
    """Whether the value may be PROJECT/NAME of what another project shares (a LentName)."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Show the kind referred to in JSON schema as ``x-vcstack-refers-to``."""
        return {**handler(schema), "x-vcstack-refers-to": self.kind}


@dataclass(frozen=True, slots=True, eq=False)
class DependsOn:
    """Field marker: what the value may be depends on what another field of the same object names."""

    field: str
    """The other field, as it is written."""
    choices: Mapping[str, JsonSchemaValue]
    """What the other field may say; of each a ``description`` and, as ``value``, the schema of this field."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Show all that there are in JSON schema as ``x-vcstack-depends-on``."""
        return {**handler(schema), "x-vcstack-depends-on": {"field": self.field, "choices": dict(self.choices)}}


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Field marker, ``Annotated[str, Sensitive()]``: nobody sees the value who only reads the object.

    The store keeps the text encrypted beside the object, which has a stand-in for it (``specs/sensitive.py``).
    """

    max_bytes: int = 64 * 1024
    """Of one value in UTF-8."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Show in JSON schema that it is written as it is and read as a stand-in."""
        return {**handler(schema), "format": "password", "x-vcstack-sensitive": True}
