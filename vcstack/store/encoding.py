"""Between etcd's values and the API's JSON, without decoding: bytes are spliced.

A stored value is the API's JSON without ``resourceVersion`` (that is etcd's mod_revision) and with fields of the
store's own at its end: ``schemaVersion`` when above 1, ``actor``, who wrote it, and of kinds that take more of a
quota than being one more of their kind ``takes``, what that is.

    {"apiVersion":"vcstack.io/v1","kind":"K","metadata":{...},"spec":{...},"status":{...},"actor":{...}}
"""

from functools import cache
from typing import Any, Final

import orjson

from vcstack.specs.meta import API_VERSION
from vcstack.specs.registry import KindDefinition

# Inside a JSON string the quotes would be escaped, so these bytes can only be the field itself; the
# actor's own fields are strings.
_ACTOR: Final = b',"actor":{'
_SCHEMA: Final = b',"schemaVersion":'
_TAKES: Final = b'},"takes":'


@cache
def head_of(kind: str) -> bytes:
    """Return what every stored value of the kind begins with."""
    return b'{"apiVersion":"%b","kind":"%b","metadata":{' % (API_VERSION.encode(), kind.encode())


def build_value(
    definition: KindDefinition, body: bytes, managed_fields: bytes, actor: bytes, takes: bytes = b""
) -> bytes:
    """Return the value to store.

    Args:
        definition: the kind.
        body: the object's JSON in the order above, without managedFields, beginning with head_of().
        managed_fields: JSON of the list, empty for none.
        actor: JSON of the actor.
        takes: JSON of what the object takes of quotas, empty for nothing.
    """
    if managed_fields:
        head = head_of(definition.kind)
        body = b"".join((head, b'"managedFields":', managed_fields, b",", memoryview(body)[len(head) :]))
    schema = b"%b%d" % (_SCHEMA, definition.schema_version) if definition.schema_version > 1 else b""
    if takes:
        return b"".join((memoryview(body)[:-1], schema, b',"actor":', actor, b',"takes":', takes, b"}"))
    return b"".join((memoryview(body)[:-1], schema, b',"actor":', actor, b"}"))


def takes_of(definition: KindDefinition, value: bytes) -> bytes:
    """Return the JSON of what the object of a stored value takes; empty when it takes nothing, or nobody knows."""
    if not definition.amount_names:
        return b""
    actor = value.rfind(_ACTOR)
    at = value.find(_TAKES, actor) if actor >= 0 else -1
    return value[at + len(_TAKES) : -1] if at >= 0 else b""


def to_json(definition: KindDefinition, value: bytes, revision: int) -> bytes:
    """Return the API's JSON of a stored value; older schemas are converted."""
    head, end = head_of(definition.kind), value.rfind(_ACTOR)
    if end < 0 or not value.startswith(head):
        return _convert(definition, value, revision)
    if definition.schema_version > 1:
        suffix = b"%b%d" % (_SCHEMA, definition.schema_version)
        if not value.endswith(suffix, 0, end):
            return _convert(definition, value, revision)
        end -= len(suffix)
    return b"".join((head, b'"resourceVersion":"%d",' % revision, memoryview(value)[len(head) : end], b"}"))


def with_revision(definition: KindDefinition, json: bytes, revision: int) -> bytes:
    """Return the API's JSON with another resourceVersion (a deleted object's last state)."""
    start = len(head_of(definition.kind)) + len(b'"resourceVersion":"')
    view = memoryview(json)
    return b"".join((view[:start], b"%d" % revision, view[json.index(b'"', start) :]))


def _convert(definition: KindDefinition, value: bytes, revision: int) -> bytes:
    wire: dict[str, Any] = orjson.loads(value)
    wire.pop("actor", None)
    wire.pop("takes", None)
    version = wire.pop("schemaVersion", 1)
    while version < definition.schema_version:
        wire = definition.conversions[version](wire)
        version += 1
    metadata = {"resourceVersion": str(revision), **wire.get("metadata", {})}
    ordered = {"apiVersion": API_VERSION, "kind": definition.kind, "metadata": metadata}
    ordered |= {k: v for k, v in wire.items() if k not in ordered}
    return bytes(memoryview(orjson.dumps(ordered)))
