"""Ready and observedGeneration, derived in the store so that every writer's status sums up alike."""

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from vcstack.specs.conditions import READY, summarize_ready
from vcstack.specs.meta import CONDITIONS_LIMIT, Condition
from vcstack.store.draft import Draft


def derive_ready(draft: Draft, now: datetime) -> None:
    """Set Ready and observedGeneration in the draft's status.

    Conditions that do not fit the schema, or are too many, are left to validation, which names them.
    """
    required = draft.definition.ready_when
    if not required:
        return
    listed = draft.status.get("conditions") or []
    try:
        if len(listed) > CONDITIONS_LIMIT:
            return  # what is refused anyway need not be read one by one
        conditions = [Condition.from_wire(c) for c in listed]
    except (ValidationError, TypeError):
        return
    ready = summarize_ready(
        conditions,
        required,
        generation=draft.metadata["generation"],
        deleting="deletionTimestamp" in draft.metadata,
        now=now,
    )
    index = next((i for i, c in enumerate(conditions) if c.type == READY), len(conditions))
    if index < len(conditions) and conditions[index].status == ready.status:
        ready.last_transition_time = conditions[index].last_transition_time
    merged: list[Any] = list(listed)
    merged[index : index + 1] = [ready.to_wire()]
    draft.status = {**draft.status, "observedGeneration": ready.observed_generation, "conditions": merged}
