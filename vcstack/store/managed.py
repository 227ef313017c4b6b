"""managedFields of a write. For new objects, the hot path, the set of fields is remembered by shape.

Which fields a create owns follows from which keys are there, not from their values: thousands of objects
from one template have the same set. So it is computed once a shape and its JSON is spliced in.
"""

from datetime import datetime
from typing import Any, Final

import orjson

from vcstack.specs.apply import UPDATE, track_update
from vcstack.specs.meta import format_time
from vcstack.specs.registry import KindDefinition
from vcstack.store.draft import Draft

MAX_SHAPES: Final = 1024
MAX_BYTES: Final = 8192
_KEYS: Final = frozenset(("name", "type", "uid"))
"""What items of lists may be told apart by: their values are part of the shape."""

_known: dict[Any, bytes] = {}


def encode_managed_fields(draft: Draft, size: int, manager: str, subresource: str, now: datetime) -> bytes:
    """Return the JSON of the object's managedFields after the write, empty for none.

    Args:
        draft: the object.
        size: bytes of its JSON; the shapes of large ones are not remembered, which bounds the memory.
        manager: who writes.
        subresource: status, or empty.
        now: the time of the write.
    """
    if draft.managed_fields is not None:
        return orjson.dumps(draft.managed_fields) if draft.managed_fields else b""
    if draft.live is None:
        return _encode_new(draft, size, manager, now)
    new = {"metadata": draft.metadata, "spec": draft.spec, "status": draft.status}
    model = draft.definition.model
    entries = track_update(model, draft.live, new, manager=manager, now=now, subresource=subresource)
    return orjson.dumps(entries) if entries else b""


def _encode_new(draft: Draft, size: int, manager: str, now: datetime) -> bytes:
    metadata = _owned_metadata(draft)
    if size > MAX_BYTES:
        fields: bytes | None = _build_fields(draft.definition, metadata, draft.spec, now)
    else:
        shape = (draft.definition.kind, _shape_of(metadata), _shape_of(draft.spec))
        fields = _known.get(shape)
        if fields is None:
            if len(_known) >= MAX_SHAPES:
                _known.clear()
            fields = _known[shape] = _build_fields(draft.definition, metadata, draft.spec, now)
    if not fields:
        return b""
    head = orjson.dumps({"manager": manager, "operation": UPDATE, "time": format_time(now)})
    return b'[%b,"fields":%b}]' % (head[:-1], fields)


def _owned_metadata(draft: Draft) -> dict[str, Any]:
    """Return what the creator chose: the kind's own finalizers are nobody's."""
    metadata = {k: v for k, v in draft.metadata.items() if k in ("labels", "annotations", "ownerReferences")}
    chosen = [f for f in draft.metadata.get("finalizers", ()) if f not in draft.definition.finalizers]
    return {**metadata, "finalizers": chosen} if chosen else metadata


def _build_fields(definition: KindDefinition, metadata: dict[str, Any], spec: Any, now: datetime) -> bytes:
    new = {"metadata": metadata, "spec": spec}
    entries = track_update(definition.model, None, new, manager="any", now=now)
    return orjson.dumps(entries[0]["fields"]) if entries else b""


def _shape_of(value: Any, *, item: bool = False) -> Any:
    """Return a hashable value that is equal for values with the same set of fields."""
    if isinstance(value, dict):
        return tuple((k, v if item and k in _KEYS and isinstance(v, str) else _shape_of(v)) for k, v in value.items())
    if isinstance(value, list):
        return ("[]", *(v if isinstance(v, str) else _shape_of(v, item=True) for v in value))
    return None if value is None else 0
