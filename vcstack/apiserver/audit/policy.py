"""Which requests are recorded, and how much of them."""

from collections.abc import Mapping
from typing import Final

from vcstack.apiserver.audit.settings import DEFAULT_KINDS, AuditSettings, KindLevels, Level
from vcstack.apiserver.targets import Target

DENIALS: Final = frozenset({401, 403, 429})
"""Always recorded, whatever the levels say."""
HOST_WRITES: Final = frozenset({"certificate", "tunnel"})
"""What hosts do that is recorded. All else that they write is observation, and stands in history."""
REVEALING: Final = frozenset({"audit", "content", "log", "recordings", "screenshot"})
"""Reads by people that are recorded unless a kind's level says otherwise: what is handed out is more than an object."""
CONTROLLED: Final = frozenset({"Secret", "Session", "Key"})
"""What controllers do to these is recorded besides what they do to kinds that have a level."""
TRAIL: Final = "/api/v1/audit"


class Policy:
    """The levels in force. It never changes: other settings are another policy."""

    def __init__(self, settings: AuditSettings) -> None:
        self._writes, self._reads = settings.writes, settings.reads
        kinds: Mapping[str, KindLevels] = {
            kind: _merge(DEFAULT_KINDS.get(kind, KindLevels()), settings.kinds.get(kind, KindLevels()))
            for kind in {*DEFAULT_KINDS, *settings.kinds}
        }
        self._writes_of = {kind: levels.writes for kind, levels in kinds.items() if levels.writes}
        self._reads_of = {kind: levels.reads for kind, levels in kinds.items() if levels.reads}

    def for_write(self, target: Target, *, by_host: bool) -> Level:
        """Return the level of a request that changes something."""
        if by_host and target.subresource not in HOST_WRITES:
            return Level.NONE
        return self._writes_of.get(target.definition.kind, self._writes)

    def for_read(self, target: Target, *, by_host: bool) -> Level:
        """Return the level of a request that changes nothing, a watch that begins included."""
        level = self._reads_of.get(target.definition.kind)
        if level is None:
            level = self._reads
            if level is Level.NONE and target.subresource in REVEALING and not by_host:
                return Level.METADATA
        return level

    def for_controllers(self, kind: str) -> Level:
        """Return the level of what controllers write: of kinds that give rights, and of those with a level."""
        return self._writes_of.get(kind, Level.METADATA if kind in CONTROLLED else Level.NONE)

    def for_path(self, path: str, *, reads: bool) -> Level:
        """Return the level of a request that names no kind: logins, joins, and reading the trail, which always is."""
        if path.startswith(TRAIL):
            return Level.METADATA
        return self._reads if reads else self._writes

    def describe(self) -> str:
        """Return the levels as a sentence, for the record that tells of a change."""
        kinds = sorted({*self._writes_of, *self._reads_of})
        told = [
            f"{kind} {self._writes_of.get(kind, self._writes)}/{self._reads_of.get(kind, self._reads)}"
            for kind in kinds
        ]
        return f"writes {self._writes}, reads {self._reads}; " + ", ".join(told)


def _merge(base: KindLevels, over: KindLevels) -> KindLevels:
    return KindLevels(writes=over.writes or base.writes, reads=over.reads or base.reads)
