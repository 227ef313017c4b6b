"""The health of Git sources: whether the objects that a source has applied are well, as their own conditions say.

Apart from the controller that fetches and applies, for it writes nothing but a condition and asks nobody: what it goes
by is in the informers' copies, found by the label of the apply set. Any change of an object that bears on it wakes the
object's source; a source is looked at once in ``PACE_SECONDS`` at most, however many of its objects change.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller, states_of
from vcstack.runtime.informer import Informer
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import write_status
from vcstack.specs.conditions import READY, build_condition
from vcstack.specs.kinds.gitsource import APPLIED, HEALTHY, GitSource
from vcstack.specs.meta import APPLY_SET_LABEL, ConditionStatus
from vcstack.specs.registry import get_kind, load_kinds
from vcstack.specs.resource import AnyResource, Ref

PACE_SECONDS: Final = 2.0
"""Between two looks at a source, so that objects which come and go cost so many writes and no more."""
NAMED: Final = 5
"""Objects that the message names."""

_SET = "apply-set"
_SET_NAME = "set-name"


class AppliedSets:
    """Which objects a source has applied, and which source has applied an object, as the informers know."""

    def __init__(self, context: ControllerContext) -> None:
        self._sources = context.informer(GitSource)
        self._sources.add_index(_SET_NAME, lambda source: (source.set_name,))
        self._members: list[Informer[Any]] = [context.informer(kind) for kind in member_kinds()]
        for informer in self._members:
            informer.add_index(_SET, _sets_of)

    def sources_of(self, resource: AnyResource) -> Iterator[Ref]:
        """Yield the source in whose set an object is."""
        for name in _sets_of(resource):
            found = self._sources.by_index(_SET_NAME, name)
            yield from (source.ref for source in found if _is_member(source, resource))

    def members_of(self, source: GitSource) -> list[AnyResource]:
        """Return the objects of a source's set."""
        labelled = (informer.by_index(_SET, source.set_name) for informer in self._members)
        return [found for members in labelled for found in members if _is_member(source, found)]


def member_kinds() -> list[type[AnyResource]]:
    """Return the kinds whose objects can be applied."""
    return [d.model for d in load_kinds().values() if not d.system_only and d.ttl_setting is None]


def _sets_of(resource: AnyResource) -> tuple[str, ...]:
    name = resource.metadata.labels.get(APPLY_SET_LABEL)
    return () if name is None else (name,)


def _is_member(source: GitSource, resource: AnyResource) -> bool:
    meta = resource.metadata
    managed = [{"manager": entry.manager, "fields": entry.fields} for entry in meta.managed_fields]
    return source.has_applied({"labels": meta.labels, "managedFields": managed})


class HealthReconciler:
    """Writes the condition Healthy."""

    def __init__(self, context: ControllerContext, sets: AppliedSets) -> None:
        self._context = context
        self._clock = context.clock
        self._sets = sets
        self._looked: dict[Ref, float] = {}

    async def reconcile(self, source: GitSource | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if source is None or source.deleting:
            self._looked.pop(ref, None)
            return None
        now = self._clock.monotonic()
        rest = self._looked.get(ref, now - PACE_SECONDS) + PACE_SECONDS - now
        if rest > 0:
            return Result(requeue_after=rest)
        applied = source.find_condition(APPLIED)
        if applied is None:
            return None  # what will be applied is not known yet
        self._looked[ref] = now
        status, reason, message = judge(source, self._sets.members_of(source))
        healthy = build_condition(
            # Of an older generation while what was asked for since has not been applied.
            HEALTHY, status, reason, message, generation=applied.observed_generation, now=self._clock.now()
        )  # fmt: skip
        await write_status(self._context.client, source, conditions=[healthy])
        return None


def judge(source: GitSource, members: Sequence[AnyResource]) -> tuple[ConditionStatus, str, str]:
    """Return status, reason and message of Healthy; pure.

    The same objects in the same states give the same text, in whatever order they come.
    """
    wanted = max(source.status.objects or 0, len(members))
    if not wanted:
        return ConditionStatus.UNKNOWN, "NothingApplied", f"Nothing has been applied yet; {APPLIED} says why."
    failing: list[str] = []
    unknown: list[str] = []
    for member in members:
        status, reason = _state_of(member)
        # A source that applies itself is as well as the rest of what it applies.
        if status is not ConditionStatus.TRUE and member.uid != source.uid:
            (failing if status is ConditionStatus.FALSE else unknown).append(f"{member.ref} ({reason})")
    if failing:
        message = f"{_count(len(failing), wanted)} not ready: {_name_some(failing)}"
        return ConditionStatus.FALSE, "NotReady", message
    if missing := wanted - len(members):
        absent = f"{_count(missing, wanted)} not there"
        if source.spec.suspend:
            return ConditionStatus.FALSE, "Missing", f"{absent}, and a suspended source makes nothing."
        return ConditionStatus.UNKNOWN, "Missing", f"{absent}; {APPLIED} says why if that lasts."
    if unknown:
        message = f"{_count(len(unknown), wanted)} not known to be ready: {_name_some(unknown)}"
        return ConditionStatus.UNKNOWN, "Progressing", message
    return ConditionStatus.TRUE, "AllReady", f"{wanted} {'objects are' if wanted > 1 else 'object is'} ready."


def _state_of(member: AnyResource) -> tuple[ConditionStatus, str]:
    """Return whether an object is ready, and why it is not.

    Of what is on its way that is not known: an object that is being deleted, and one whose last change nobody has
    observed. A kind without conditions is ready by being there.
    """
    if member.deleting:
        return ConditionStatus.UNKNOWN, "Deleting"
    if not get_kind(member.kind).ready_when:
        return ConditionStatus.TRUE, ""
    ready = member.find_condition(READY)
    if ready is None:
        return ConditionStatus.UNKNOWN, "NotObserved"
    if ready.observed_generation < member.metadata.generation:
        return ConditionStatus.UNKNOWN, "NewGeneration"
    return ready.status, ready.reason


def _count(number: int, wanted: int) -> str:
    return f"{number} of {wanted} {'objects' if wanted > 1 else 'object'} {'are' if number > 1 else 'is'}"


def _name_some(found: list[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{', '.join(sorted(found)[:NAMED])}{more}."


def _read_of_member(resource: AnyResource) -> object:
    """Return what is read of an object in a set; nothing of any other one."""
    name = resource.metadata.labels.get(APPLY_SET_LABEL)
    if name is None:
        return None
    meta = resource.metadata
    return name, meta.generation, resource.deleting, states_of(resource, READY)


def _read_of_source(source: GitSource) -> tuple[object, ...]:
    status, spec = source.status, source.spec
    return _read_of_member(source), source.deleting, states_of(source, APPLIED, HEALTHY), status.objects, spec.suspend


def build(context: ControllerContext) -> Controller:
    """Return the controller of Git sources' health."""
    sets = AppliedSets(context)
    kinds = member_kinds()
    matters: dict[type[AnyResource], Any] = {**dict.fromkeys(kinds, _read_of_member), GitSource: _read_of_source}
    return context.controller(
        HealthReconciler(context, sets),
        GitSource,
        name="gitsource_health",
        watches=dict.fromkeys(kinds, sets.sources_of),
        matters=matters,
    )
