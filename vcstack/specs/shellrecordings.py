"""Recordings of shells: what is kept of each beside what was shown. Pure."""

from dataclasses import dataclass
from datetime import datetime

RecordingPlace = tuple[datetime, str]
"""When it began, and its id: what recordings are in order of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellRecording:
    """One recording."""

    id: str
    project: str
    """The project's uid."""
    instance: str
    """The instance's name then."""
    instance_uid: str
    subject: str
    """Who it was."""
    login: str
    """As whom in the guest."""
    started_at: datetime
    written_at: datetime
    """When it was last written, also when nothing was shown."""
    ended_at: datetime | None = None
    seconds: float = 0.0
    size: int = 0
    """Bytes that were shown, and said of sizes."""
    chunks: int = 0
    """In so many parts."""
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One more part of a recording."""

    id: str
    number: int
    """From 0."""
    content: bytes | None
    """Sealed; None: nothing was shown since."""
    seconds: float
    size: int
    at: datetime
    ended: bool = False
