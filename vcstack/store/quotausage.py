"""How much of a quota's limits is in use, and who takes most of it: added up from what the objects take."""

import heapq
from collections.abc import Iterable, Mapping, Sequence

import orjson

from vcstack.specs.columns import find_value
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition, get_kind, load_kinds
from vcstack.specs.resource import Ref
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Wire
from vcstack.store.keys import GLOBAL, row_of
from vcstack.store.levels import levels_of

SHOWN = 5


class Holder(Model):
    """Somebody who takes a part of a limit."""

    kind: str
    """Project or Domain when the quota is a domain's, else the object's kind."""
    name: str
    """Its name."""
    amount: int
    """What it takes."""


class LimitUsage(Model):
    """One limit."""

    name: str
    """What is limited."""
    limit: int
    """How much there may be."""
    used: int
    """How much there is; more than the limit when that was lowered later."""
    largest: list[Holder]
    """Who takes most of it, the largest first."""


class QuotaUsage(Model):
    """How much of a quota's limits is in use."""

    kind: str = "QuotaUsage"
    """Always QuotaUsage."""
    name: str
    """The quota's name."""
    project: str | None = None
    """The project that it limits."""
    domain: str | None = None
    """The domain that it limits."""
    items: list[LimitUsage]
    """Its limits, by name."""
    shared: bool = False
    """Whether others take of the same limits: then used is what this project takes, and what is left may be less."""


class QuotasInForce(Model):
    """All limits that hold in a project."""

    kind: str = "QuotasInForce"
    """Always QuotasInForce."""
    project: str
    """The project."""
    items: list[QuotaUsage]
    """Its own quotas first, then those of its domain, of the domains above and of the whole cloud."""


def read_usage(cache: WatchCache, quota: Wire) -> QuotaUsage:
    """Return how much of the quota's limits is in use."""
    level = cache.limits.level_of_quota(quota)
    used, project = cache.uses.used(level), quota["metadata"].get("project")
    items = []
    for name, limit in sorted((quota["spec"].get("limits") or {}).items()):
        holders = _objects(cache, project, name) if project else _places(cache, level, name)
        largest = heapq.nsmallest(SHOWN, holders, key=lambda h: (-h.amount, h.kind, h.name))
        items.append(LimitUsage(name=name, limit=limit, used=used.get(name, 0), largest=largest))
    place = {"name": quota["metadata"]["name"], "project": project, "domain": quota["spec"].get("domain")}
    return QuotaUsage(**place, items=items)


def read_in_force(cache: WatchCache, project: str) -> QuotasInForce:
    """Return the limits that hold in a project with what it takes of them, and nothing of what others take."""
    levels = levels_of(cache.limits.level_of_project(project))
    used = cache.uses.used(levels[-1])
    quotas = cache.table(get_kind("Quota"))
    own = [orjson.loads(quotas.objects[row].json) for row in quotas.rows(project)]
    found = [read_usage(cache, quota) for quota in own]
    others = [orjson.loads(quotas.objects[row].json) for row in quotas.rows(GLOBAL)]
    for level in reversed(levels[:-1]):
        for quota in others:
            if cache.limits.level_of_quota(quota) == level:
                limits = sorted((quota["spec"].get("limits") or {}).items())
                items = [LimitUsage(name=n, limit=limit, used=used.get(n, 0), largest=[]) for n, limit in limits]
                domain = quota["spec"].get("domain")
                found.append(QuotaUsage(name=quota["metadata"]["name"], domain=domain, items=items, shared=True))
    return QuotasInForce(project=project, items=found)


class QuotaUse:
    """Tells the controllers how much of a quota is in use."""

    def __init__(self, cache: WatchCache) -> None:
        self._cache = cache

    def of(self, project: str | None, name: str) -> Mapping[str, int]:
        """Return how much is in use of each of the quota's limits; nothing of a quota that is gone."""
        entry = self._cache.find(get_kind("Quota"), row_of(project, name))
        if entry is None:
            return {}
        quota = orjson.loads(entry.json)
        used = self._cache.uses.used(self._cache.limits.level_of_quota(quota))
        return {name: used.get(name, 0) for name in sorted(quota["spec"].get("limits") or {})}

    def unmeasured(self) -> Sequence[Ref]:
        """Return the objects on hosts of which is not known what they take, from before that was stored with them."""
        found = []
        for definition in load_kinds().values():
            for row in self._cache.uses.unmeasured(definition):
                if _is_bound(self._cache, definition, row):
                    project, _, name = row.partition("/")
                    found.append(Ref(definition.kind, None if project == GLOBAL else project, name))
        return found


def _is_bound(cache: WatchCache, definition: KindDefinition, row: str) -> bool:
    entry = cache.find(definition, row)
    path = definition.node_path
    return entry is not None and path is not None and bool(find_value(orjson.loads(entry.json), path))


def _objects(cache: WatchCache, project: str, name: str) -> Iterable[Holder]:
    """Yield the project's objects by what they take; of what each is one of there is no largest."""
    for definition in load_kinds().values():
        if name in definition.amount_names:
            for row in cache.table(definition).rows(project):
                taking = cache.uses.find(definition, row)
                amount = taking.amounts.get(name, 0) if taking is not None else 0
                if amount:
                    yield Holder(kind=definition.kind, name=row.partition("/")[2], amount=amount)


def _places(cache: WatchCache, level: str, name: str) -> Iterable[Holder]:
    """Yield the domains and projects directly below by what they take together."""
    for below in cache.uses.levels_below(level):
        amount = cache.uses.used(below).get(name, 0)
        step = below.rpartition("/")[2]
        if amount:
            kind = "Project" if step.startswith("@") else "Domain"
            yield Holder(kind=kind, name=step.removeprefix("@"), amount=amount)
