"""Plans in files: what applying would do to which versions, so that exactly that is done later or nothing.

A plan holds each object as it was, what is to be applied, and the changes that follow. It is refused when an object
that it is about is another one now, or differs in more than its status. Secret values are never in it: a plan of
manifests that have some is applied together with those manifests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vcstack.applying.manifests import Manifest
from vcstack.specs.model import Change
from vcstack.specs.plan import FieldChange, compare
from vcstack.specs.registry import find_kind
from vcstack.specs.sensitive import iter_sensitive, redact

Wire = dict[str, Any]
VERSION: Final = "vcstack.io/plan/v1"
CREATE, UPDATE, UNCHANGED, DELETE = "Create", "Update", "Unchanged", "Delete"


class BadPlan(Exception):
    """The file is no plan, or not one of these manifests."""


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """One object in a plan."""

    action: str
    manifest: Manifest
    """What is applied, with *** in place of secret values; of a deletion the object's name."""
    hidden: bool
    """Whether secret values are left out."""
    before: Wire | None
    """Labels, annotations and spec as they were, with uid and resourceVersion; None: there was none."""
    changes: Sequence[FieldChange] = ()

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Return the object's identity."""
        return self.manifest.key


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    api_url: str
    created_at: str
    set_name: str | None
    force: bool
    objects: Sequence[PlannedObject] = field(default_factory=list)


def plan_object(
    manifest: Manifest, live: Wire | None, changes: Sequence[FieldChange], *, deleted: bool = False
) -> PlannedObject:
    """Return what applying does to an object."""
    model = manifest.definition.model
    before = None if live is None else _content(live)
    if deleted:
        return PlannedObject(DELETE, manifest, False, before)
    action = CREATE if live is None else UPDATE if changes else UNCHANGED
    hidden = any(True for _ in iter_sensitive(model, manifest.wire))
    shown = Manifest(manifest.definition, redact(model, manifest.wire), manifest.source)
    return PlannedObject(action, shown, hidden, before, changes)


def find_moved(planned: PlannedObject, live: Wire | None) -> list[str]:
    """Return what has happened to the object since, a sentence each; nothing: it is as it was but for its status."""
    before = planned.before
    if live is None:
        return [] if before is None else ["was deleted since"]
    if before is None:
        return ["was created since"]
    if live["metadata"].get("uid") != before["metadata"]["uid"]:
        return ["is another object now: it was deleted and created anew"]
    if live["metadata"].get("deletionTimestamp"):
        return ["is being deleted"]
    found = compare(planned.manifest.definition.model, before, live)
    return [f"{c.path} changed since: {_short(c.old)} to {_short(c.new)}" for c in found]


def with_secrets(plan: Plan, manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return what the plan applies, secret values taken from the manifests that it was made of.

    Raises:
        BadPlan: one is missing, or says something else than when the plan was made.
    """
    given = {m.key: m for m in manifests}
    wanted = []
    for planned in plan.objects:
        if planned.action == DELETE:
            continue
        if not planned.hidden:
            wanted.append(planned.manifest)
            continue
        found = given.get(planned.key)
        if found is None:
            raise BadPlan(f"{planned.manifest} has secret values, which no plan holds; give its manifest with -f too")
        if redact(found.definition.model, found.wire) != planned.manifest.wire:
            raise BadPlan(f"{found.source}: {found} says something else than when the plan was made")
        wanted.append(found)
    return wanted


def to_wire(plan: Plan) -> Wire:
    """Return the plan as JSON."""
    return {
        "version": VERSION,
        "apiUrl": plan.api_url,
        "createdAt": plan.created_at,
        "applySet": plan.set_name,
        "force": plan.force,
        "objects": [
            {
                "action": o.action,
                "kind": o.manifest.definition.kind,
                "project": o.manifest.project,
                "name": o.manifest.name,
                "uid": None if o.before is None else o.before["metadata"]["uid"],
                "resourceVersion": None if o.before is None else o.before["metadata"]["resourceVersion"],
                "hidden": o.hidden,
                "source": o.manifest.source,
                "manifest": o.manifest.wire,
                "before": o.before,
                "changes": [{"path": c.path, "takes": c.change.value, "from": c.old, "to": c.new} for c in o.changes],
            }
            for o in plan.objects
        ],
    }


def from_wire(wire: Any) -> Plan:
    """Return the plan of a file. Raises BadPlan."""
    if not isinstance(wire, dict) or wire.get("version") != VERSION:
        raise BadPlan(f"this is no plan of version {VERSION}")
    try:
        objects = [_read(each) for each in wire["objects"]]
        return Plan(wire["apiUrl"], wire["createdAt"], wire["applySet"], wire["force"] is True, objects)
    except (KeyError, TypeError, ValueError) as error:
        raise BadPlan(f"the plan cannot be read: {error}") from error


def _read(wire: Mapping[str, Any]) -> PlannedObject:
    definition = find_kind(wire["kind"])
    if definition is None:
        raise BadPlan(f"there is no kind {wire['kind']!r}")
    manifest = Manifest(definition, dict(wire["manifest"]), str(wire["source"]))
    changes = [FieldChange(c["path"], Change(c["takes"]), c["from"], c["to"]) for c in wire["changes"]]
    found = PlannedObject(str(wire["action"]), manifest, wire["hidden"] is True, wire["before"], changes)
    if found.key != (wire["kind"], wire["project"], wire["name"]):
        raise BadPlan(f"{wire['kind']} {wire['name']}: its manifest names another object")
    return found


def _content(live: Wire) -> Wire:
    meta = live["metadata"]
    kept = ("project", "name", "uid", "resourceVersion", "labels", "annotations")
    return {
        "kind": live.get("kind"),
        "metadata": {k: meta[k] for k in kept if k in meta},
        "spec": live.get("spec") or {},
    }


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
