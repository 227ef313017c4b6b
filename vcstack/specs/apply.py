"""Server-side apply with field managers, on wire objects. Pure; the store calls it on each write.

The semantics are Kubernetes' (structured-merge-diff), with one kindness: a manager's own earlier updates
(``vcctl edit``) never conflict with its apply, which takes them over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vcstack.specs.errors import Cause, Conflict, Invalid
from vcstack.specs.fieldset import (
    EMPTY,
    MISSING,
    TRACKED_METADATA,
    Path,
    changed_leaves,
    format_path,
    from_fields_v1,
    has_path,
    leaves_of,
    overlay_fields_v1,
    steps_of,
    to_fields_v1,
)
from vcstack.specs.introspect import Shape, fields_of, join_path
from vcstack.specs.meta import ObjectMeta, format_time
from vcstack.specs.resource import AnyResource

APPLY, UPDATE = "Apply", "Update"


@dataclass(slots=True)
class _Entry:
    """One manager's set of fields."""

    manager: str
    operation: str
    subresource: str
    time: str
    paths: set[Path] = field(default_factory=set)
    changed: bool = False

    def update(self, paths: set[Path]) -> None:
        """Replace the set and note whether it differs."""
        if paths != self.paths:
            self.paths, self.changed = paths, True


def apply(
    model: type[AnyResource],
    live: Mapping[str, Any] | None,
    applied: Mapping[str, Any],
    *,
    manager: str,
    force: bool,
    now: datetime,
) -> dict[str, Any]:
    """Return the live object (None: a new one) with the applied fields laid over it and ownership updated.

    Fields that the manager applied before and no longer does are removed unless somebody else owns them.
    Status is left alone. The result is not validated.

    Raises:
        Conflict: if another manager owns a field with another value and force is not set; the causes
            name field and manager.
        Invalid: if a keyed list names an item twice or not at all.
    """
    if not isinstance(applied.get("metadata", {}), Mapping):
        cause = Cause(field="metadata", reason="FieldValueInvalid", message="must be an object with a name")
        raise Invalid("metadata must be an object with a name", causes=[cause])
    entries = _read(live)
    mine = _entry_of(entries, manager, APPLY, "")
    wanted = leaves_of(model, applied)
    changes = _changes(wanted, leaves_of(model, live or {}))
    _settle_conflicts(entries, changes, manager, force)
    before, mine_now = mine.paths, set(wanted)
    for entry in entries:
        if entry.manager == manager and entry.operation == UPDATE and not entry.subresource:
            entry.update(entry.paths - mine_now)
    mine.update(mine_now)
    owned: set[Path] = set().union(*(e.paths for e in entries))
    result = _overlay(model, live, applied)
    kept = {path[:i] for path in owned for i in range(1, len(path) + 1)}
    _remove(result, before - mine_now - kept, kept, model)
    result["metadata"]["managedFields"] = _write(entries, now)
    return result


def track_update(
    model: type[AnyResource],
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    *,
    manager: str,
    operation: str = UPDATE,
    now: datetime,
    subresource: str = "",
) -> list[dict[str, Any]]:
    """Return the managedFields after a write that is no apply: what changed belongs to the manager now.

    With subresource "status" only status counts, else only spec and metadata. ``new``'s own managedFields
    are ignored.
    """
    listed = _listed(old)
    changed, gone = changed_leaves(model, old or {}, new, status=subresource == "status")
    if not changed and not gone:
        return listed
    owner = {"manager": manager, "operation": operation, **({"subresource": subresource} if subresource else {})}
    if not any(_is_of(owner, entry) for entry in listed):
        listed.append({**owner, "time": "", "fields": {}})
    tracked = []
    for entry in listed:
        mine = _is_of(owner, entry)
        won, lost = (changed, gone) if mine else (set(), changed | gone)
        # Mostly a writer writes the fields that it owns already: then nothing has to be decoded.
        if all(has_path(entry["fields"], p) for p in won) and not any(has_path(entry["fields"], p) for p in lost):
            tracked.append(entry)
        else:
            fields = overlay_fields_v1(entry["fields"], won, lost)
            tracked.append({**entry, "time": format_time(now), "fields": fields})
    return [entry for entry in tracked if entry["fields"]]


def _is_of(owner: Mapping[str, str], entry: Mapping[str, Any]) -> bool:
    return all(entry.get(key, "") == owner.get(key, "") for key in ("manager", "operation", "subresource"))


