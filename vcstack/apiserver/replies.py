"""Answers: JSON bytes straight out, and the one shape of an error."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from vcstack.specs.errors import ApiError, ErrorStatus, Unauthorized
from vcstack.specs.model import Model

JSON_MEDIA_TYPE = "application/json"
SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every answer that does not say otherwise (ASVS 5.0, V3.4): kept by no cache, run, framed or embedded by no page,
nothing guessed from its content, nothing told to where links lead, and TLS from then on."""


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
    limit = error.details.limit
    if limit is not None and limit.requests_per_minute:
        # draft-ietf-httpapi-ratelimit-headers-10
        headers["ratelimit-policy"] = f'"{limit.name}";q={limit.requests_per_minute};w=60'
        headers["ratelimit"] = f'"{limit.name}";r=0;t={error.details.retry_after_seconds or 1}'
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = 'Bearer realm="vcstack"'
    return status_reply(error.to_status(), headers)


def status_reply(status: ErrorStatus, headers: Mapping[str, str]) -> Response:
    """Return the answer of an error that is not raised."""
    return Response(status.to_json(), status.code, headers=headers, media_type=JSON_MEDIA_TYPE)
