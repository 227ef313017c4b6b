"""Request bodies: limited before they are read, decoded without surprises, made to agree with the path."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from vcstack.apiserver.targets import Target
from vcstack.specs.errors import BadRequest, Cause, Invalid, TooLarge, UnsupportedMediaType
from vcstack.specs.introspect import join_path
from vcstack.specs.manifest import BODY_LIMITS, ManifestError, load_documents, load_json
from vcstack.specs.meta import API_VERSION
from vcstack.specs.model import Model
from vcstack.specs.registry import Scope

BODY_LIMIT = BODY_LIMITS.max_bytes
LIMIT_KEY = "vcstack.bodyLimit"
"""Where an ASGI scope says that the caller's bodies may have so many bytes only."""
JSON = "application/json"
YAML = "application/yaml"
MERGE_PATCH = "application/merge-patch+json"
APPLY_YAML = "application/apply-patch+yaml"
APPLY_JSON = "application/apply-patch+json"
OBJECT_TYPES = (JSON, YAML)
PATCH_TYPES = (MERGE_PATCH, APPLY_YAML, APPLY_JSON)

MAX_CAUSES: Final = 20
PATH_SHOWN: Final = 200
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape for one of the two surrogates that stand for a character."""
_NOWHERE: Final = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL cannot keep, and what is no character."""
_CONTROL: Final = re.compile("[\0-\x1f\x7f\ud800-\udfff]")
_FREE: Final = ("annotations", "managedFields")
"""Of metadata: texts of any form, and what nobody takes from a caller."""

M = TypeVar("M", bound=Model)
Wire = dict[str, Any]


