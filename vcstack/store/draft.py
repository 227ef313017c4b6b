"""A draft: an object as a write wants it, built purely from the live one and what the caller sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

from vcstack.specs.errors import Cause, Conflict, ErrorDetails, NotFound
from vcstack.specs.meta import format_time
from vcstack.specs.registry import KindDefinition
from vcstack.store.actor import Actor
from vcstack.store.validation import build_cause, check_place, check_shape, refuse

Wire = dict[str, Any]

SYSTEM_METADATA: Final = ("project", "name", "uid", "generation", "creationTimestamp", "deletionTimestamp")
"""Chosen by the system: taken over from the live object, whatever the caller sends."""
_NOT_FROM_CALLER: Final = frozenset((*SYSTEM_METADATA, "resourceVersion", "managedFields"))
SYSTEM_FINALIZER: Final = "vcstack.io/"
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_TOP: Final = frozenset(("apiVersion", "kind", "metadata", "spec", "status"))


@dataclass(slots=True)
class Draft:
    """What an object is to become."""

    definition: KindDefinition
    live: Wire | None
    """The object as it is; None: it is created."""
    revision: int
    """The live object's version, 0 when there is none."""
    metadata: Wire
    """Without resourceVersion and managedFields."""
    spec: Wire
    status: Wire
    managed_fields: list[Wire] | None = None
    """None: what changed belongs to the actor's manager."""
    unknown: Wire = field(default_factory=dict)
    """Top-level fields that do not exist; validation refuses them."""

    @property
    def project(self) -> str | None:
        """Return the project."""
        found: str | None = self.metadata.get("project")
        return found

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self.metadata["name"])

    @property
    def spec_changed(self) -> bool:
        """Return whether spec differs from the live one (always for a new object)."""
        return self.live is None or self.spec != self.live["spec"]

    @property
    def status_changed(self) -> bool:
        """Return whether status differs from the live one."""
        return self.live is not None and self.status != self.live["status"]

    @property
    def changes_nothing(self) -> bool:
        """Return whether writing it would leave the object as it is."""
        if self.live is None or self.spec_changed or self.status_changed or self.unknown:
            return False
        before = {k: v for k, v in self.live["metadata"].items() if k not in ("resourceVersion", "managedFields")}
        if self.managed_fields is not None and self.managed_fields != self.live["metadata"].get("managedFields", []):
            return False
        return before == self.metadata

    @property
    def removes(self) -> bool:
        """Return whether the object goes: its deletion was asked for and nothing is left to clean up."""
        return bool(self.metadata.get("deletionTimestamp")) and not self.metadata.get("finalizers")