def _listed(wire: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list(((wire or {}).get("metadata") or {}).get("managedFields") or ())


def _read(wire: Mapping[str, Any] | None) -> list[_Entry]:
    return [
        _Entry(e["manager"], e["operation"], e.get("subresource", ""), e["time"], from_fields_v1(e["fields"]))
        for e in _listed(wire)
    ]


def _entry_of(entries: list[_Entry], manager: str, operation: str, subresource: str) -> _Entry:
    """Return the manager's entry, appending an empty one when there is none."""
    for entry in entries:
        if (entry.manager, entry.operation, entry.subresource) == (manager, operation, subresource):
            return entry
    entries.append(_Entry(manager, operation, subresource, ""))
    return entries[-1]


def _write(entries: Iterable[_Entry], now: datetime) -> list[dict[str, Any]]:
    listed = []
    for entry in entries:
        if entry.paths:
            wire = {"manager": entry.manager, "operation": entry.operation}
            if entry.subresource:
                wire["subresource"] = entry.subresource
            time = format_time(now) if entry.changed or not entry.time else entry.time
            listed.append({**wire, "time": time, "fields": to_fields_v1(entry.paths)})
    return listed


def _changes(wanted: Mapping[Path, Any], present: Mapping[Path, Any]) -> set[Path]:
    """Return the paths to which applying gives another value; an empty container changes nothing."""
    return {p for p, v in wanted.items() if v is not EMPTY and present.get(p, MISSING) != v}


def _settle_conflicts(entries: list[_Entry], changes: set[Path], manager: str, force: bool) -> None:
    """Take the changed fields from their owners by force, or refuse."""
    causes: dict[Path, Cause] = {}
    for entry in entries:
        taken = entry.paths & changes
        if entry.manager != manager and not force:
            for path in taken:
                message = f"is managed by {entry.manager} with another value; force the apply to take it over"
                causes[path] = Cause(field=format_path(path), reason="FieldManagerConflict", message=message)
        if entry.manager != manager or entry.operation != APPLY:
            entry.update(entry.paths - taken)
    if causes:
        listed = [causes[p] for p in sorted(causes)]
        fields = "; ".join(f"{c.field} {c.message.partition(' with')[0]}" for c in listed)
        raise Conflict(f"apply conflicts with other field managers: {fields}", causes=listed)


def _overlay(model: type[AnyResource], live: Mapping[str, Any] | None, applied: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live object with the applied spec and metadata merged in.

    Unknown fields are carried along for the schema to refuse.
    """
    shapes = fields_of(model)
    given = applied.get("metadata") or {}
    system = fields_of(ObjectMeta).keys() - set(TRACKED_METADATA)
    base: Mapping[str, Any] = live or {
        **{k: applied[k] for k in ("apiVersion", "kind") if k in applied},
        "metadata": {k: given[k] for k in ("project", "name") if k in given},
    }
    tracked = {k: v for k, v in given.items() if k not in system}
    metadata = _merge(base.get("metadata") or {}, tracked, shapes["metadata"].shape, "metadata")
    spec = _merge(base.get("spec") or {}, applied.get("spec", {}), shapes["spec"].shape, "spec")
    unknown = {k: v for k, v in applied.items() if k not in shapes}
    return {**base, **unknown, "metadata": metadata, "spec": spec}


def _merge(live: Any, applied: Any, shape: Shape, where: str) -> Any:
    """Return applied laid over live, by the shape: objects and keyed lists merge, all else replaces."""
    if isinstance(applied, Mapping) and (shape.model or shape.values):
        result = dict(live) if isinstance(live, Mapping) else {}
        for key, value in applied.items():
            if value is not None:
                result[key] = _merge(result.get(key), value, _inner(shape, key), join_path(where, str(key)))
        return result
    if isinstance(applied, list) and shape.items and (shape.key or shape.unique):
        return _merge_lists(live if isinstance(live, list) else [], applied, shape, where)
    return applied


def _inner(shape: Shape, key: str) -> Shape:
    """Return the shape of an object's field or of a map's values; an unknown field is a leaf."""
    fields = fields_of(shape.model) if shape.model else {}
    return shape.values or (fields[key].shape if key in fields else Shape())


def _merge_lists(live: list[Any], applied: list[Any], shape: Shape, where: str) -> list[Any]:
    """Return the items of both by key: in applied's order, the others kept behind their predecessors."""
    present, wanted = steps_of(live, shape, where), steps_of(applied, shape, where)
    order = list(wanted)
    for index, step in enumerate(present):
        if step not in wanted:
            before = list(present)[index - 1] if index else None
            order.insert(order.index(before) + 1 if before is not None else 0, step)
    assert shape.items is not None
    return [
        _merge(present.get(s), wanted[s], shape.items, f"{where}[{s}]") if s in wanted else present[s] for s in order
    ]


def _remove(wire: dict[str, Any], paths: set[Path], kept: set[Path], model: type[AnyResource]) -> None:
    """Remove the paths from the object, and containers that are empty by that and nobody owns."""
    for path in sorted(paths, key=len, reverse=True):
        section = path[0][2:]
        wire[section] = _without(wire[section], path[1:], fields_of(model)[section].shape, kept, path[:1])


def _without(value: Any, path: Path, shape: Shape, kept: set[Path], above: Path) -> Any:
    """Return the value without the path; a keyed item's key stays as long as the item does."""
    step, rest = path[0], path[1:]
    here = (*above, step)
    if isinstance(value, Mapping) and step.startswith("f:") and step[2:] in value:
        key = step[2:]
        child = _without(value[key], rest, _inner(shape, key), kept, here) if rest else MISSING
        emptied = bool(rest) and child in ({}, []) and value[key] != child and here not in kept
        if child is MISSING or emptied:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: child}
    if isinstance(value, list) and shape.items and (shape.key or shape.unique):
        items = steps_of(value, shape, "")
        if not rest:
            items.pop(step, None)
        elif step in items and rest != (f"f:{shape.key}",):
            items[step] = _without(items[step], rest, shape.items, kept, here)
        return list(items.values())
    return value
