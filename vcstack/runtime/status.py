"""Writing status: only what changed, and nothing when nothing did."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import BackendUnavailable, ReconcileError
from vcstack.specs.conditions import build_condition, merge_conditions
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import AnyResource

R = TypeVar("R", bound=AnyResource)


def condition_of(
    resource: AnyResource, type_: str, status: ConditionStatus | bool, reason: str, message: str = "", *, clock: Clock
) -> Condition:
    """Return a condition observed now for the object's present generation."""
    return build_condition(type_, status, reason, message, generation=resource.metadata.generation, now=clock.now())


def _to_wire(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list | tuple):
        return [_to_wire(v) for v in value]
    return value


def build_patch(
    resource: AnyResource, fields: Mapping[str, Any], conditions: Iterable[Condition] = ()
) -> dict[str, Any]:
    """Return the merge patch of status that is left of these wire fields and conditions; pure.

    A list in status is a whole: it is given when any part of it differs. None removes a field.
    """
    current = _dump_status(resource, fields) if fields else {}
    patch = {}
    for name, value in fields.items():
        wire = _to_wire(value)
        if wire != current.get(name):
            patch[name] = wire
    before = {c.type: c for c in resource.status.conditions}
    given = {c.type for c in conditions} if (conditions := tuple(conditions)) else set()
    merged = merge_conditions(resource.status.conditions, conditions)
    changed = [c.to_wire() for c in merged if c.type in given and before.get(c.type) != c]
    if changed:
        patch["conditions"] = changed
    return patch


def _dump_status(resource: AnyResource, fields: Iterable[str]) -> dict[str, Any]:
    """Return these fields of status by wire name."""
    status: BaseModel = resource.status
    attributes = _attributes_of(type(status))
    include = {attributes[name] for name in fields if name in attributes}
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, include=include)


@cache
def _attributes_of(model: type[BaseModel]) -> Mapping[str, str]:
    return {field.alias or name: name for name, field in model.model_fields.items()}


async def write_status(
    client: ResourceClient,
    resource: R,
    *,
    fields: Mapping[str, Any] | None = None,
    conditions: Iterable[Condition] = (),
    exact_version: bool = False,
) -> R:
    """Write those fields (wire names; models are taken as values) and conditions that differ.

    Returns:
        The object as stored; the given one when nothing was to be written.
    """
    patch = build_patch(resource, fields or {}, conditions)
    if not patch:
        return resource
    return await client.patch_status(resource, patch, exact_version=exact_version)


@contextlib.asynccontextmanager
async def hold_shown(client: ResourceClient, resource: AnyResource, type_: str, *, clock: Clock) -> AsyncIterator[None]:
    """Show in a condition why the steps inside could not be done (any ReconcileError), and raise on.

    False for what is known to be missing or wrong, Unknown when an outside system does not answer.
    """
    try:
        yield
    except ReconcileError as error:
        unknown = isinstance(error, BackendUnavailable)
        status = ConditionStatus.UNKNOWN if unknown else ConditionStatus.FALSE
        condition = condition_of(resource, type_, status, error.reason, error.message, clock=clock)
        await write_status(client, resource, conditions=[condition])
        raise
