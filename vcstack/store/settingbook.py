"""The settings in force, kept from the cached objects: what counts for a project or domain, and where that is from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import structlog

from vcstack.specs.settings import BOUNDED, KNOWN_SETTINGS, KnownSetting, SettingScope, Source
from vcstack.store.levels import levels_of
from vcstack.store.limits import LimitBook
from vcstack.store.table import Table

log = structlog.get_logger(__name__)


_DEFAULTS: Mapping[str, Source] = {k.name: Source(k.default, k.read(k.default)) for k in KNOWN_SETTINGS.values()}


class SettingBook:
    """Looks up settings; implements ``SettingReader``. An object is decoded once."""

    def __init__(self, tables: Mapping[str, Table], limits: LimitBook) -> None:
        self._table = tables["settings"]
        self._limits = limits
        self._seen: tuple[object, int] = (None, -1)
        self._at: dict[tuple[str, str], Source] = {}

    def find(self, name: str, *, project: str | None = None, domain: str | None = None) -> Source:
        """Return what counts for the project, else the domain, else the whole cloud, and where it is from.

        Of what can be at most or at least what is set above, a nearer value counts as far as that allows, unless it
        is locked: an exception that somebody above has made.
        """
        if self._seen[1] != self._table.revision or self._seen[0] is not self._table.objects:
            self._read()
        if self._at:
            limits = self._limits
            level = limits.level_of_project(project) if project else limits.level_of_domain(domain)
            set_ = [found for each in levels_of(level) if (found := self._at.get((each, name))) is not None]
            if set_:
                known = KNOWN_SETTINGS[name]
                return _narrow(known, set_) if known.delegation in BOUNDED else set_[-1]
        return _DEFAULTS[name]

    def duration(self, name: str, *, project: str | None = None, domain: str | None = None) -> timedelta:
        """Return a duration."""
        found = self.find(name, project=project, domain=domain).used
        assert isinstance(found, timedelta)
        return found

    def number(self, name: str, *, project: str | None = None, domain: str | None = None) -> int:
        """Return a number."""
        found = self.find(name, project=project, domain=domain).used
        assert isinstance(found, int)
        return found

    def text(self, name: str, *, project: str | None = None, domain: str | None = None) -> str:
        """Return a text or one of the choices."""
        found = self.find(name, project=project, domain=domain).used
        assert isinstance(found, str)
        return found

    def flag(self, name: str, *, project: str | None = None, domain: str | None = None) -> bool:
        """Return yes or no."""
        return self.find(name, project=project, domain=domain).used is True

    def _read(self) -> None:
        self._seen, self._at = (self._table.objects, self._table.revision), {}
        for row, entry in self._table.objects.items():
            try:
                wire = orjson.loads(entry.json)
                if "deletionTimestamp" not in wire["metadata"]:
                    self._take_in(wire)
            except (ValueError, KeyError, TypeError):
                # A release before may have known it, or other limits: the next one up counts.
                log.warning("setting.unreadable", row=row)

    def _take_in(self, wire: Mapping[str, Any]) -> None:
        spec, project = wire["spec"], wire["metadata"].get("project")
        used, domain = KNOWN_SETTINGS[spec["setting"]].read(spec["value"]), spec.get("domain")
        scope = SettingScope.PROJECT if project else SettingScope.DOMAIN if domain else SettingScope.CLOUD
        source = Source(
            spec["value"], used, scope, project or domain or "", wire["metadata"]["name"], spec.get("locked") is True
        )
        self._at[self._limits.level_of_quota(wire), spec["setting"]] = source


def _narrow(known: KnownSetting, set_: Sequence[Source]) -> Source:
    """Return what counts of the values that are set, the outermost first."""
    counts = set_[0]
    for nearer in set_[1:]:
        if nearer.locked or known.is_within(nearer.used, counts.used):
            counts = nearer
        else:
            counts = replace(counts, overrules=nearer)
    return counts
