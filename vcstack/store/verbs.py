"""The verbs: from the live object to the draft that a request asks for. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vcstack.specs.access import Propagation
from vcstack.specs.apply import apply
from vcstack.specs.errors import BadRequest, Forbidden
from vcstack.specs.fieldset import TRACKED_METADATA
from vcstack.specs.meta import format_time
from vcstack.specs.patch import merge_patch, merge_status_patch
from vcstack.specs.registry import KindDefinition
from vcstack.store.actor import Actor
from vcstack.store.draft import (
    FOREGROUND,
    ORPHAN,
    SYSTEM_FINALIZER,
    Draft,
    Wire,
    build_new,
    build_revision,
    check_preconditions,
    keep,
)
from vcstack.store.validation import build_cause, check_shape, encode, refuse

Revise = Callable[[Wire, int], Draft]
"""From the live object and its version to the draft."""

_SYSTEM_KEYS = frozenset(
    (
        "project",
        "name",
        "uid",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "resourceVersion",
        "managedFields",
    )
)


def check_writable(definition: KindDefinition, actor: Actor, *, deletes: bool = False) -> None:
    """Keep users from kinds that only the system writes, though they may delete what can be revoked.

    Raises:
        Forbidden: the actor is a user.
    """
    if deletes and definition.revocable:
        return
    if definition.system_only and not actor.is_system:
        raise Forbidden(f"{definition.plural} are written by the system only")


def check_finalizers(definition: KindDefinition, remove: Sequence[str], actor: Actor) -> None:
    """Check that the actor may remove these finalizers.

    Raises:
        Forbidden: a user names one of the system's, or a host one that is not its own.
    """
    for name in remove:
        if actor.is_host and name != definition.node_finalizer:
            raise Forbidden(f"{actor.subject} may not remove the finalizer {name} of a {definition.kind}")
        if not actor.is_system and name.startswith(SYSTEM_FINALIZER):
            raise Forbidden(f"the finalizer {name} is removed by the system when its work is done")


def replace(definition: KindDefinition, wire: Mapping[str, Any], actor: Actor) -> Revise:
    """Return the revision by a whole object."""
    return lambda live, revision: build_revision(definition, live, revision, wire, actor=actor)


def merge(definition: KindDefinition, patch: Mapping[str, Any], actor: Actor) -> Revise:
    """Return the revision by a merge patch."""
    encode(patch)  # also bounds its depth, before anything recurses into it
    for section in ("metadata", "spec"):
        # Removing a whole section would otherwise hide a wrong patch.
        if section in patch and not isinstance(patch[section], Mapping):
            cause = build_cause(section, "FieldValueInvalid", "must be an object")
            raise refuse(definition, None, "", [cause])

    def revise(live: Wire, revision: int) -> Draft:
        given = patch.get("metadata") or {}
        # Compared by their values in the patch only: the live ones always match.
        live_metadata = {k: v for k, v in live["metadata"].items() if k not in ("resourceVersion", "managedFields")}
        merged = merge_patch({**live, "metadata": live_metadata}, patch)
        if "finalizers" in given and given["finalizers"] is None:
            merged["metadata"]["finalizers"] = []
        return build_revision(definition, live, revision, merged, actor=actor)

    return revise


def merge_status(
    definition: KindDefinition, status: Mapping[str, Any], uid: str | None, resource_version: str | None
) -> Revise:
    """Return the revision by a patch of status."""
    _check_status(definition, status)

    def revise(live: Wire, revision: int) -> Draft:
        check_preconditions(definition, live, revision, uid, resource_version)
        draft = keep(definition, live, revision)
        draft.status = merge_status_patch(live["status"], status)
        return draft

    return revise


def replace_status(
    definition: KindDefinition, status: Mapping[str, Any], uid: str | None, resource_version: str | None
) -> Revise:
    """Return the revision by a whole status."""
    _check_status(definition, status)

    def revise(live: Wire, revision: int) -> Draft:
        check_preconditions(definition, live, revision, uid, resource_version)
        draft = keep(definition, live, revision)
        draft.status = {k: v for k, v in status.items() if v is not None}
        return draft

    return revise


def remove_finalizers(
    definition: KindDefinition, remove: Sequence[str], uid: str | None, resource_version: str | None
) -> Revise:
    """Return the revision without these finalizers."""

    def revise(live: Wire, revision: int) -> Draft:
        check_preconditions(definition, live, revision, uid, resource_version)
        draft = keep(definition, live, revision)
        left = [f for f in draft.metadata.get("finalizers", ()) if f not in remove]
        _set_finalizers(draft, left)
        return draft

    return revise


def mark_deleted(
    definition: KindDefinition,
    uid: str | None,
    resource_version: str | None,
    propagation: Propagation,
    now: datetime,
) -> Revise:
    """Return the revision that asks for the deletion; asked for once, it stays asked for at that time."""

    def revise(live: Wire, revision: int) -> Draft:
        check_preconditions(definition, live, revision, uid, resource_version)
        draft = keep(definition, live, revision)
        finalizers = list(draft.metadata.get("finalizers", ()))
        wanted = {Propagation.FOREGROUND: FOREGROUND, Propagation.ORPHAN: ORPHAN}.get(propagation)
        if wanted is not None and wanted not in finalizers:
            finalizers.append(wanted)
        _set_finalizers(draft, finalizers)
        draft.metadata.setdefault("deletionTimestamp", format_time(now))
        return draft

    return revise


@dataclass(frozen=True, slots=True)
class Application:
    """One server-side apply."""

    definition: KindDefinition
    project: str | None
    name: str
    wire: Mapping[str, Any]
    actor: Actor
    manager: str
    force: bool

    def __post_init__(self) -> None:
        """Look at what does not depend on the live object.

        Raises:
            Invalid: the object is no object.
            BadRequest: nobody is named as the manager.
        """
        encode(self.wire)  # also bounds its depth, before anything recurses into it
        check_shape(self.definition, self.wire)
        if not self.manager:
            raise BadRequest("fieldManager: is required for apply; name the program that owns these fields")

    def build(self, live: Wire | None, revision: int, now: datetime) -> Draft:
        """Return the draft for the live object, or of a new one."""
        applied = self._applied()
        if live is not None:
            given = self.wire.get("metadata") or {}
            check_preconditions(self.definition, live, revision, given.get("uid"), given.get("resourceVersion"))
        result = apply(self.definition.model, live, applied, manager=self.manager, force=self.force, now=now)
        managed = result["metadata"].pop("managedFields")
        result["metadata"].pop("resourceVersion", None)
        result["status"] = self.wire.get("status") or {}
        result |= {k: v for k, v in self.wire.items() if k not in result}
        result["metadata"] |= self._unknown_metadata()
        if live is None:
            draft = build_new(self.definition, result, actor=self.actor, now=now)
        else:
            draft = build_revision(self.definition, live, revision, result, actor=self.actor)
        draft.managed_fields = managed
        return draft

    def _applied(self) -> Wire:
        given = {k: v for k, v in (self.wire.get("metadata") or {}).items() if v is not None}
        place = {"name": given.get("name") or self.name}
        project = given.get("project") or self.project
        return {**self.wire, "metadata": {**given, **place, **({"project": project} if project else {})}}

    def _unknown_metadata(self) -> Wire:
        """Return metadata fields that do not exist, which apply leaves out and validation shall refuse."""
        known = _SYSTEM_KEYS.union(TRACKED_METADATA)
        return {k: v for k, v in (self.wire.get("metadata") or {}).items() if k not in known}


def _check_status(definition: KindDefinition, status: Mapping[str, Any]) -> None:
    encode({"status": status})  # also bounds its depth, before anything recurses into it
    if not isinstance(status, Mapping):
        raise refuse(definition, None, "", [build_cause("status", "FieldValueInvalid", "must be an object")])


def _set_finalizers(draft: Draft, finalizers: list[str]) -> None:
    if finalizers:
        draft.metadata["finalizers"] = finalizers
    else:
        draft.metadata.pop("finalizers", None)