async def read_bytes(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """Return the body. Raises TooLarge before reading more than the limit."""
    limit = min(limit, request.scope.get(LIMIT_KEY, limit))
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the connection ended before the body did")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return bytes(body)


def plain_type(header: str) -> str:
    """Return the media type that a content-type says, without its parameters; its case means nothing."""
    return header.split(";")[0].strip().lower()


def media_type_of(request: Request, allowed: tuple[str, ...]) -> str:
    """Return the body's media type. Raises UnsupportedMediaType for one that is not allowed here."""
    given = plain_type(request.headers.get("content-type", ""))
    if given not in allowed:
        raise UnsupportedMediaType(f"content-type {given[:80]!r} is not known here; use {' or '.join(allowed)}")
    return given


async def read_object(request: Request, allowed: tuple[str, ...] = OBJECT_TYPES) -> Wire:
    """Return the body's one JSON or YAML object.

    Raises:
        Invalid: a text has characters that cannot be kept.
    """
    media_type = media_type_of(request, allowed)
    raw = await read_bytes(request)
    wire = decode(raw, is_yaml=media_type.endswith("yaml"))
    # JSON and YAML write control characters as escapes only, but for DEL.
    if b"\\" in raw or b"\x7f" in raw:
        check_texts(wire)
    return wire


def check_texts(wire: Wire) -> None:
    """Refuse NUL anywhere, and all control characters in what says whose and what an object is.

    Here and not in the models: what was stored before stays readable, and a patch can take it out.

    Raises:
        Invalid: with the fields.
    """
    causes = list(islice(_find_refused(wire), MAX_CAUSES))
    if causes:
        raise Invalid(f"{causes[0].field}: {causes[0].message}", causes=causes)


def _find_refused(value: Any, path: str = "", refused: re.Pattern[str] = _NOWHERE) -> Iterator[Cause]:
    if isinstance(value, str):
        if found := refused.search(value):
            yield _refuse_text(path, found[0])
    elif isinstance(value, dict):
        for key, item in value.items():
            if found := _NOWHERE.search(key):
                yield _refuse_text(path, found[0], f"the key {key[:PATH_SHOWN]!r} ")
                continue
            strict = path == "metadata" and key not in _FREE
            yield from _find_refused(item, join_path(path, key), _CONTROL if strict else refused)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_refused(item, f"{path}[{index}]", refused)


def _refuse_text(path: str, character: str, what: str = "") -> Cause:
    if character == "\0":
        message = "has a NUL character; remove it"
    elif character >= "\ud800":
        message = "has half of a pair of \\u escapes, which is no character; write both, or the character itself"
    else:
        message = "has control characters; remove them"
    return Cause(field=path[:PATH_SHOWN] or "body", reason="FieldValueInvalid", message=f"{what}{message}")


async def read_model(request: Request, model: type[M]) -> M:
    """Return a body that is no resource. Raises Invalid with the fields that are wrong."""
    wire = await read_object(request)
    try:
        return model.from_wire(wire)
    except ValidationError as error:
        raise invalid_body(error) from error


def decode(raw: bytes, *, is_yaml: bool) -> Wire:
    """Return the one object of the text. Raises BadRequest."""
    if is_yaml:
        documents = load_documents(raw, source="body", limits=BODY_LIMITS)
        if len(documents) != 1:
            raise BadRequest(f"the body must be one object, it has {len(documents)}")
        return documents[0]
    try:
        value = load_json(raw) if raw else None
    except ManifestError as error:
        raise _find_half(raw) or error from None
    if not isinstance(value, dict):
        raise BadRequest('the body must be one object, e.g. {"apiVersion": ..., "kind": ...}')
    return value


def _find_half(raw: bytes) -> BadRequest | None:
    """Return the error that names the field with half a character; the JSON reader says the column only."""
    if not _HALF.search(raw):
        return None
    try:
        value = json.loads(raw)
        cause = next(_find_refused(value), None)
    except (ValueError, RecursionError):
        return None
    return None if cause is None else BadRequest(f"{cause.field}: {cause.message}", causes=[cause])


def fit_to_path(wire: Wire, target: Target, *, named: bool) -> Wire:
    """Return the object with kind, project and name as the path says; what contradicts it is refused.

    Args:
        wire: the body; changed in place.
        target: what the path names.
        named: the path carries the name (PUT, PATCH), else the body does (POST).
    """
    causes: list[Cause] = []
    definition = target.definition
    _fit(wire, "apiVersion", "apiVersion", API_VERSION, causes)
    _fit(wire, "kind", "kind", definition.kind, causes)
    metadata = wire.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        causes.append(Cause(field="metadata", reason="FieldValueInvalid", message="must be an object"))
    else:
        if target.project is not None:
            _fit(metadata, "project", "metadata.project", target.project, causes)
        elif definition.scope is not Scope.PROJECT:
            _fit(metadata, "project", "metadata.project", None, causes)
        elif not named:
            _demand_project(metadata, causes)
        if named:
            _fit(metadata, "name", "metadata.name", target.name, causes)
    if causes:
        raise Invalid(f"{causes[0].field}: {causes[0].message}", causes=causes)
    return wire


def invalid_body(error: ValidationError) -> Invalid:
    """Return the error that blames the fields that pydantic did not like."""
    causes = [
        Cause(field=".".join(str(s) for s in e["loc"]) or "body", reason="FieldValueInvalid", message=e["msg"])
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return Invalid(f"{causes[0].field}: {causes[0].message}", causes=causes)


def _fit(holder: Wire, key: str, field: str, wanted: str | None, causes: list[Cause]) -> None:
    given = holder.get(key)
    if given is None or given == "":
        if wanted is not None:
            holder[key] = wanted
        else:
            holder.pop(key, None)
    elif given != wanted:
        says = (
            f"the path says {wanted!r}"
            if wanted is not None
            else "the path is that of an object outside of projects; leave it out"
        )
        message = f"is {str(given)[:80]!r}, but {says}"
        causes.append(Cause(field=field, reason="FieldValueInvalid", message=message))


def _demand_project(metadata: Wire, causes: list[Cause]) -> None:
    if not isinstance(metadata.get("project"), str):
        message = "is missing: name the project here or post to /api/v1/projects/PROJECT/..."
        causes.append(Cause(field="metadata.project", reason="FieldValueRequired", message=message))


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body exceeds the limit of {limit} bytes")
