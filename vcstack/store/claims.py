"""Claims of a draft: what it takes, keeps and releases, as parts of the object's own transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from vcstack.specs.claims import Claim, within_limits
from vcstack.specs.errors import Cause, ClaimTaken, Conflict, ErrorDetails
from vcstack.specs.registry import get_kind, no_claims
from vcstack.specs.resource import AnyResource
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Draft
from vcstack.store.etcd.ops import Compare, Delete, Op, Put
from vcstack.store.keys import claim_key, object_key, pool_prefix, row_of
from vcstack.store.pools import Held
from vcstack.store.references import is_deleting

Limits = Mapping[str, Mapping[str, int]]
"""Pool → name → sum allowed."""

_HOLDER = ("kind", "project", "name", "uid")


@dataclass(slots=True)
class ClaimPlan:
    """What a transaction has to compare and do for an object's claims."""

    compares: list[Compare] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)


def plan_claims(cache: WatchCache, draft: Draft, resource: AnyResource, limits: Limits) -> ClaimPlan:
    """Return how the claims held become the claims wanted.

    A claim is compared with the cache's state: a unique one to be absent, a pool with a rule to be without
    insertions and changes since. So a transaction that succeeds was right, however old the cache was.

    Raises:
        ClaimTaken: somebody else holds it or the pool's rule refuses it.
    """
    plan = ClaimPlan()
    claims = draft.definition.claims
    wanted = {(c.pool, c.key): c for c in claims(resource)} if claims is not no_claims else {}
    held = cache.claims.held_by(resource.uid) if draft.live is not None else frozenset()
    for place in sorted(held - wanted.keys()):
        plan.ops.append(Delete(claim_key(*place)))
    causes = [c for claim in wanted.values() if (c := _plan_claim(plan, cache, claim, resource, limits)) is not None]
    if causes:
        details = ErrorDetails(kind=draft.definition.kind, project=draft.project or "", name=draft.name)
        message = "; ".join(f"{c.field}: {c.message}" for c in causes)
        raise ClaimTaken(f"{resource.ref}: {message}", causes=causes, details=details)
    return plan


def plan_release(cache: WatchCache, uid: str) -> list[Op]:
    """Return what releases everything that the object holds."""
    return [Delete(claim_key(*place)) for place in sorted(cache.claims.held_by(uid))]


def plan_emptiness(cache: WatchCache, draft: Draft) -> list[Compare]:
    """Return the comparison that nobody claims a part of an object that is to be removed.

    Raises:
        Conflict: somebody does.
    """
    if draft.definition.claimed_by is None:
        return []
    pool = draft.definition.claimed_by(draft.name)
    members = cache.claims.members(pool)
    if members:
        details = ErrorDetails(kind=draft.definition.kind, project=draft.project or "", name=draft.name)
        holders = sorted(f"{m['kind']} {m['name']}" for m in (held.decode() for held in members.values()))
        raise Conflict(f"{draft.definition.kind} {draft.name} is claimed by {', '.join(holders[:8])}", details=details)
    return [Compare.range_absent(pool_prefix(pool))]


def _plan_claim(
    plan: ClaimPlan, cache: WatchCache, claim: Claim, resource: AnyResource, limits: Limits
) -> Cause | None:
    held = cache.claims.find(claim.pool, claim.key)
    if held is not None and held.uid != resource.uid:
        message = f"{claim.key} is held by {_describe(held, resource)}; choose another or leave it out"
        return Cause(field=claim.field, reason="ClaimTaken", message=message)
    meta = resource.metadata
    holder = {"kind": resource.kind, "project": meta.project, "name": meta.name, "uid": meta.uid}
    value = orjson.dumps({**holder, **claim.value})
    if held is not None and held.value == value:
        return None
    if claim.rule is not None or claim.pool in limits:
        fault = _check_pool(cache, claim, resource, limits.get(claim.pool))
        if fault is not None:
            return Cause(field=claim.field, reason="ClaimTaken", message=fault)
        plan.compares.append(Compare.range_unchanged(pool_prefix(claim.pool), cache.revision))
    key = claim_key(claim.pool, claim.key)
    if held is None and claim.on is not None:
        definition, row = get_kind(claim.on.kind), row_of(claim.on.project, claim.on.name)
        entry = cache.find(definition, row)
        if entry is None or is_deleting(entry):
            fault = f"{claim.on} is being deleted" if entry is not None else f"there is no {claim.on} any more"
            return Cause(field=claim.field, reason="ClaimTaken", message=fault)
        # That it exists is enough: it is not removed while claims on it are held.
        plan.compares.append(Compare.exists(object_key(definition, row)))
    if held is None:
        plan.compares.append(Compare.absent(key))
    plan.ops.append(Put(key, value))
    return None


def _check_pool(cache: WatchCache, claim: Claim, resource: AnyResource, limits: Mapping[str, int] | None) -> str | None:
    others = {
        key: _visible(held.decode(), resource)
        for key, held in cache.claims.members(claim.pool).items()
        if key != claim.key
    }
    fault = claim.rule(others) if claim.rule is not None else None
    if fault is None and limits is not None:
        fault = within_limits({n: int(claim.value.get(n, 0)) for n in limits}, limits)(others)
    return fault


def _visible(member: dict[str, Any], resource: AnyResource) -> dict[str, Any]:
    """Return what the resource's project may learn of a member: no names of another project's objects."""
    if member.get("project") in (None, resource.metadata.project):
        return member
    return {k: v for k, v in member.items() if k not in _HOLDER}


def _describe(held: Held, resource: AnyResource) -> str:
    member = _visible(held.decode(), resource)
    return f"{member['kind']} {member['name']}" if "kind" in member else "an object of another project"
