"""Which events of the past are asked for, in plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

PastPlace = tuple[datetime, str]
"""Where a page ends: an event's last time and its uid."""
COLUMNS: Final[Mapping[str, str]] = {
    "spec.regarding.kind": "regarding_kind",
    "spec.regarding.name": "regarding_name",
    "spec.regarding.uid": "regarding_uid",
    "spec.type": "type",
    "spec.reason": "reason",
    "spec.actor": "actor",
}
"""Fields of an Event that can be selected by, and the mirror's columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvents:
    """A page of events by when they last happened, the newest first."""

    since: datetime
    until: datetime | None = None
    """Exclusive."""
    project: str | None = None
    """Only those of this project."""
    projects: Mapping[str, datetime] | None = None
    """Only those of these projects, of each from then on, and those outside of projects."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Columns and what they must be."""
    before: PastPlace | None = None
    """Only what comes after that place."""
    limit: int = 500
