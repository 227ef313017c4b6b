"""From a draft to one transaction: validation, rules, claims, field managers, bytes. No I/O."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from vcstack.specs.errors import Cause
from vcstack.specs.meta import API_VERSION, format_time
from vcstack.specs.model import Change
from vcstack.specs.plan import compare
from vcstack.specs.registry import get_kind, no_causes
from vcstack.specs.resource import AnyResource
from vcstack.specs.sensitive import has_sensitive
from vcstack.store.actor import Actor
from vcstack.store.allowances import NO_MARK
from vcstack.store.cache import WatchCache
from vcstack.store.claims import Limits, plan_claims, plan_emptiness, plan_release
from vcstack.store.draft import Draft, Wire, build_new
from vcstack.store.encoding import build_value
from vcstack.store.etcd.ops import Compare, Delete, Op, Put
from vcstack.store.keys import POLICIES, TOMBSTONE, object_key, row_of
from vcstack.store.managed import encode_managed_fields
from vcstack.store.quotas import plan_change_of_limits, plan_quota, plan_removal_of_level
from vcstack.store.readiness import derive_ready
from vcstack.store.references import Referenced, Resolution, check_project, resolve
from vcstack.store.validation import build_cause, check_size, encode, refuse, validate
from vcstack.store.values import Masked, delete_values

BEGINNER: Final = Actor("system:defaults", "defaults")
"""Who makes what objects begin with."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a write is done."""

    actor: Actor
    dry_run: bool = False
    allow_missing_references: bool = False
    limits: Limits = field(default_factory=dict)
    subresource: str = ""
    """status: the field manager's entry is kept apart."""
    values: Masked | None = None
    """Of kinds with sensitive fields: what their stand-ins stand for."""


@dataclass(slots=True)
class Transaction:
    """One write of one object, ready to be sent."""

    draft: Draft
    key: bytes
    value: bytes
    """What is stored; for a removal the API's JSON of the last state."""
    compares: list[Compare]
    ops: list[Op]
    removes: bool = False
    resource: AnyResource | None = None
    """The object as it would be; None: it goes."""
    turns: tuple[str, ...] = ()
    """The levels whose marks it overwrites: others that do so, too, will fail if they begin before it is done."""
    measures: bool = False
    """Whether it is written to say what the object takes, if for nothing else."""
    revokes: tuple[bytes, ...] = ()
    """Marks that have to be overwritten first: it must not be sent, but composed anew."""


def compose(cache: WatchCache, draft: Draft, terms: Terms, now: datetime) -> Transaction:
    """Return the transaction that makes the draft true if nothing it rests on has changed since.

    Raises:
        ApiError: the draft is refused.
    """
    key = object_key(draft.definition, row_of(draft.project, draft.name))
    transaction = Transaction(draft, key, b"", [Compare.mod_revision(key, "=", draft.revision)], [])
    if terms.actor.review is not None and not terms.subresource:
        # What it is held to now is what it is held to when it is done.
        seen = cache.marks.get(POLICIES, NO_MARK).revision
        transaction.compares.append(Compare.mod_revision(POLICIES, "=", seen))
    if draft.removes:
        _compose_removal(cache, transaction, terms.actor, now)
        return transaction
    if draft.live is not None:
        _count(draft)
        # Deletion and a new generation show in Ready at once, not with the next observation.
        if terms.subresource or draft.status.get("conditions"):
            derive_ready(draft, now)
    body = encode_draft(draft)
    resource = transaction.resource = validate(draft.definition, draft.project, draft.name, body)
    guard = terms.actor.guard
    hidden = {c.field for c in guard(resource, draft.live)} if guard is not None else frozenset[str]()
    if draft.live is None and draft.project is not None:
        transaction.compares.append(check_project(cache, draft.definition, draft.project))
    resolution = _check_rules(cache, draft, resource, transaction, terms, hidden) if draft.spec_changed else None
    plan = plan_claims(cache, draft, resource, terms.limits)
    quota = plan_quota(cache, draft, resource, resolution, dry_run=terms.dry_run)
    transaction.compares += plan.compares
    transaction.compares += quota.compares
    transaction.turns, transaction.revokes, transaction.measures = quota.turns, quota.revokes, quota.measures
    fields = encode_managed_fields(draft, len(body), terms.actor.manager, terms.subresource, now)
    transaction.value = build_value(draft.definition, body, fields, encode_actor(terms.actor, now), quota.takes)
    check_size(transaction.value)
    transaction.ops += [Put(key, transaction.value), *plan.ops, *quota.ops, *plan_change_of_limits(draft)]
    if draft.definition.kind == "Policy" and draft.spec_changed:
        transaction.ops.append(Put(POLICIES, b""))
    if terms.values is not None:
        transaction.ops += terms.values.settle(draft)
    if draft.live is None:
        for each in draft.definition.begins_with(resource, cache.setting_book):
            _add_beginning(cache, transaction, each, now)
    return transaction


