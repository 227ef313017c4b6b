"""Applying a set of manifests: in order, a few at a time, each with its own result; and pruning the set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, Final

from vcstack.apiclient.wire import WireClient
from vcstack.applying.concurrency import gather
from vcstack.applying.manifests import Manifest
from vcstack.clock import Clock
from vcstack.specs.access import Propagation
from vcstack.specs.apply import apply as apply_locally
from vcstack.specs.errors import ApiError, Conflict, Forbidden, NotFound, TooLarge
from vcstack.specs.introspect import iter_wire_references
from vcstack.specs.meta import APPLY_SET_LABEL, PRUNE_LABEL
from vcstack.specs.plan import FieldChange, compare
from vcstack.specs.registry import KindDefinition, get_kind, load_kinds
from vcstack.specs.sensitive import iter_sensitive, redact

Wire = dict[str, Any]
KEPT: Final = "Disabled"
"""The prune label's value with which an object is never pruned."""
TRIES: Final = 5
"""An object that changes while it is applied is looked at again so often."""


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
    changes: Sequence[FieldChange] = ()
    """What differed of an object that was there; only where ``Options.careful`` asks."""


def claim_all(manifest: Manifest, live: Wire | None) -> None:
    """Let every object be applied."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to apply."""

    dry_run: bool = False
    force: bool = False
    allow_missing_references: bool = False
    set_name: str | None = None
    careful: bool = False
    """Whether what is as it should be is left alone, and everything else written only to what was looked at."""
    claim: Callable[[Manifest, Wire | None], None] = claim_all
    """Called with what is there before it is written; raises where it is not to be."""


def project_in(wire: Wire) -> str | None:
    """Return the project of a wire object."""
    project: str | None = wire["metadata"].get("project")
    return project


def set_of(wire: Wire | None) -> str | None:
    """Return the apply set that an object belongs to."""
    name: str | None = (((wire or {}).get("metadata") or {}).get("labels") or {}).get(APPLY_SET_LABEL)
    return name


def is_kept(wire: Wire) -> bool:
    """Return whether the object says that it is never to be pruned."""
    return bool((wire["metadata"].get("labels") or {}).get(PRUNE_LABEL) == KEPT)


def with_set(manifest: Manifest, live: Wire | None, set_name: str | None) -> Manifest:
    """Return the manifest with the set's label; without a set an object stays in the one it is in."""
    labels = manifest.wire["metadata"].get("labels")
    name = set_name or set_of(live)
    if name is None or not isinstance(labels, dict | None) or APPLY_SET_LABEL in (labels or {}):
        return manifest
    metadata = {**manifest.wire["metadata"], "labels": {**(labels or {}), APPLY_SET_LABEL: name}}
    return replace(manifest, wire={**manifest.wire, "metadata": metadata})


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


def changes_to(manifest: Manifest, live: Wire | None, result: Wire) -> list[FieldChange]:
    """Return what differs, but for the set's label."""
    return [c for c in compare(manifest.definition.model, live, result) if APPLY_SET_LABEL not in c.path]


