"""Overlays: folders of manifests laid over others, as server-side apply lays one manager's fields over another's.

So objects merge field by field, lists of named items by their names, and everything else is replaced. Nothing else is
to be learnt, and no second way of merging can differ from the API's.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from vcstack.applying.manifests import BadManifest, Manifest, in_order
from vcstack.specs.apply import apply
from vcstack.specs.errors import ApiError

_NEVER: Final = datetime.fromtimestamp(0, UTC)


def lay_over(base: Sequence[Manifest], overlay: Sequence[Manifest]) -> list[Manifest]:
    """Return the objects of both: those of the overlay laid over those of the same name, the others added.

    Raises:
        BadManifest: an object of the overlay cannot be merged.
    """
    found = {m.key: m for m in base}
    for manifest in overlay:
        below = found.get(manifest.key)
        found[manifest.key] = manifest if below is None else _merge(below, manifest)
    return in_order(found.values())


def _merge(below: Manifest, above: Manifest) -> Manifest:
    try:
        wire = apply(above.definition.model, below.wire, above.wire, manager="overlay", force=True, now=_NEVER)
    except ApiError as error:
        raise BadManifest(f"{above.source}: {error.message}") from error
    wire["metadata"].pop("managedFields", None)
    return replace(below, wire=wire, source=f"{below.source} with {above.source}")
