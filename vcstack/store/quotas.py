"""Quotas: what is in use is what the objects' own records say, and limits are held by what transactions compare.

Use is the sum of what the records say (``uses.py``), so there is no counter that could drift. A transaction that
takes more of something compares the mark of all limits, so it knows each limit in force. If one of them is about
what it takes, it compares the mark of that limit's level, too, and stays within what that mark allows its process,
or overwrites it: of two that rest on the same sum one fails, and adds up anew (``allowances.py``). What frees
something compares nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import orjson

from vcstack.specs.columns import find_value
from vcstack.specs.errors import Cause, ErrorDetails, QuotaExceeded
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.allowances import NO_MARK, NONE, Amounts, read_grants, share_out
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Draft, Wire
from vcstack.store.etcd.ops import Compare, Delete, Op, Put
from vcstack.store.keys import GLOBAL, LIMITS, row_of, turn_key
from vcstack.store.levels import levels_of
from vcstack.store.limits import Limits
from vcstack.store.references import Referenced, Resolution, resolve

_LEVEL_KINDS: Final = ("Project", "Domain")
NO_LIMITS: Final[Mapping[str, Limits]] = {}


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

    takes: bytes = b""
    """What is stored with the object of what it takes, besides being one of its kind."""
    compares: list[Compare] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    turns: tuple[str, ...] = ()
    """The levels whose marks it overwrites: others that do so, too, will fail if they begin before it is done."""
    measures: bool = False
    """Whether what the object takes was not known before: a reason to write it though nothing else changes."""
    revokes: tuple[bytes, ...] = ()
    """Marks that have to be overwritten before: what they allow others may be all that is left."""


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


def plan_quota(
    cache: WatchCache, draft: Draft, resource: AnyResource, resolution: Resolution | None, *, dry_run: bool = False
) -> QuotaPlan:
    """Return how the object comes to take what it takes now.

    Raises:
        QuotaExceeded: it takes more than before, and a limit forbids that.
    """
    plan, definition = QuotaPlan(), draft.definition
    if not definition.is_counted:
        return plan
    taking = None
    if draft.live is not None:
        taking = cache.uses.find(definition, row_of(draft.project, draft.name))
        if taking is not None and not definition.amount_names:
            return plan
    more: dict[str, int] = {definition.plural: 1} if taking is None else {}
    if definition.amount_names:
        if taking is not None and taking.stored and resolution is None:
            plan.takes = taking.stored
            return plan
        if resolution is None:
            resolution = resolve(cache, draft, resource, allow_missing=True, dry_run=True)
        amounts = definition.amounts(resource, Measures(resolution.entries))
        if amounts is not None:
            plan.takes = orjson.dumps(amounts)
            before = taking.amounts if taking is not None else {}
            more |= {n: a - before.get(n, 0) for n, a in amounts.items() if a > before.get(n, 0)}
            plan.measures = is_unmeasured(cache, draft)
    if more and not plan.measures:  # what is on a host takes it already, and what is there stays
        plan.compares.append(Compare.mod_revision(LIMITS, "=", cache.marks.get(LIMITS, NO_MARK).revision))
        if cache.limits.any():
            level = taking.level if taking is not None else cache.limits.level_of(definition, _wire_of(draft))
            _hold_limits(cache, draft, plan, level, more, dry_run=dry_run)
    return plan


def is_unmeasured(cache: WatchCache, draft: Draft) -> bool:
    """Return whether an object that is on a host already has not been measured: one from before that was done."""
    definition = draft.definition
    if not definition.amount_names or draft.live is None or definition.node_path is None:
        return False
    taking = cache.uses.find(definition, row_of(draft.project, draft.name))
    return taking is not None and not taking.stored and bool(find_value(draft.live, definition.node_path))


def _hold_limits(
    cache: WatchCache, draft: Draft, plan: QuotaPlan, level: str, more: Mapping[str, int], *, dry_run: bool
) -> None:
    """Add what keeps the limits of the level and of all above it.

    Raises:
        QuotaExceeded: one of them would be exceeded.
    """
    excesses = find_excesses(cache, {level: more})
    if excesses:
        raise _refuse(draft, excesses)
    since = cache.marks.get(LIMITS, NO_MARK).revision
    turns: list[str] = []
    revokes: list[bytes] = []
    allowances = cache.allowances
    for each in levels_of(level):
        allowed = cache.limits.allowed(each)
        asked = {name: amount for name, amount in more.items() if name in allowed}
        if not asked:
            continue
        key = turn_key(each)
        mark = cache.marks.get(key, NO_MARK)
        # What was allowed under other limits is void: nobody who knows those of now relies on it.
        grants = read_grants(mark.value) if mark.revision > since else NONE
        plan.compares.append(Compare.mod_revision(key, "=", mark.revision))
        if allowances.cover(each, mark, grants.get(allowances.holder, {}), asked):
            if not dry_run:
                allowances.take(each, mark, asked)
            continue
        turns.append(each)
        room = _room(allowed, cache.uses.used(each), asked, grants)
        if any(room[name] < 0 for name in asked):
            revokes.append(key)
        else:
            plan.ops.append(Put(key, share_out(allowances.holder, grants, room, asked)))
    plan.turns, plan.revokes = tuple(turns), tuple(revokes)


def _room(allowed: Amounts, used: Amounts, asked: Amounts, grants: Mapping[str, Amounts]) -> Amounts:
    """Return what is left of each limit when what is asked is taken, and all that anybody may take without asking."""
    granted = Counter[str]()
    for amounts in grants.values():
        granted.update(amounts)
    return {name: limit - used.get(name, 0) - asked.get(name, 0) - granted[name] for name, limit in allowed.items()}


def find_turns(cache: WatchCache, definition: KindDefinition, row: str) -> Sequence[str]:
    """Return the levels at which an object that is to be made in a project will probably have to take its turn."""
    project = row.partition("/")[0]
    if not definition.is_counted or project == GLOBAL or cache.find(definition, row) is not None:
        return ()
    asked = dict.fromkeys((definition.plural, *definition.amount_names), 1)
    since, holder = cache.marks.get(LIMITS, NO_MARK).revision, cache.allowances.holder
    found = []
    for level in levels_of(cache.limits.level_of_project(project)):
        limited = {name: amount for name, amount in asked.items() if name in cache.limits.allowed(level)}
        if limited:
            mark = cache.marks.get(turn_key(level), NO_MARK)
            grants = read_grants(mark.value) if mark.revision > since else NONE
            if not cache.allowances.cover(level, mark, grants.get(holder, {}), limited):
                found.append(level)
    return found


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


def find_excesses(
    cache: WatchCache, asked: Mapping[str, Mapping[str, int]], changed: Mapping[str, Limits] = NO_LIMITS
) -> list[Excess]:
    """Return the limits that what is asked would exceed, at all levels that it counts at.

    Args:
        cache: what is in use, and the limits.
        asked: level → name → how much more.
        changed: quotas that are new or others than those in force, by what people know them by.
    """
    excesses: list[Excess] = []
    for level in sorted({above for each in asked for above in levels_of(each)}):
        found = [limits for limits in cache.limits.at(level) if limits.quota not in changed]
        found += [limits for limits in changed.values() if limits.level == level]
        if not found:
            continue
        amounts = Counter[str]()
        for each, more in asked.items():
            if level in levels_of(each):
                amounts.update(more)
        used = cache.uses.used(level)
        for limits in found:
            for name in amounts.keys() & limits.amounts.keys():
                total, allowed = used.get(name, 0), limits.amounts[name]
                if total + amounts[name] > allowed:
                    excesses.append(Excess(name, amounts[name], total, allowed, limits.quota))
    return sorted(excesses, key=str)


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


def _wire_of(draft: Draft) -> Wire:
    return {"metadata": draft.metadata, "spec": draft.spec}