class Applier:
    """Applies as one field manager."""

    def __init__(self, client: WireClient, manager: str, clock: Clock) -> None:
        self.client = client
        self.manager = manager
        self.clock = clock

    async def find_live(self, manifest: Manifest) -> Wire | None:
        """Return the object as it is, or None."""
        try:
            return await self.client.get_wire(manifest.definition, manifest.name, manifest.project)
        except NotFound:
            return None

    def lay_over(self, manifest: Manifest, live: Wire | None) -> Wire:
        """Return the object as it would be, worked out here: without defaults, and with secrets as they are given."""
        model = manifest.definition.model
        return apply_locally(model, live, manifest.wire, manager=self.manager, force=True, now=self.clock.now())

    async def check_room(self, manifests: Sequence[Manifest]) -> None:
        """Ask whether quotas leave room for the whole set, before anything of it is written.

        A set that is too large for one request is not checked: each of its objects is, when it is applied.

        Raises:
            QuotaExceeded: they do not.
        """
        with suppress(TooLarge):
            await self.client.check_quotas([m.wire for m in manifests])

    async def apply_all(self, manifests: Sequence[Manifest], options: Options) -> list[Outcome]:
        """Apply in order, what can go together at once. Failures do not stop the others."""
        outcomes: list[Outcome] = []
        created_projects: set[str] = set()
        for group in in_waves(manifests):
            calls = [partial(self._apply, m, options, created_projects) for m in group]
            for manifest, found in zip(group, await gather(calls), strict=True):
                outcome = Outcome(manifest, error=found) if isinstance(found, Exception) else found
                outcomes.append(outcome)
                if manifest.definition.kind == "Project" and outcome.result is Result.CREATED:
                    created_projects.add(manifest.name)
        return outcomes

    async def _apply(self, manifest: Manifest, options: Options, created: set[str]) -> Outcome:
        for left in reversed(range(TRIES)):
            live = await self.find_live(manifest)
            options.claim(manifest, live)
            wanted = with_set(manifest, live, options.set_name)
            if options.dry_run and manifest.project in created:
                # The project exists only in this dry run, so the API cannot check what is in it: the schema does.
                wire = self.lay_over(wanted, None)
                return Outcome(manifest, Result.CREATED, redact(manifest.definition.model, wire))
            if not options.careful:
                return await self._send(manifest, wanted, live, options, force=options.force)
            if live is not None and self._is_settled(wanted, live):
                return Outcome(manifest, Result.UNCHANGED, live)
            try:
                return await self._send_exactly(manifest, wanted, live, options)
            except Conflict as error:
                if not left or not _is_stale(error, live):
                    raise
        raise AssertionError("unreachable")

    async def _send_exactly(self, manifest: Manifest, wanted: Manifest, live: Wire | None, options: Options) -> Outcome:
        """Write to the very version that was looked at, so that nobody's claim in between is overridden."""
        if live is None:
            # Not forced: whoever makes it at the same time has it.
            return await self._send(manifest, wanted, None, options, force=False)
        meta = live["metadata"]
        exact = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        wire = {**wanted.wire, "metadata": {**wanted.wire["metadata"], **exact}}
        return await self._send(manifest, replace(wanted, wire=wire), live, options, force=options.force)

    async def _send(
        self, manifest: Manifest, wanted: Manifest, live: Wire | None, options: Options, *, force: bool
    ) -> Outcome:
        wire = await self.client.apply_wire(
            manifest.definition,
            wanted.wire,
            manager=self.manager,
            force=force,
            dry_run=options.dry_run,
            missing_references="Allow" if options.allow_missing_references or options.dry_run else None,
        )
        changes = changes_to(manifest, live, wire) if options.careful and live is not None else ()
        return Outcome(manifest, result_of(live, wire, dry_run=options.dry_run), wire, changes=changes)

    def _is_settled(self, wanted: Manifest, live: Wire) -> bool:
        """Return whether applying would change nothing, as far as that can be told without asking."""
        model = wanted.definition.model
        if live["metadata"].get("deletionTimestamp") or any(True for _ in iter_sensitive(model, wanted.wire)):
            return False
        try:
            result = self.lay_over(wanted, live)
        except ApiError:
            return False
        same = all(
            (live["metadata"].get(name) or None) == (result["metadata"].get(name) or None)
            for name in ("labels", "annotations", "managedFields")
        )
        return same and set(result) == set(live) and (live.get("spec") or {}) == (result.get("spec") or {})

    async def find_stale(
        self, manifests: Iterable[Manifest], set_name: str, *, members: Sequence[Wire] | None = None
    ) -> list[Wire]:
        """Return the objects of the set that no manifest names any more, what depends on others first.

        Objects that have a controller, are being deleted, or are labelled not to be pruned are left alone.

        Args:
            manifests: what is wanted.
            set_name: the set.
            members: the objects of the set; default they are looked for.
        """
        wanted = {m.key for m in manifests}
        stale: list[Wire] = []
        for wire in members if members is not None else await self.find_members(set_name):
            meta = wire["metadata"]
            owned = any(o.get("controller") for o in meta.get("ownerReferences") or [])
            key = (wire["kind"], project_in(wire), meta["name"])
            if key not in wanted and not owned and not meta.get("deletionTimestamp") and not is_kept(wire):
                stale.append(wire)
        return sorted(stale, key=lambda w: (-get_kind(w["kind"]).apply_order, w["kind"], w["metadata"]["name"]))

    async def find_members(self, set_name: str) -> list[Wire]:
        """Return all objects of the set, of the kinds that people write and the caller may list."""
        definitions = [d for d in load_kinds().values() if not d.system_only]
        calls = [partial(self._list, d, set_name) for d in definitions]
        found: dict[str, Wire] = {}
        for answer in await gather(calls):
            if isinstance(answer, Forbidden):
                continue  # of what may not even be listed nothing was applied
            if isinstance(answer, Exception):
                raise answer
            found |= {wire["metadata"]["uid"]: wire for wire in answer}
        return list(found.values())

    async def _list(self, definition: KindDefinition, set_name: str) -> list[Wire]:
        return (await self.client.list_wire(definition, labels=f"{APPLY_SET_LABEL}={set_name}")).items

    async def prune(self, stale: Sequence[Wire], *, dry_run: bool = False) -> list[tuple[Wire, Exception | None]]:
        """Delete the objects, each only if it is still the one that was listed."""
        results: list[tuple[Wire, Exception | None]] = []
        for wire in stale:
            error: Exception | None = None
            try:
                await self.client.delete_wire(
                    get_kind(wire["kind"]),
                    wire["metadata"]["name"],
                    project=project_in(wire),
                    uid=wire["metadata"].get("uid"),
                    propagation=Propagation.BACKGROUND,
                    dry_run=dry_run,
                )
            except NotFound:
                pass
            except ApiError as caught:
                error = caught
            results.append((wire, error))
        return results


def result_of(live: Wire | None, wire: Wire, *, dry_run: bool) -> Result:
    """Return what became of an object that was ``live`` before and is ``wire`` now.

    Its status says nothing: controllers write it whenever they like. Secret values show in the generation only.
    """
    if live is None:
        return Result.CREATED
    kept = ("uid", "labels", "annotations") if dry_run else ("uid", "labels", "annotations", "generation")
    same = all(live["metadata"].get(key) == wire["metadata"].get(key) for key in kept)
    return Result.UNCHANGED if same and live.get("spec") == wire.get("spec") else Result.CONFIGURED


def _is_stale(error: Conflict, live: Wire | None) -> bool:
    """Return whether somebody else wrote in between: then it is to be looked at again."""
    fields = {c.field for c in error.causes}
    return live is None or bool(fields & {"metadata.resourceVersion", "metadata.uid"})
