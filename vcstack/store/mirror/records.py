"""From the store's keys and values to rows: pure functions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from vcstack.specs.kinds.event import Event
from vcstack.specs.registry import KindDefinition, load_kinds
from vcstack.specs.resource import Ref

PREFIX = b"/vcstack/"
TOMBSTONE = b"/vcstack/.deleted"
"""Overwritten in each transaction that removes an object: {"key", "actor"}, for who did it."""
UNKNOWN_ACTOR = {"subject": "unknown", "manager": "unknown"}


@dataclass(frozen=True, slots=True)
class Change:
    """One object as of one revision; `object` is None when it was removed."""

    ref: Ref
    revision: int
    object: dict[str, Any] | None
    actor: Mapping[str, Any]


BIGGEST = 2**63 - 1
"""The largest of PostgreSQL's integers."""


def find_ref(key: bytes) -> tuple[KindDefinition, Ref] | None:
    """Return whose object the key holds, or None for claims, leases and kinds that are not known."""
    parts = key.removeprefix(PREFIX).decode().split("/")
    definition = _plurals().get(parts[0])
    if definition is None or len(parts) != 3:
        return None
    return definition, Ref(definition.kind, None if parts[1] == "-" else parts[1], parts[2])


def _plurals() -> dict[str, KindDefinition]:
    return {d.plural: d for d in load_kinds().values()}


def read_put(ref: Ref, value: bytes, revision: int) -> Change:
    """Return the change that a stored value stands for, without what is the store's own."""
    stored: dict[str, Any] = orjson.loads(value)
    if b"\\u0000" in value:
        stored = _without_nul(stored)
    actor = stored.pop("actor", UNKNOWN_ACTOR)
    stored.pop("schemaVersion", None)
    stored.pop("takes", None)
    stored["metadata"]["resourceVersion"] = str(revision)
    return Change(ref, revision, stored, actor)


def _without_nul(value: Any) -> Any:
    """Return the value as PostgreSQL takes it, which knows no NUL: one object must not keep all others waiting."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def operation_of(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    """Return Created, Updated, StatusUpdated, DeletionRequested or Deleted."""
    if new is None:
        return "Deleted"
    if old is None or old["metadata"].get("uid") != new["metadata"].get("uid"):
        return "Created"
    if new["metadata"].get("deletionTimestamp") and not old["metadata"].get("deletionTimestamp"):
        return "DeletionRequested"
    changed = {path.split(".")[0] for path, _, _ in iter_differences(old, new)}
    return "StatusUpdated" if changed <= {"status"} else "Updated"


_NOISE = {"resourceVersion", "managedFields"}


def iter_differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, old, new) of every leaf that differs; lists of named or typed items go by name or type."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new} - (_NOISE if path == "metadata" else set())):
            yield from iter_differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif (keyed := _by_key(old, new)) is not None:
        before, after = keyed
        for key in sorted({*before, *after}):
            yield from iter_differences(before.get(key), after.get(key), f"{path}[{key}]")
    elif old != new:
        yield path, old, new


def _by_key(old: Any, new: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    if not (isinstance(old, list) and isinstance(new, list)):
        return None
    for key in ("name", "type"):
        if all(isinstance(i, Mapping) and isinstance(i.get(key), str) for i in (*old, *new)):
            before, after = ({i[key]: i for i in items} for items in (old, new))
            if len(before) == len(old) and len(after) == len(new):
                return before, after
    return None


def build_diff(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the differences as stored in history."""
    return [{"path": p, "old": o, "new": n} for p, o, n in iter_differences(old or {}, new or {})]


def build_row(change: Change) -> dict[str, Any]:
    """Return the row of the current state; the change must have an object."""
    assert change.object is not None
    meta = change.object["metadata"]
    conditions = change.object.get("status", {}).get("conditions", ())
    return {
        **build_key(change.ref),
        "uid": meta.get("uid", ""),
        "revision": change.revision,
        "generation": meta.get("generation", 0),
        "ready": next((c["status"] for c in conditions if c["type"] == "Ready"), None),
        "created_at": _time(meta.get("creationTimestamp")),
        "deletion_requested_at": _time(meta.get("deletionTimestamp")),
        "labels": meta.get("labels", {}),
        "object": change.object,
    }


def build_event_row(change: Change) -> dict[str, Any] | None:
    """Return the row of an event; None for other kinds, and for one that the store lets go: its row stays."""
    if change.object is None or change.ref.kind != Event.KIND:
        return None
    spec, uid = change.object.get("spec") or {}, change.object["metadata"].get("uid")
    if not uid or not spec.get("lastTime"):
        return None
    regarding = spec.get("regarding") or {}
    return {
        "uid": uid,
        "project": change.ref.project or "",
        "name": change.ref.name,
        "revision": change.revision,
        **{f"regarding_{key}": regarding.get(key) for key in ("kind", "name", "uid")},
        **{key: spec.get(key) for key in ("type", "reason", "message", "actor")},
        "count": min(spec.get("count", 1), BIGGEST),
        "first_time": _time(spec.get("firstTime")),
        "last_time": _time(spec.get("lastTime")),
    }


def build_key(ref: Ref) -> dict[str, str]:
    """Return the primary key's columns."""
    return {"kind": ref.kind, "project": ref.project or "", "name": ref.name}


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
