"""Which errors an operation can answer: by what it takes and what it is about, the same for all kinds."""

from typing import Any, Final

from vcstack.apiserver.consolefiles import PREFIX as CONSOLE
from vcstack.apiserver.docs import PAGE

Json = dict[str, Any]

ERRORS: Final = {
    "400": ("BadRequest", "The request cannot be read.", "query parameter 'limit' must be a number"),
    "401": ("Unauthorized", "Nobody known asks.", "say who you are: a bearer token or a client certificate"),
    "403": (
        "Forbidden",
        "The caller may not, or a quota is used up.",
        "user:alice may not create Instance in project demo",
    ),
    "404": ("NotFound", "There is no such object, or the caller may not know.", "there is no Instance demo/web-9"),
    "409": (
        "Conflict",
        "A stale version, a claim taken, a field owned by another manager, a name taken.",
        "metadata.resourceVersion: the object was changed meanwhile; read it again",
    ),
    "410": (
        "Expired",
        "The version was compacted: list again. Or retention has removed it from history; the causes say how far that "
        "reaches back.",
        "version 812 was compacted; list again",
    ),
    "413": ("RequestEntityTooLarge", "The body is too large.", "the body exceeds the limit of 1048576 bytes"),
    "415": (
        "UnsupportedMediaType",
        "The body's media type is not known here.",
        "content-type 'text/plain' is not known",
    ),
    "422": (
        "Invalid",
        "The object breaks its schema or its rules; the causes name the fields.",
        "spec.vcpus: must be positive",
    ),
    "429": (
        "TooManyRequests",
        "Too many failures, or a limit on requests is reached; details.limit names it, retry-after says when to try "
        "again.",
        "too many requests",
    ),
    "500": ("InternalError", "A fault of the server.", "a fault of the server; its log has the request's id"),
    "503": ("ServiceUnavailable", "A part behind the API does not answer.", "the store does not answer"),
}
"""Reason, description, and a message as an example."""
ANYWHERE: Final = ("400", "429", "500", "503")
BY_BODY: Final = ("413", "415", "422")
PROBES: Final = frozenset({"/healthz", "/readyz", "/version", "/openapi.json", CONSOLE, PAGE})
WRITES: Final = frozenset({"post", "put", "patch", "delete"})
BY_STATE: Final = ("/log", "/metrics", "/screenshot", "/sshauthority")
"""There is nothing to be read while no machine runs, and no authority is made for a project that goes."""
AUTH: Final = "/api/v1/auth/"
AUDIT: Final = "/api/v1/audit"


def codes_of(path: str, method: str, operation: Json) -> list[str]:
    """Return the error codes that the operation can answer."""
    if path in PROBES:
        return ["500", "503"]
    found = {*ANYWHERE}
    public, named = operation.get("security") == [], "{" in path
    if not public or method in WRITES:
        found |= {"401", "403"}  # public ones look at credentials in the body; cookies of foreign pages are refused
    if named or path.startswith((AUTH, AUDIT)):  # a provider or audit trail may not be there
        found |= {"404"}
    if named:
        found |= {"422"}
        found |= {"409"} if method in WRITES else {"410"}
        found |= {"409"} if path.endswith(BY_STATE) else set()
    elif method == "get":
        found |= {"410", "422"}
    if "requestBody" in operation:
        found |= {*BY_BODY, "409"}
        found |= {"404"} if method == "post" else set()  # the project that the object names
    return sorted(found)


def error_responses() -> Json:
    """Return the answers that report errors, for the components."""
    return {f"Error{code}": _response(code) for code in ERRORS}


def references(codes: list[str]) -> Json:
    """Return the answers of an operation that can answer these."""
    return {code: {"$ref": f"#/components/responses/Error{code}"} for code in codes}


def _response(code: str) -> Json:
    reason, description, message = ERRORS[code]
    example = {
        "kind": "Error",
        "code": int(code),
        "reason": reason,
        "message": message,
        "details": _details(code, message),
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorStatus"}, "example": example}}
    found: Json = {"description": description, "content": content, "headers": {"x-request-id": _REQUEST_ID}}
    if code == "401":
        found["headers"]["www-authenticate"] = _header("How to say who one is.", 'Bearer realm="vcstack"')
    if code in ("429", "503"):
        found["headers"]["retry-after"] = _header("Seconds until it is worth trying again.", "2")
    return found


def _details(code: str, message: str) -> Json:
    if code != "422":
        return {}
    field, _, text = message.partition(": ")
    return {"causes": [{"field": field, "reason": "FieldValueInvalid", "message": text}]}


def _header(description: str, example: str) -> Json:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_REQUEST_ID: Final = _header(
    "The request's id, as it stands in log and audit trail.", "0af7651916cd43dd8448eb211c80319c"
)
