"""The trail's part of the OpenAPI document."""

from collections.abc import Iterator
from typing import Final

from vcstack.apiserver.openapi_operations import AUDIT_FILTERS, AUDIT_PAGE, Json, operation, reference
from vcstack.apiserver.openapi_records import RECORDS
from vcstack.specs.audit import VerificationReport

AUDIT_MODELS: Final = (VerificationReport,)
_TEXT: Final[Json] = {"type": "string"}
_FILTERS: Final = (
    *AUDIT_FILTERS,
    ("project", "The object's project.", _TEXT),
    ("domain", "The domain that an object outside projects lies in.", _TEXT),
)


def audit_paths() -> Iterator[tuple[str, Json]]:
    """Yield path and operations of each route."""
    listed = {"application/json": {"schema": RECORDS}}
    lines = {"application/jsonl": {"schema": _TEXT}}
    report = {"application/json": {"schema": reference("VerificationReport")}}

    def read(summary: str, content: Json, *parameters: tuple[str, str, Json]) -> Json:
        return {"get": operation("server", summary, content=content, parameters=parameters)}

    yield (
        "/api/v1/audit",
        read(
            "Who did what, the newest first: all of it, or of the domains and projects that one audits.",
            listed,
            *_FILTERS,
            *AUDIT_PAGE,
        ),
    )
    yield "/api/v1/audit/export", read("Audit records as they were written, JSON lines.", lines, *_FILTERS)
    yield "/api/v1/audit/verify", read("What is wrong with the audit trail.", report)
    yield "/api/v1/audit/anchors", read("The ends of audit chains as noted outside the database.", lines)
