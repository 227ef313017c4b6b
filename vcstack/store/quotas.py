"""Quotas: what an object takes is a claim in its own transaction, and limits are held by what that compares.

Use is the sum of the claims, so there is no counter that could drift. A transaction that takes more of
something compares the mark of all limits, so it knows each limit in force. If one of them is about what it
takes, it overwrites the mark of that limit's level and compares that nobody else has done so: of two that
rest on the same sum one fails, and adds up anew. Marks are single keys because etcd looks at every key of a
range that is compared, and a domain may have 100,000 claims. What frees something compares nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from vcstack.specs.errors import Cause, ErrorDetails, QuotaExceeded
from vcstack.specs.registry import KindDefinition, get_kind, no_amounts
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Draft, Wire
from vcstack.store.etcd.ops import Compare, Delete, Op, Put
from vcstack.store.keys import GLOBAL, LIMITS, claim_key, turn_key
from vcstack.store.pools import Held, amounts_of, is_quota, levels_of
from vcstack.store.references import Referenced, Resolution, resolve

INCOMPLETE = b'"incomplete":true'
"""In the claim of an object that cannot be measured yet: it is measured at its next write."""
_LEVEL_KINDS = ("Project", "Domain")


class Measures(Referenced):
    """What objects are measured by: few and always the same, so they are decoded once."""

    def __getitem__(self, ref: Ref) -> AnyResource:
        return _decode(ref.kind, self._entries[ref].json)


@lru_cache(maxsize=256)
def _decode(kind: str, json: bytes) -> AnyResource:
    return get_kind(kind).model.from_wire(json)


@dataclass(slots=True)
class QuotaPlan:
    """What a transaction has to compare and do for what its object takes."""

    compares: list[Compare] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that would be exceeded."""

    name: str
    asked: int
    used: int
    allowed: int
    quota: str

    def __str__(self) -> str:
        return f"{self.name}: {self.asked} asked, {self.used} of {self.allowed} in use ({self.quota})"


def plan_quota(cache: WatchCache, draft: Draft, resource: AnyResource, resolution: Resolution | None) -> QuotaPlan:
    """Return how the object's claim becomes what the object takes now.

    Raises:
        QuotaExceeded: it takes more than before, and a limit forbids that.
    """
    plan, definition = QuotaPlan(), draft.definition
    if not definition.is_counted:
        return plan
    place, held = find_claim(cache, resource.uid) if draft.live is not None else (None, None)
    if held is not None and resolution is None and INCOMPLETE not in held.value:
        return plan
    if resolution is None and definition.amounts is not no_amounts:
        resolution = resolve(cache, draft, resource, allow_missing=True, dry_run=True)
    amounts, complete = measure(definition, resource, Measures(resolution.entries) if resolution else {})
    pool = place[0] if place is not None else cache.limits.level_of(definition, _wire_of(draft))
    value = _build_value(resource, amounts, complete)
    if held is not None and held.value == value:
        return plan
    before = amounts_of(held.decode()) if held is not None else {}
    more = {n: a - before.get(n, 0) for n, a in amounts.items() if a > before.get(n, 0)}
    if more:
        turns, excesses = check_levels(cache, {pool: more})
        if excesses:
            raise _refuse(draft, excesses)
        plan.turns = tuple(turns)
        plan.compares.append(_unchanged(cache, LIMITS))
        plan.compares += [_unchanged(cache, turn_key(level)) for level in turns]
        plan.ops += [Put(turn_key(level), b"") for level in turns]
    plan.ops.append(Put(claim_key(pool, f"{definition.plural}.{resource.uid}"), value))
    return plan


def find_turns(cache: WatchCache, definition: KindDefinition, row: str) -> Sequence[str]:
    """Return the levels whose limits an object will be held to that is to be made in a project."""
    project = row.partition("/")[0]
    if not definition.is_counted or project == GLOBAL or cache.find(definition, row) is not None:
        return ()
    names = {definition.plural, *definition.amount_names}
    levels = levels_of(cache.limits.level_of_project(project))
    return [level for level in levels if any(names & limits.amounts.keys() for limits in cache.limits.at(level))]


