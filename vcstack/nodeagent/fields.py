"""Digests of spec fields by what changing them takes, to be compared with what a machine was built from."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from vcstack.specs.model import Change, Takes
from vcstack.specs.resource import Spec


def digest_fields(spec: Spec, change: Change) -> dict[str, str]:
    """Return wire name → digest of the value, for the fields whose change takes that."""
    wire = spec.model_dump(mode="json", by_alias=True)
    found = {}
    for field in type(spec).model_fields.values():
        if any(isinstance(m, Takes) and m.change is change for m in field.metadata):
            found[field.alias or ""] = _digest(wire[field.alias or ""])
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


_UNSET: Final = _digest(None)


def list_changed(built: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return the names of fields whose digests differ; one that did not exist yet was not set."""
    return [name for name, digest in wanted.items() if built.get(name, _UNSET) != digest]
