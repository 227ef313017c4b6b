"""Whether quotas leave room for a set of objects, before the first of them is written."""

import asyncio
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson
from pydantic import ValidationError

from vcstack.specs.errors import ApiError, Cause, ErrorDetails
from vcstack.specs.kinds.quota import Quota
from vcstack.specs.registry import KindDefinition, get_kind, makes_nothing
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.cache import WatchCache
from vcstack.store.compose import encode_draft
from vcstack.store.draft import Draft, Wire
from vcstack.store.keys import row_of
from vcstack.store.limits import Limits
from vcstack.store.quotas import Measures, build_error, find_excesses
from vcstack.store.references import resolve
from vcstack.store.validation import validate
from vcstack.store.verbs import Application

QUOTAS_FIRST = get_kind(Quota.KIND).apply_order
"""What comes before these is written before the set's own quotas hold."""
IN_A_TURN = 8
"""So many objects are looked at, then others run."""


class SetCheck:
    """Adds up what a set of objects takes more than now."""

    def __init__(self, cache: WatchCache, actor: Actor, now: datetime, turn: asyncio.Lock) -> None:
        """Begin with nothing. ``turn``: that of all checks, so that others wait for one at most, however many run."""
        self._turn = turn
        self._cache = cache
        self._actor = actor
        self._now = now
        self._made: dict[str, Wire] = {}
        """What the set makes, by place, and as resources below."""
        self._resources: dict[Ref, AnyResource] = {}
        self._begun: dict[str, Limits] = {}
        """What new projects begin with, by what people know the quotas by; and the set's own quotas below."""
        self._given: dict[str, Limits] = {}

    async def run(self, wires: Sequence[tuple[KindDefinition, Wire]]) -> None:
        """Check the set, as far as its objects are valid at all.

        Raises:
            QuotaExceeded: the set asks for more than is left; the causes name the limits.
        """
        drafts: list[tuple[Draft, AnyResource] | None] = []
        for start in range(0, len(wires), IN_A_TURN):
            async with self._turn:
                drafts += [self._read(definition, wire) for definition, wire in wires[start : start + IN_A_TURN]]
                await asyncio.sleep(0)
        asked: dict[str, Counter[str]] = {}
        before: dict[str, Counter[str]] = {}
        found = [draft for draft in drafts if draft is not None]
        for start in range(0, len(found), IN_A_TURN):
            async with self._turn:
                for draft, resource in found[start : start + IN_A_TURN]:
                    self._add(asked, draft, resource)
                    if draft.definition.apply_order < QUOTAS_FIRST:
                        self._add(before, draft, resource)
                    self._take_limits(draft, resource)
                await asyncio.sleep(0)
        # What is written before the set's quotas is held to those in force.
        excesses = find_excesses(self._cache, asked, {**self._begun, **self._given})
        excesses = excesses or find_excesses(self._cache, before, self._begun)
        if excesses:
            causes = [Cause(field=e.name, reason="QuotaExceeded", message=str(e)) for e in excesses]
            raise build_error("all together exceed a quota", excesses, causes, ErrorDetails(kind="Quota"))

    def _read(self, definition: KindDefinition, wire: Wire) -> tuple[Draft, AnyResource] | None:
        """Return the object as it would be; None when it cannot be, which whoever writes it will be told."""
        try:
            metadata = wire["metadata"]
            row = row_of(metadata.get("project"), metadata["name"])
            entry = self._cache.find(definition, row)
            live = None if entry is None else orjson.loads(entry.json)
            application = Application(
                definition, metadata.get("project"), metadata["name"], wire, self._actor, self._actor.manager, True
            )
            draft = application.build(live, entry.revision if entry else 0, self._now)
            resource = validate(definition, draft.project, draft.name, encode_draft(draft))
            if self._actor.guard is not None:
                self._actor.guard(resource, live)
        except (ApiError, ValidationError, KeyError, TypeError, AttributeError):
            return None
        self._made[f"{definition.plural}/{row}"] = {"metadata": draft.metadata, "spec": draft.spec}
        self._resources[resource.ref] = resource
        return draft, resource

    def _add(self, asked: dict[str, Counter[str]], draft: Draft, resource: AnyResource) -> None:
        definition = draft.definition
        if not definition.is_counted:
            return
        taking = None
        if draft.live is not None:
            taking = self._cache.uses.find(definition, row_of(draft.project, draft.name))
        more = Counter[str]()
        if taking is None:
            more[definition.plural] += 1
        if definition.amount_names:
            found = resolve(self._cache, draft, resource, allow_missing=True, dry_run=True)
            referenced = ChainMap(self._resources, Measures(found.entries))  # type: ignore[arg-type]  # only read
            amounts = definition.amounts(resource, referenced) or {}
            more.update(_rise(amounts, taking.amounts if taking is not None else {}))
        if definition.makes is not makes_nothing:
            before = definition.makes(definition.model.from_wire(draft.live)) if draft.live is not None else {}
            more.update(_rise(definition.makes(resource), before))
        if more:
            level = (
                taking.level
                if taking is not None
                else self._cache.limits.level_of(definition, self._wire(draft), self._made)
            )
            asked.setdefault(level, Counter()).update(more)

    def _take_limits(self, draft: Draft, resource: AnyResource) -> None:
        """Take in limits that will be others than now."""
        limits = self._cache.limits
        if isinstance(resource, Quota):
            found = limits.read_quota(self._wire(draft), self._made)
            self._given[found.quota] = found
        elif draft.live is None:
            for each in draft.definition.begins_with(resource, self._cache.setting_book):
                if isinstance(each, Quota):
                    found = limits.read_quota(each.to_wire(), self._made)
                    self._begun[found.quota] = found

    def _wire(self, draft: Draft) -> Wire:
        return {"metadata": draft.metadata, "spec": draft.spec}


def _rise(amounts: Mapping[str, int], before: Mapping[str, int]) -> Mapping[str, int]:
    return {n: a - before.get(n, 0) for n, a in amounts.items() if a > before.get(n, 0)}
