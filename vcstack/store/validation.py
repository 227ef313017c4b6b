"""From JSON text to a typed resource, or to an Invalid that names every field."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import ValidationError

from vcstack.specs.errors import BadRequest, Cause, ErrorDetails, Invalid, TooLarge
from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition, Scope
from vcstack.specs.resource import AnyResource
from vcstack.store.wording import causes_of

MAX_OBJECT_BYTES: Final = 1024 * 1024
"""etcd takes 1.5 MiB in one request; claims and the rest of the transaction need room, too."""

_TEXTS: Final = ("name", "project", "uid", "resourceVersion")


def refuse(definition: KindDefinition, project: str | None, name: str, causes: Sequence[Cause]) -> Invalid:
    """Return the error for these causes."""
    first = f"{causes[0].field}: {causes[0].message}"
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    details = ErrorDetails(kind=definition.kind, project=project or "", name=name)
    where = f" {project}/{name}" if project else f" {name}" if name else ""
    return Invalid(f"{definition.kind}{where} is invalid: {first}{more}", causes=causes, details=details)


def build_cause(field: str, reason: str, message: str) -> Cause:
    """Return a cause; models validate slowly, and this one is known to fit."""
    return Cause.model_construct(field=field, reason=reason, message=message)


def encode(wire: Mapping[str, Any]) -> bytes:
    """Return JSON text.

    Raises:
        BadRequest: if something in it has no place in JSON.
        TooLarge: if it exceeds the size of an object.
    """
    try:
        body = orjson.dumps(wire)
    except TypeError as error:
        raise BadRequest(f"the object cannot be written as JSON: {error}") from error
    check_size(body)
    return body


def check_size(body: bytes) -> None:
    """Refuse what is too large.

    Raises:
        TooLarge: if it exceeds the size of an object.
    """
    if len(body) > MAX_OBJECT_BYTES:
        raise TooLarge(f"the object has {len(body)} bytes; at most {MAX_OBJECT_BYTES} are allowed")


def validate(definition: KindDefinition, project: str | None, name: str, body: bytes) -> AnyResource:
    """Return the typed resource.

    Raises:
        Invalid: with a cause for each field that does not fit the schema.
    """
    try:
        # By wire names only: the models take Python's names as well, for code.
        validator = definition.model.__pydantic_validator__
        return validator.validate_json(body, by_alias=True, by_name=False)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise refuse(definition, project, name, causes_of(error, definition.model)) from error


def check_shape(definition: KindDefinition, wire: Mapping[str, Any]) -> None:
    """Look at what has to be known before the object can be built.

    Raises:
        Invalid: apiVersion or kind are wrong, or a section is no object.
    """
    causes = []
    if wire.get("apiVersion", API_VERSION) != API_VERSION:
        causes.append(build_cause("apiVersion", "FieldValueNotSupported", f"write {API_VERSION}"))
    if wire.get("kind", definition.kind) != definition.kind:
        causes.append(build_cause("kind", "FieldValueInvalid", f"must be {definition.kind} here"))
    for section in ("metadata", "spec", "status"):
        if not isinstance(wire.get(section) or {}, dict):
            causes.append(build_cause(section, "FieldValueInvalid", "must be an object"))
    metadata = wire.get("metadata")
    if isinstance(metadata, dict):
        wrong = [f for f in _TEXTS if not isinstance(metadata.get(f) or "", str)]
        causes += [build_cause(f"metadata.{f}", "FieldValueInvalid", "must be a string") for f in wrong]
    if causes:
        raise refuse(definition, None, "", causes)


def check_place(definition: KindDefinition, project: str | None, name: str) -> None:
    """Check that the object has a name, and a project if its kind lives in one.

    Raises:
        Invalid: if not.
    """
    causes = []
    if not name:
        causes.append(build_cause("metadata.name", "FieldValueRequired", "is required"))
    if definition.scope is Scope.PROJECT and not project:
        message = f"is required: a {definition.kind} lives in a project"
        causes.append(build_cause("metadata.project", "FieldValueRequired", message))
    if definition.scope is Scope.GLOBAL and project:
        message = f"must be left out: a {definition.kind} is global"
        causes.append(build_cause("metadata.project", "FieldValueForbidden", message))
    if causes:
        raise refuse(definition, project, name, causes)