def plan_change_of_limits(draft: Draft) -> Sequence[Op]:
    """Return what tells all writers that limits are others from now on."""
    return (Put(LIMITS, b""),) if draft.definition.kind == "Quota" and draft.spec_changed else ()


def plan_removal_of_level(cache: WatchCache, draft: Draft) -> Sequence[Op]:
    """Return what removes the mark of a project or domain that goes."""
    if draft.definition.kind not in _LEVEL_KINDS:
        return ()
    limits = cache.limits
    level_of = limits.level_of_project if draft.definition.kind == "Project" else limits.level_of_domain
    return (Delete(turn_key(level_of(draft.name))),)


def find_claim(cache: WatchCache, uid: str) -> tuple[tuple[str, str] | None, Held | None]:
    """Return the place and the claim by which the object is counted; None when it is not counted yet."""
    for place in cache.claims.held_by(uid):
        if is_quota(place[0]):
            return place, cache.claims.find(*place)
    return None, None


def measure(
    definition: KindDefinition, resource: AnyResource, referenced: Mapping[Ref, AnyResource]
) -> tuple[Mapping[str, int], bool]:
    """Return what the object takes by name, itself included, and whether that is all or more is not known yet."""
    amounts = definition.amounts(resource, referenced) if definition.amounts is not no_amounts else {}
    return {definition.plural: 1, **(amounts or {})}, amounts is not None


def check_levels(cache: WatchCache, asked: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[Excess]]:
    """Look at all levels that what is asked counts at.

    Args:
        cache: the claims and limits.
        asked: pool → name → how much more.

    Returns:
        The levels that have a limit for any of it, from the top down, and the limits that it would exceed.
    """
    limited: list[str] = []
    excesses: list[Excess] = []
    for level in sorted({level for pool in asked for level in levels_of(pool)}):
        found = cache.limits.at(level)
        if not found:
            continue
        amounts = Counter[str]()
        for pool, more in asked.items():
            if level in levels_of(pool):
                amounts.update(more)
        for limits in found:
            for name in amounts.keys() & limits.amounts.keys():
                used, allowed = cache.claims.used(level).get(name, 0), limits.amounts[name]
                if level not in limited:
                    limited.append(level)
                if used + amounts[name] > allowed:
                    excesses.append(Excess(name, amounts[name], used, allowed, limits.quota))
    return limited, sorted(excesses, key=str)


def build_error(
    fault: str, excesses: Sequence[Excess], causes: Sequence[Cause], details: ErrorDetails
) -> QuotaExceeded:
    """Return the error that names the limits."""
    return QuotaExceeded(f"{fault}: {'; '.join(map(str, excesses))}", causes=causes, details=details)


def _refuse(draft: Draft, excesses: Sequence[Excess]) -> QuotaExceeded:
    definition = draft.definition
    place = "metadata.project" if draft.project else definition.domain_path or "metadata.name"
    causes = [
        Cause(
            field=definition.amounts_path if e.name in definition.amount_names else place,
            reason="QuotaExceeded",
            message=str(e),
        )
        for e in excesses
    ]
    details = ErrorDetails(kind=definition.kind, project=draft.project or "", name=draft.name)
    return build_error(f"{definition.kind} {draft.name} exceeds a quota", excesses, causes, details)


def _build_value(resource: AnyResource, amounts: Mapping[str, int], complete: bool) -> bytes:
    meta = resource.metadata
    value = {"kind": resource.kind, "project": meta.project, "name": meta.name, "uid": meta.uid, "amounts": amounts}
    return orjson.dumps(value if complete else {**value, "incomplete": True})


def _wire_of(draft: Draft) -> Wire:
    return {"metadata": draft.metadata, "spec": draft.spec}


def _unchanged(cache: WatchCache, key: bytes) -> Compare:
    return Compare.mod_revision(key, "=", cache.marks.get(key, 0))
