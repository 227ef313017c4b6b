"""Digests of spec fields by what changing them takes, to be compared with what a machine was built from."""

import hashlib
from collections.abc import Mapping

import orjson

from vcstack.specs.model import Change, Takes
from vcstack.specs.resource import Spec


def digest_fields(spec: Spec, change: Change) -> dict[str, str]:
    """Return wire name → digest of the value, for the fields whose change takes that."""
    wire = spec.model_dump(mode="json", by_alias=True)
    found = {}
    for field in type(spec).model_fields.values():
        if any(isinstance(m, Takes) and m.change is change for m in field.metadata):
            text = orjson.dumps(wire[field.alias or ""], option=orjson.OPT_SORT_KEYS)
            found[field.alias or ""] = hashlib.sha256(text).hexdigest()[:16]
    return found


def list_changed(built: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return the names of fields whose digests differ."""
    return [name for name, digest in wanted.items() if built.get(name) != digest]