def keep(definition: KindDefinition, live: Wire, revision: int) -> Draft:
    """Return a draft that changes nothing yet."""
    metadata = {k: v for k, v in live["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return Draft(definition, live, revision, metadata, live["spec"], live["status"])


def build_new(definition: KindDefinition, wire: Mapping[str, Any], *, actor: Actor, now: datetime) -> Draft:
    """Return the draft of a new object.

    Raises:
        Invalid: its place or a system field is wrong.
    """
    check_shape(definition, wire)
    given = wire.get("metadata") or {}
    project, name = given.get("project"), given.get("name") or ""
    check_place(definition, project, name)
    causes = _status_causes(wire, {})
    if given.get("resourceVersion"):
        message = "must be left out: the object is new"
        causes.append(build_cause("metadata.resourceVersion", "FieldValueForbidden", message))
    metadata: Wire = {"project": project} if project else {}
    metadata |= {"name": name, "uid": f"{definition.uid_prefix}-{token_hex(6)}", "generation": 1}
    metadata["creationTimestamp"] = format_time(now)
    _take_over(metadata, given)
    finalizers = metadata.get("finalizers") or []
    if isinstance(finalizers, list):
        if not actor.is_system:
            causes += _foreign_finalizers(finalizers, definition.finalizers)
        finalizers = [*definition.finalizers, *(f for f in finalizers if f not in definition.finalizers)]
        if finalizers:
            metadata["finalizers"] = finalizers
    if causes:
        raise refuse(definition, project, name, causes)
    return Draft(definition, None, 0, metadata, wire.get("spec") or {}, {}, unknown=_unknown(wire))


def build_revision(
    definition: KindDefinition, live: Wire, revision: int, wire: Mapping[str, Any], *, actor: Actor
) -> Draft:
    """Return the draft that has the caller's metadata and spec on the live object.

    Raises:
        Invalid: an immutable or system field differs.
        Conflict: the caller's uid or resourceVersion is not the live one.
    """
    check_shape(definition, wire)
    given, present = wire.get("metadata") or {}, live["metadata"]
    check_preconditions(definition, live, revision, given.get("uid"), given.get("resourceVersion"))
    causes = [
        build_cause(f"metadata.{field}", "FieldValueImmutable", "cannot change; create another object")
        for field in ("name", "project")
        if given.get(field) and given[field] != present.get(field)
    ]
    causes += _status_causes(wire, live["status"])
    metadata = {k: present[k] for k in SYSTEM_METADATA if k in present}
    _take_over(metadata, given)
    finalizers, fault = _revise_finalizers(given, present, actor)
    causes += fault
    metadata.pop("finalizers", None)
    if finalizers:
        metadata["finalizers"] = finalizers
    if causes:
        raise refuse(definition, present.get("project"), present["name"], causes)
    return Draft(definition, live, revision, metadata, wire.get("spec") or {}, live["status"], unknown=_unknown(wire))


def check_preconditions(
    definition: KindDefinition, live: Wire, revision: int, uid: str | None, resource_version: str | None
) -> None:
    """Check that the live object is the one the caller means.

    Raises:
        Conflict: it is not.
    """
    meta = live["metadata"]
    details = ErrorDetails(kind=definition.kind, project=meta.get("project", ""), name=meta["name"])
    if uid and uid != meta["uid"]:
        message = f"{definition.kind} {meta['name']} is another object now: its uid is {meta['uid']}, not {uid}"
        cause = build_cause("metadata.uid", "Replaced", "is not the live object's")
        raise Conflict(message, causes=[cause], details=details)
    if resource_version and resource_version != str(revision):
        message = (
            f"{definition.kind} {meta['name']} has changed: its version is {revision}, not {resource_version}; "
            "read it again and apply your changes to the latest version"
        )
        cause = build_cause("metadata.resourceVersion", "Stale", f"is not the live object's, which is {revision}")
        raise Conflict(message, causes=[cause], details=details)


def not_found(definition: KindDefinition, project: str | None, name: str) -> NotFound:
    """Return the error."""
    where = f" in project {project}" if project else ""
    details = ErrorDetails(kind=definition.kind, project=project or "", name=name)
    return NotFound(f"there is no {definition.kind} {name}{where}", details=details)


def _take_over(metadata: Wire, given: Mapping[str, Any]) -> None:
    """Add what the caller may choose; empty values count as absent, unknown fields come along to be refused."""
    for key, value in given.items():
        if key not in _NOT_FROM_CALLER and value is not None and value != {} and value != []:
            metadata[key] = value


def _unknown(wire: Mapping[str, Any]) -> Wire:
    return {} if wire.keys() <= _TOP else {k: v for k, v in wire.items() if k not in _TOP}


def _status_causes(wire: Mapping[str, Any], live: Wire) -> list[Cause]:
    status = wire.get("status")
    if not status or status == live or not any(status.values()):
        return []
    message = "is written by the system only; leave it out"
    return [build_cause("status", "FieldValueForbidden", message)]


def _foreign_finalizers(finalizers: Sequence[Any], own: Sequence[str]) -> list[Cause]:
    return [
        build_cause("metadata.finalizers", "FieldValueForbidden", f"{f} is the system's; choose another prefix")
        for f in finalizers
        if isinstance(f, str) and f.startswith(SYSTEM_FINALIZER) and f not in own
    ]


def _revise_finalizers(given: Mapping[str, Any], present: Mapping[str, Any], actor: Actor) -> tuple[Any, list[Cause]]:
    """Return the finalizers after a user's write: the system's stay, others may come (not when deleting) and go."""
    before: list[str] = present.get("finalizers", [])
    wanted = given.get("finalizers")
    if wanted is None:
        return before, []
    if not isinstance(wanted, list):
        return wanted, []  # validation says what is wrong
    causes: list[Cause] = []
    if not actor.is_system:
        lost = [f for f in before if f.startswith(SYSTEM_FINALIZER) and f not in wanted]
        causes += [
            build_cause("metadata.finalizers", "FieldValueForbidden", f"{f} is removed by the system only; keep it")
            for f in lost
        ]
        causes += _foreign_finalizers(wanted, before)
    if present.get("deletionTimestamp") and not set(map(str, wanted)) <= set(before):
        message = "the object is being deleted: none can be added"
        causes.append(build_cause("metadata.finalizers", "FieldValueForbidden", message))
    return wanted, causes
