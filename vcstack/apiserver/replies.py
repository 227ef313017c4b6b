"""Answers: JSON bytes straight out, and the one shape of an error."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from vcstack.specs.errors import ApiError, Unauthorized
from vcstack.specs.model import Model

JSON_MEDIA_TYPE = "application/json"
SAFE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""On every answer: nothing is guessed from content, nothing is kept by caches."""


def json_reply(body: bytes, status: int = 200) -> Response:
    """Return an answer of JSON text."""
    return Response(body, status, media_type=JSON_MEDIA_TYPE)


def value_reply(value: Mapping[str, Any], status: int = 200) -> Response:
    """Return an answer of a JSON-ready mapping."""
    return json_reply(orjson.dumps(value), status)


def model_reply(model: Model, status: int = 200) -> Response:
    """Return an answer of a model."""
    return json_reply(model.to_json(), status)


def error_reply(error: ApiError) -> Response:
    """Return the answer that reports an error."""
    headers = {}
    if error.details.retry_after_seconds is not None:
        headers["retry-after"] = str(error.details.retry_after_seconds)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = 'Bearer realm="vcstack"'
    return Response(error.to_status().to_json(), error.CODE, headers=headers, media_type=JSON_MEDIA_TYPE)
