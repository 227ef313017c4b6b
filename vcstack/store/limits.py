"""The limits in force and where they hold (see ``levels.py``), kept from the cached quotas, domains and projects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from vcstack.specs.columns import find_value
from vcstack.specs.registry import KindDefinition
from vcstack.store.keys import row_of
from vcstack.store.levels import CLOUD
from vcstack.store.table import Entry, Table

Wire = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """One quota's limits."""

    quota: str
    """What people know it by."""
    level: str
    amounts: Mapping[str, int]
    """What may be in use, by name."""


class LimitBook:
    """Looks up limits and levels; what it has decoded it remembers as long as it is the same."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._quotas, self._projects = tables["quotas"], tables["projects"]
        self._domains, self._users = tables["domains"], tables["users"]
        self._seen: tuple[object, int] = (None, -1)
        self._decoded: dict[str, tuple[Entry, Limits]] = {}
        self._at: dict[str, list[Limits]] = {}
        self._allowed: dict[str, dict[str, int]] = {}
        self._levels: dict[str, tuple[Entry, str]] = {}

    def any(self) -> bool:
        """Return whether there is any limit at all."""
        if self._seen[1] != self._quotas.revision or self._seen[0] is not self._quotas.objects:
            self._read_quotas()
        return bool(self._at)

    def at(self, level: str) -> Sequence[Limits]:
        """Return the limits of that very level."""
        return self._at.get(level, ()) if self.any() else ()

    def allowed(self, level: str) -> Mapping[str, int]:
        """Return how much there may be at that very level, by name: of several limits the lowest."""
        return self._allowed.get(level, {}) if self.any() else {}

    def level_of_quota(self, wire: Wire, made: Mapping[str, Wire] | None = None) -> str:
        """Return where a quota's limits hold; ``made`` as of ``level_of``."""
        project = wire["metadata"].get("project")
        if project:
            return self.level_of_project(project, made)
        return self.level_of_domain(wire["spec"].get("domain"), made)

    def read_quota(self, wire: Wire, made: Mapping[str, Wire] | None = None) -> Limits:
        """Return a quota's limits; ``made`` as of ``level_of``."""
        metadata, spec = wire["metadata"], wire["spec"]
        project, domain = metadata.get("project"), spec.get("domain")
        where = f"project {project}" if project else f"domain {domain}" if domain else "the whole cloud"
        name = f"quota {metadata['name']} of {where}"
        return Limits(name, self.level_of_quota(wire, made), spec.get("limits") or {})

    def level_of(self, definition: KindDefinition, wire: Wire, made: Mapping[str, Wire] | None = None) -> str:
        """Return where an object is counted.

        Args:
            definition: its kind.
            wire: the object.
            made: domains and projects that are not there yet, by place (projects/-/demo).
        """
        project = wire["metadata"].get("project")
        if project:
            return self.level_of_project(project, made)
        owner = find_value(wire, definition.owner_path) if definition.owner_path else None
        if isinstance(owner, str):
            entry = self._users.objects.get(row_of(None, owner))
            domain = orjson.loads(entry.json)["spec"].get("domain") if entry else None
        else:
            domain = find_value(wire, definition.domain_path) if definition.domain_path else None
        return self.level_of_domain(domain if isinstance(domain, str) else None, made)

    def domain_of(self, definition: KindDefinition, wire: Wire) -> str:
        """Return the domain that an object outside projects lies in; empty: at the top."""
        owner = find_value(wire, definition.owner_path) if definition.owner_path else None
        if isinstance(owner, Mapping):  # whose session it is; service accounts lie in projects
            entry = (
                self._users.objects.get(row_of(None, str(owner.get("name")))) if owner.get("kind") == "User" else None
            )
            return (orjson.loads(entry.json)["spec"].get("domain") or "") if entry else ""
        above, _, domain = self.level_of(definition, wire).rpartition("/")
        return domain if above else ""

    def level_of_project(self, name: str, made: Mapping[str, Wire] | None = None) -> str:
        """Return where what lies in the project is counted."""
        row = row_of(None, name)
        entry = self._projects.objects.get(row)
        known = self._levels.get(row)
        if known is not None and known[0] is entry:
            return known[1]
        wire = _find(self._projects, row, made)
        level = f"{self.level_of_domain((wire.get('spec') or {}).get('domain'), made)}/@{name}"
        if entry is not None:
            self._levels[row] = (entry, level)
            if len(self._levels) > len(self._projects.objects):
                self._levels = {r: found for r, found in self._levels.items() if r in self._projects.objects}
        else:
            self._levels.pop(row, None)
        return level

    def level_of_domain(self, name: str | None, made: Mapping[str, Wire] | None = None) -> str:
        """Return where what lies in the domain is counted; None: at the top."""
        chain: list[str] = []
        while isinstance(name, str) and name not in chain:
            chain.append(name)
            name = (_find(self._domains, row_of(None, name), made).get("spec") or {}).get("parent")
        return "/".join((CLOUD, *reversed(chain)))

    def _read_quotas(self) -> None:
        self._seen = (self._quotas.objects, self._quotas.revision)
        before, self._decoded, self._at, self._allowed = self._decoded, {}, {}, {}
        for row, entry in self._quotas.objects.items():
            known = before.get(row)
            found = (
                known if known is not None and known[0] is entry else (entry, self.read_quota(orjson.loads(entry.json)))
            )
            self._decoded[row] = found
            limits = found[1]
            self._at.setdefault(limits.level, []).append(limits)
            allowed = self._allowed.setdefault(limits.level, {})
            for name, amount in limits.amounts.items():
                allowed[name] = min(amount, allowed.get(name, amount))


def _find(table: Table, row: str, made: Mapping[str, Wire] | None) -> Wire:
    entry = table.objects.get(row)
    if entry is not None:
        found: Wire = orjson.loads(entry.json)
        return found
    return (made or {}).get(f"{table.definition.plural}/{row}", {})
