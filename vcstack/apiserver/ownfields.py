"""Which parts of the status of its objects a host may not write: what the manager decides or observes.

Without this a host could hand its instances to another host, give back the capacity that they claim, or
take addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vcstack.specs.errors import Cause, Invalid
from vcstack.specs.kinds import host, instance, port, task
from vcstack.specs.registry import KindDefinition


@dataclass(frozen=True, slots=True)
class ManagersPart:
    """What only the manager writes of a status."""

    fields: frozenset[str]
    conditions: frozenset[str]


MANAGERS_PARTS = {
    host.Host.KIND: ManagersPart(
        frozenset({"allocatable", "allocated", "instanceCount", "overcommit"}), frozenset({host.ALIVE})
    ),
    instance.Instance.KIND: ManagersPart(
        frozenset({"host", "allocated", "addresses"}), frozenset({instance.SCHEDULED, instance.NETWORK_READY})
    ),
    port.Port.KIND: ManagersPart(
        frozenset({"host", "instance", "mac", "addresses"}), frozenset({port.ALLOCATED, port.REALIZED, port.UP})
    ),
    task.Task.KIND: ManagersPart(frozenset({"host", "targetUid"}), frozenset()),
}
HOST_LIMIT = 128 * 1024
"""Bytes of a host's request, and of the status that it leaves behind. An instance's with 16 interfaces has 6 KiB, a
Host's that tells of 1024 images 80 KiB."""
NOTHING = ManagersPart(frozenset({"host"}), frozenset())
MESSAGE = "is written by the manager; a host cannot change it"


def check_host_status(definition: KindDefinition, stored: Mapping[str, Any], status: Mapping[str, Any]) -> None:
    """Return when a host may make the stored status that one. Raises Invalid with the fields it may not."""
    part = MANAGERS_PARTS.get(definition.kind, NOTHING)
    causes = [
        Cause(field=f"status.{name}", reason="FieldValueForbidden", message=MESSAGE)
        for name in sorted(part.fields)
        if status.get(name) != stored.get(name)
    ]
    before, after = _by_type(stored), _by_type(status)
    causes += [
        Cause(field=f"status.conditions[{type_}]", reason="FieldValueForbidden", message=MESSAGE)
        for type_ in sorted(part.conditions)
        if after.get(type_) != before.get(type_)
    ]
    if causes:
        raise Invalid(f"{causes[0].field}: {causes[0].message}", causes=causes)


def _by_type(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list) else []
    return {c["type"]: c for c in found if isinstance(c, dict) and isinstance(c.get("type"), str)}