def _add_beginning(cache: WatchCache, transaction: Transaction, resource: AnyResource, now: datetime) -> None:
    """Add the creation of what an object begins with; its project may be made by the same transaction."""
    definition = get_kind(resource.kind)
    draft = build_new(definition, resource.to_wire(), actor=BEGINNER, now=now)
    row = row_of(draft.project, draft.name)
    if cache.find(definition, row) is not None:
        return
    key, body = object_key(definition, row), encode_draft(draft)
    validate(definition, draft.project, draft.name, body)
    fields = encode_managed_fields(draft, len(body), BEGINNER.manager, "", now)
    value = build_value(definition, body, fields, encode_actor(BEGINNER, now))
    transaction.compares.append(Compare.mod_revision(key, "=", 0))
    transaction.ops += [Put(key, value), *plan_change_of_limits(draft)]


def encode_actor(actor: Actor, now: datetime) -> bytes:
    """Return the author as it is kept with the object."""
    return orjson.dumps({"subject": actor.subject, "manager": actor.manager, "time": format_time(now)})


def _compose_removal(cache: WatchCache, transaction: Transaction, actor: Actor, now: datetime) -> None:
    draft = transaction.draft
    transaction.compares += plan_emptiness(cache, draft)
    stone = b'{"key":%b,"actor":%b}' % (orjson.dumps(transaction.key.decode()), encode_actor(actor, now))
    transaction.ops = [
        Delete(transaction.key),
        *plan_release(cache, draft.metadata["uid"]),
        *plan_removal_of_level(cache, draft),
        Put(TOMBSTONE, stone),
    ]
    if has_sensitive(draft.definition.model):
        transaction.ops.append(delete_values(draft.metadata["uid"]))
    transaction.value = orjson.dumps(draft.live)
    transaction.removes = True


def _count(draft: Draft) -> None:
    """Raise the generation when spec changes."""
    assert draft.live is not None
    if draft.spec_changed:
        draft.metadata = {**draft.metadata, "generation": draft.live["metadata"]["generation"] + 1}


def encode_draft(draft: Draft) -> bytes:
    """Return the draft as JSON, as it is validated and stored."""
    wire: Wire = {
        "apiVersion": API_VERSION,
        "kind": draft.definition.kind,
        "metadata": draft.metadata,
        "spec": draft.spec,
        "status": draft.status,
    }
    if draft.unknown:
        wire |= draft.unknown
    body = encode(wire)
    if draft.spec_changed and b"null" in body and _has_null(draft.spec):
        # null stands for absent; stored, a manifest without it would differ.
        draft.spec = wire["spec"] = _without_nulls(draft.spec)
        body = encode(wire)
    return body


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(v is None or _has_null(v) for v in value.values())
    return isinstance(value, list) and any(map(_has_null, value))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _check_rules(
    cache: WatchCache,
    draft: Draft,
    resource: AnyResource,
    transaction: Transaction,
    terms: Terms,
    hidden: Container[str],
) -> Resolution:
    """References, immutability and the kind's own rules; all faults are told together."""
    allow_missing = terms.allow_missing_references
    resolution = resolve(cache, draft, resource, allow_missing=allow_missing, dry_run=terms.dry_run, hidden=hidden)
    causes = [*resolution.causes, *_immutable_causes(draft)]
    check = draft.definition.check
    if check is not no_causes:
        live = draft.live
        old = draft.definition.model.from_wire(live) if live is not None else None
        causes += check(resource, old, Referenced(resolution.entries))
    if causes:
        raise refuse(draft.definition, draft.project, draft.name, causes)
    transaction.compares += resolution.compares
    return resolution


def _immutable_causes(draft: Draft) -> list[Cause]:
    if draft.live is None:
        return []
    kind = draft.definition.kind
    message = f"cannot change; create another {kind}, or delete this one and create it again"
    changes = compare(draft.definition.model, draft.live, {"metadata": draft.metadata, "spec": draft.spec})
    return [
        build_cause(c.path, "FieldValueImmutable", message)
        for c in changes
        if c.change is Change.IMMUTABLE and c.path.startswith("spec")
    ]
