"""How much of a quota's limits is in use, and who takes most of it: added up from the claims."""

import heapq
from collections.abc import Iterable

from vcstack.specs.model import Model
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Wire
from vcstack.store.pools import amounts_of

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
    used, project = cache.claims.used(level), quota["metadata"].get("project")
    items = []
    for name, limit in sorted((quota["spec"].get("limits") or {}).items()):
        holders = _objects(cache, level, name) if project else _places(cache, level, name)
        largest = heapq.nsmallest(SHOWN, holders, key=lambda h: (-h.amount, h.kind, h.name))
        items.append(LimitUsage(name=name, limit=limit, used=used.get(name, 0), largest=largest))
    place = {"name": quota["metadata"]["name"], "project": project, "domain": quota["spec"].get("domain")}
    return QuotaUsage(**place, items=items)


def _objects(cache: WatchCache, pool: str, name: str) -> Iterable[Holder]:
    """Yield the project's objects by what they take; of what each is one of there is no largest."""
    for key, held in cache.claims.members(pool).items():
        if not key.startswith(f"{name}."):
            claim = held.decode()
            amount = amounts_of(claim).get(name, 0)
            if amount:
                yield Holder(kind=claim["kind"], name=claim["name"], amount=amount)


def _places(cache: WatchCache, level: str, name: str) -> Iterable[Holder]:
    """Yield the domains and projects directly below by what they take together."""
    for below in cache.claims.levels_below(level):
        amount = cache.claims.used(below).get(name, 0)
        step = below.rpartition("/")[2]
        if amount:
            kind = "Project" if step.startswith("@") else "Domain"
            yield Holder(kind=kind, name=step.removeprefix("@"), amount=amount)
