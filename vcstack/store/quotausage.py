"""How much of a quota's limits is in use, and who takes most of it: added up from what the objects take."""

import heapq
from collections.abc import Iterable

from vcstack.specs.model import Model
from vcstack.specs.registry import load_kinds
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Wire

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
