"""What of the audit trail an operator may turn, and of the log beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final


class Level(StrEnum):
    """How much of a request is kept."""

    NONE = "None"
    METADATA = "Metadata"
    REQUEST = "Request"
    """Metadata, and the body without secrets."""


class AccessLog(StrEnum):
    """Which requests get a line in the log, each besides those that are refused or fail."""

    UNRECORDED = "Unrecorded"
    """What changes something and is not in the audit trail: it would stand there twice."""
    CHANGES = "Changes"
    """What changes something."""
    ALL = "All"
    """All."""


class OnFailure(StrEnum):
    """What becomes of writes while the trail cannot be written."""

    REFUSE = "Refuse"
    CONTINUE = "Continue"


@dataclass(frozen=True, slots=True)
class KindLevels:
    """The levels of one kind; None: as for all kinds."""

    writes: Level | None = None
    reads: Level | None = None


_IDENTITIES = ("Domain", "Project", "User", "Group", "Role", "RoleBinding", "ServiceAccount", "APIKey", "Quota")
DEFAULT_KINDS: Final[Mapping[str, KindLevels]] = MappingProxyType(
    {
        **{kind: KindLevels(writes=Level.REQUEST) for kind in _IDENTITIES},
        "Secret": KindLevels(reads=Level.METADATA),
        "Key": KindLevels(reads=Level.METADATA),
    }
)
"""Where rights change, what was given is worth keeping; who read a secret is worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """All of it."""

    folder: Path
    """Where the chains' segments lie, one folder a chain."""
    anchor_file: Path
    """Where the chains' ends are noted; better on another machine's file system."""
    webhook_url: str = ""
    """Where they are sent as well, https; empty: nowhere."""
    writes: Level = Level.METADATA
    """Of requests that change something."""
    reads: Level = Level.NONE
    """Of those that do not."""
    kinds: Mapping[str, KindLevels] = field(default_factory=dict)
    """What differs for a kind; on top of DEFAULT_KINDS."""
    on_failure: OnFailure = OnFailure.REFUSE
    """Whether writes are refused that could not be recorded."""
    reserve_mib: int = 64
    """With less space left on the disk the trail counts as one that cannot be written."""
    segment_mib: int = 16
    """A segment is closed at this size."""
    local_days: int = 7
    """Segments that are in PostgreSQL are kept that long here as well, should it be restored from a backup."""
    retention_days: int = 400
    """Records are removed after that; without PostgreSQL the segments."""
    anchor_seconds: int = 60
    """How often the chain's end is noted. What is cut off within it, everywhere at once, does not show."""
