"""Which requests are recorded, and how much of them."""

from collections.abc import Mapping
from typing import Final

from vcstack.apiserver.audit.settings import DEFAULT_KINDS, AuditSettings, KindLevels, Level
from vcstack.apiserver.targets import Target

DENIALS: Final = frozenset({401, 403, 429})
"""Always recorded, whatever the levels say."""
HOST_WRITES: Final = frozenset({"certificate"})
"""What hosts do that is recorded. All else that they write is observation, and stands in history."""


class Policy:
    """The levels in force."""

    def __init__(self, settings: AuditSettings) -> None:
        self._writes, self._reads = settings.writes, settings.reads
        self._kinds: Mapping[str, KindLevels] = {
            kind: _merge(DEFAULT_KINDS.get(kind, KindLevels()), settings.kinds.get(kind, KindLevels()))
            for kind in {*DEFAULT_KINDS, *settings.kinds}
        }

    def for_write(self, target: Target | None) -> Level:
        """Return the level of a request that changes something."""
        levels = self._kinds.get(target.definition.kind) if target else None
        return (levels.writes if levels else None) or self._writes

    def for_read(self, target: Target | None) -> Level:
        """Return the level of a request that changes nothing."""
        levels = self._kinds.get(target.definition.kind) if target else None
        return (levels.reads if levels else None) or self._reads


def _merge(base: KindLevels, over: KindLevels) -> KindLevels:
    return KindLevels(writes=over.writes or base.writes, reads=over.reads or base.reads)
