"""Applying a set of manifests: in order, a few at a time, each with its own result; and pruning the set."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from vcstack.specs.access import Propagation
from vcstack.specs.apply import apply as apply_locally
from vcstack.specs.errors import ApiError, NotFound, TooLarge
from vcstack.specs.introspect import iter_wire_references
from vcstack.specs.registry import get_kind, load_kinds
from vcstack.specs.sensitive import redact
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.manifests import Manifest
from vcstack.vcctl.reading import Place, Wire, gather, list_objects, project_in
from vcstack.vcctl.session import MANAGER, Session

SET_LABEL = "vcstack.io/apply-set"
"""Names the apply set that an object belongs to; only objects of the set are ever pruned."""


class Result(StrEnum):
    """What became of an object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An object's result, or the error that it met."""

    manifest: Manifest
    result: Result | None = None
    wire: Wire | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How to apply."""

    dry_run: bool = False
    force: bool = False
    allow_missing_references: bool = False
    set_name: str | None = None


def with_set(manifest: Manifest, live: Wire | None, set_name: str | None) -> Manifest:
    """Return the manifest with the set's label; without a set an object stays in the one it is in."""
    labels = manifest.wire["metadata"].get("labels")
    before = ((live or {}).get("metadata") or {}).get("labels") or {}
    name = set_name or before.get(SET_LABEL)
    if name is None or not isinstance(labels, dict | None) or SET_LABEL in (labels or {}):
        return manifest
    metadata = {**manifest.wire["metadata"], "labels": {**(labels or {}), SET_LABEL: name}}
    return replace(manifest, wire={**manifest.wire, "metadata": metadata})


async def find_live(session: Session, manifest: Manifest) -> Wire | None:
    """Return the object as it is, or None."""
    try:
        return await session.client.get_wire(manifest.definition, manifest.name, manifest.project)
    except NotFound:
        return None


def in_waves(manifests: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """Yield what can be applied together: in the kinds' order, and of one order what others refer to first.

    Only domains and the like refer to objects of their own order; in a circle all go at once, and the API
    says what is wrong with it.
    """
    for order in sorted({m.definition.apply_order for m in manifests}):
        left = [m for m in manifests if m.definition.apply_order == order]
        while left:
            waiting = {(m.definition.kind, m.name) for m in left}
            wave = [m for m in left if not (_named_by(m) - {(m.definition.kind, m.name)}) & waiting] or left
            yield wave
            taken = {id(m) for m in wave}
            left = [m for m in left if id(m) not in taken]


def _named_by(manifest: Manifest) -> set[tuple[str, str]]:
    return {(r.kind, r.name) for r in iter_wire_references(manifest.definition.model, manifest.wire)}


async def apply_all(session: Session, manifests: Sequence[Manifest], options: Options) -> list[Outcome]:
    """Apply in order, what can go together at once. Failures do not stop the others."""
    outcomes: list[Outcome] = []
    created_projects: set[str] = set()
    for group in in_waves(manifests):
        calls = [partial(_apply, session, m, options, created_projects) for m in group]
        for manifest, found in zip(group, await gather(calls), strict=True):
            outcome = Outcome(manifest, error=found) if isinstance(found, Exception) else found
            outcomes.append(outcome)
            if manifest.definition.kind == "Project" and outcome.result is Result.CREATED:
                created_projects.add(manifest.name)
    return outcomes


async def check_room(session: Session, manifests: Sequence[Manifest]) -> None:
    """Ask whether quotas leave room for the whole set, before anything of it is written.

    A set that is too large for one request is not checked: each of its objects is, when it is applied.

    Raises:
        QuotaExceeded: they do not.
    """
    with suppress(TooLarge):
        await session.client.check_quotas([m.wire for m in manifests])


async def _apply(session: Session, manifest: Manifest, options: Options, created: set[str]) -> Outcome:
    live = await find_live(session, manifest)
    wanted = with_set(manifest, live, options.set_name)
    if options.dry_run and manifest.project in created:
        # The project exists only in this dry run, so the API cannot check what is in it: the schema does.
        wire = apply_locally(
            manifest.definition.model, None, wanted.wire, manager=MANAGER, force=True, now=session.clock.now()
        )
        return Outcome(manifest, Result.CREATED, redact(manifest.definition.model, wire))
    wire = await session.client.apply_wire(
        manifest.definition,
        wanted.wire,
        manager=MANAGER,
        force=options.force,
        dry_run=options.dry_run,
        missing_references="Allow" if options.allow_missing_references or options.dry_run else None,
    )
    return Outcome(manifest, _result(live, wire, dry_run=options.dry_run), wire)


def _result(live: Wire | None, wire: Wire, *, dry_run: bool) -> Result:
    if live is None:
        return Result.CREATED
    if not dry_run:
        same = live["metadata"].get("resourceVersion") == wire["metadata"].get("resourceVersion")
        return Result.UNCHANGED if same else Result.CONFIGURED
    same = all(live["metadata"].get(k) == wire["metadata"].get(k) for k in ("labels", "annotations"))
    return Result.UNCHANGED if same and live.get("spec") == wire.get("spec") else Result.CONFIGURED


async def find_stale(session: Session, manifests: Sequence[Manifest], set_name: str) -> list[Wire]:
    """Return the objects of the set that no manifest names any more, what depends on others first.

    Objects that have a controller or are being deleted are left alone.
    """
    wanted = {m.key for m in manifests}
    stale: list[Wire] = []
    for definition in load_kinds().values():
        if definition.system_only:
            continue
        for wire in await list_objects(session, [Place(definition, None, labels=f"{SET_LABEL}={set_name}")]):
            meta = wire["metadata"]
            owned = any(o.get("controller") for o in meta.get("ownerReferences") or [])
            key = (definition.kind, project_in(wire), meta["name"])
            if key not in wanted and not owned and not meta.get("deletionTimestamp"):
                stale.append(wire)
    return sorted(stale, key=lambda w: -get_kind(w["kind"]).apply_order)


async def prune(session: Session, stale: Sequence[Wire], *, dry_run: bool) -> list[tuple[Wire, Exception | None]]:
    """Delete the objects, each only if it is still the one that was listed."""
    results: list[tuple[Wire, Exception | None]] = []
    for wire in stale:
        error: Exception | None = None
        try:
            await session.client.delete_wire(
                get_kind(wire["kind"]),
                wire["metadata"]["name"],
                project=project_in(wire),
                uid=wire["metadata"].get("uid"),
                propagation=Propagation.BACKGROUND,
                dry_run=dry_run,
            )
        except NotFound:
            pass
        except (ApiError, CommandError) as caught:
            error = caught
        results.append((wire, error))
    return results
