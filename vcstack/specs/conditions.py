"""Conditions as pure functions: build, merge and sum up."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from vcstack.specs.meta import Condition, ConditionStatus, fit_message

READY = "Ready"
"""The condition that sums up the others; every kind with a status has it."""


def format_condition(condition: Mapping[str, Any]) -> str:
    """Return a condition on the wire as a line: Ready=False (Unschedulable): no host has ..."""
    reason = f" ({condition['reason']})" if condition.get("reason") else ""
    message = f": {condition['message']}" if condition.get("message") else ""
    return f"{condition['type']}={condition['status']}{reason}{message}"


def build_condition(
    type_: str, status: ConditionStatus | bool, reason: str, message: str, *, generation: int, now: datetime
) -> Condition:
    """Return a condition; True and False are taken as the statuses True and False."""
    if isinstance(status, bool):
        status = ConditionStatus.TRUE if status else ConditionStatus.FALSE
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=fit_message(message),
        last_transition_time=now,
        observed_generation=generation,
    )


def merge_conditions(current: Sequence[Condition], new: Iterable[Condition]) -> list[Condition]:
    """Return current with new laid over it by type.

    lastTransitionTime stays where the status did not change, so a repeated observation changes nothing.
    """
    merged = {c.type: c for c in current}
    for condition in new:
        before = merged.get(condition.type)
        if before is not None and before.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": before.last_transition_time})
        merged[condition.type] = condition
    return list(merged.values())


def summarize_ready(
    conditions: Sequence[Condition],
    required: Sequence[str],
    *,
    generation: int,
    deleting: bool,
    now: datetime,
) -> Condition:
    """Return the Ready condition: True when all required ones are True for this generation.

    Its reason and message are those of the first required condition that is not, in the order given, so
    that it names what really holds the object up.
    """
    by_type = {c.type: c for c in conditions}
    observed = min((by_type[t].observed_generation if t in by_type else 0 for t in required), default=generation)

    def ready(status: ConditionStatus, reason: str, message: str) -> Condition:
        return build_condition(READY, status, reason, message, generation=observed, now=now)

    if deleting:
        return ready(ConditionStatus.FALSE, "Deleting", "The object is being deleted.")
    for type_ in required:
        found = by_type.get(type_)
        if found is None:
            return ready(ConditionStatus.UNKNOWN, f"{type_}Pending", f"{type_} has not been observed yet.")
        if found.status is not ConditionStatus.TRUE:
            return ready(found.status, found.reason or f"Not{type_}", found.message)
    if observed < generation:
        return ready(ConditionStatus.UNKNOWN, "NewGeneration", "The latest change of spec has not been observed yet.")
    return ready(ConditionStatus.TRUE, "AllTrue", "")
