"""What projects share with others: who may name, and read a little of, an object that lies elsewhere."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from vcstack.specs.kinds.network import Network, is_shared_with
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.table import Entry

Wire = Mapping[str, Any]
SHARED = b'"sharedWith":[{'
"""Stands in networks that are shared: few are, and are found by that before anything is decoded. So a stranger learns
nothing from the time that it takes."""


def is_lent(cache: WatchCache, definition: KindDefinition, entry: Entry, borrower: str) -> bool:
    """Return whether the object is shared with the project."""
    lender = _find_lender(cache, definition, entry)
    return lender is not None and is_shared_with(lender, _scopes_of(cache, borrower))


def is_lent_to_any(cache: WatchCache, definition: KindDefinition, entry: Entry, borrowers: Iterable[str]) -> bool:
    """Return whether the object is shared with one of the projects."""
    lender = _find_lender(cache, definition, entry)
    if lender is None:
        return False
    return any(is_shared_with(lender, _scopes_of(cache, borrower)) for borrower in borrowers)


def iter_lent(cache: WatchCache, definition: KindDefinition, borrower: str) -> Iterator[Wire]:
    """Yield the objects of the kind that others share with the project."""
    scopes = _scopes_of(cache, borrower)
    shared = {
        (wire["metadata"]["project"], wire["metadata"]["name"])
        for entry in cache.table(get_kind(Network.KIND)).objects.values()
        if SHARED in entry.json and is_shared_with(wire := orjson.loads(entry.json), scopes)
    }
    lenders = {project for project, _ in shared}
    table = cache.table(definition)
    for project in sorted(lenders):
        for row in table.rows(project):
            wire = orjson.loads(table.objects[row].json)
            lender = definition.lent_by(wire)
            if lender is not None and (lender.project, lender.name) in shared:
                yield wire


def _find_lender(cache: WatchCache, definition: KindDefinition, entry: Entry) -> Wire | None:
    """Return the network that is shared, and with it the object; None when it is not."""
    found: Entry | None = entry
    if definition.kind != Network.KIND:
        lender = definition.lent_by(orjson.loads(entry.json))
        found = cache.find(get_kind(lender.kind), row_of(lender.project, lender.name)) if lender is not None else None
    return orjson.loads(found.json) if found is not None and SHARED in found.json else None


def _scopes_of(cache: WatchCache, project: str) -> Mapping[tuple[str, str], str]:
    """Return the project and the domains that it lies in, each with its uid; nothing when it is gone."""
    found: dict[tuple[str, str], str] = {}
    step, name, above = "project", project, "domain"
    while name and (step, name) not in found:
        entry = cache.find(get_kind(step.capitalize()), row_of(None, name))
        if entry is None:
            break
        wire = orjson.loads(entry.json)
        found[step, name] = wire["metadata"]["uid"]
        step, name, above = "domain", wire["spec"].get(above), "parent"
    return found
