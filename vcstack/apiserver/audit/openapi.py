"""The trail's part of the OpenAPI document."""

from collections.abc import Iterator
from typing import Final

from vcstack.apiserver.openapi_operations import Json, operation, reference
from vcstack.specs.audit import VerificationReport

AUDIT_MODELS: Final = (VerificationReport,)
_TEXT: Final[Json] = {"type": "string"}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_FILTERS: Final[tuple[tuple[str, str, Json], ...]] = (
    ("subject", "Who: admin, user:alice, system:host:h1.", _TEXT),
    ("kind", "The kind of the object.", _TEXT),
    ("project", "Its project.", _TEXT),
    ("name", "Its name.", _TEXT),
    ("verb", "create, update, delete, login, join, ...", _TEXT),
    ("outcome", "Allowed, Denied or Failed.", {"type": "string", "enum": ["Allowed", "Denied", "Failed"]}),
    ("requestId", "The id in the answer's header x-request-id.", _TEXT),
    ("chain", "The chain's name.", _TEXT),
    ("since", "From then on.", _TIME),
    ("until", "Before then.", _TIME),
)
_PAGE: Final[tuple[tuple[str, str, Json], ...]] = (
    ("limit", "Records of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ("continue", "The token of the page before.", _TEXT),
)


def audit_paths() -> Iterator[tuple[str, Json]]:
    """Yield path and operations of each route."""
    listed = {"application/json": {"schema": {"type": "object"}}}
    lines = {"application/jsonl": {"schema": _TEXT}}
    report = {"application/json": {"schema": reference("VerificationReport")}}

    def read(summary: str, content: Json, *parameters: tuple[str, str, Json]) -> Json:
        return {"get": operation("server", summary, content=content, parameters=parameters)}

    yield "/api/v1/audit", read("Who did what, the newest first (auditors).", listed, *_FILTERS, *_PAGE)
    yield "/api/v1/audit/export", read("Audit records as they were written, JSON lines.", lines, *_FILTERS)
    yield "/api/v1/audit/verify", read("What is wrong with the audit trail.", report)
    yield "/api/v1/audit/anchors", read("The ends of audit chains as noted outside the database.", lines)
