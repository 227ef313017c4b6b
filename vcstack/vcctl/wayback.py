"""The way back: an object as it was at a revision, or all of a project; planned first, then done step by step."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from vcstack.applying.concurrency import gather
from vcstack.applying.manifests import Manifest
from vcstack.applying.sets import TRIES, in_waves
from vcstack.specs.errors import Conflict, Expired, NotFound, Unavailable
from vcstack.specs.kinds.project import Project
from vcstack.specs.meta import format_time
from vcstack.specs.patch import create_merge_patch
from vcstack.specs.plan import compare
from vcstack.specs.registry import KindDefinition, definition_of, load_kinds
from vcstack.vcctl.examining import Examined, examine_all
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import Session

WRITTEN: Final = ("labels", "annotations")
PAGE: Final = 500
NEWEST: Final = str(2**53)
"""Whoever asks for what was at this revision asks for now, with all that was written before."""
Place = tuple[KindDefinition, str | None, str]
"""Kind, project and name."""


class ProjectPast:
    """What has changed in a project, read page by page; and how far back none of it is missing."""

    def __init__(self, session: Session, project: str) -> None:
        self._session = session
        self._project = project
        self.reach = 0
        """What was before this revision may have been removed from history; as the last page says."""
        self.reach_time: datetime | None = None
        """The same as a moment."""

    async def lines(self) -> AsyncIterator[Wire]:
        """Yield the changes, the newest first.

        Raises:
            Unavailable: some were removed meanwhile, perhaps among those that were read already.
        """
        before: str | None = None
        cuts: str | None = None
        while True:
            page = await self._session.client.subresource(
                "GET", definition_of(Project), self._project, "timeline", params={"limit": PAGE, "before": before}
            )
            reach = page["metadata"].get("reach") or {"revision": "0", "cuts": "0"}
            self.reach = int(reach["revision"])
            self.reach_time = datetime.fromisoformat(reach["time"]) if "time" in reach else None
            if cuts not in (None, reach["cuts"]):
                raise Unavailable("old versions were just removed from history; try again")
            cuts = reach["cuts"]
            for line in page["items"]:
                yield line
            before = page["metadata"].get("before")
            if before is None:
                return

    def refuse(self) -> Expired:
        """Return the error for who asks for what was before."""
        moment = "" if self.reach_time is None else f" ({format_time(self.reach_time)})"
        return Expired(
            f"older versions in project/{self._project} were removed: its history reaches back to revision "
            f"{self.reach}{moment}"
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One object, then and now."""

    definition: KindDefinition
    name: str
    project: str | None
    past: Wire | None
    """None: it was not there."""
    live: Wire | None
    """None: it is not there."""
    removed: Expired | None = None
    """Why nobody knows whether and how it was there: that was removed from history."""

    def __str__(self) -> str:
        return f"{self.definition.singular}/{self.name}"

    @property
    def is_settled(self) -> bool:
        """Return whether it is as it was."""
        if self.past is None or self.live is None:
            return self.past is self.live
        return not compare(self.definition.model, self.live, self.past)


@dataclass(frozen=True, slots=True)
class WayBack:
    """What makes a project again what it was."""

    makings: Sequence[tuple[Step, Examined]]
    """Made again or changed, with what the API says of that; what it refuses, too."""
    leavings: Sequence[Step]
    """Deleted, for they were not there; what others name goes last."""
    followers: int
    """Objects that follow these by themselves: they have owners, or the cloud made them."""

    @property
    def possible(self) -> list[Step]:
        """Return what can be made again or changed."""
        return [step for step, examined in self.makings if examined.refusal is None and examined.error is None]


async def look_at(session: Session, definition: KindDefinition, name: str, project: str | None, revision: str) -> Step:
    """Return the object then and now."""
    past = live = removed = None
    try:
        past = await session.client.get_at_revision(definition, name, revision, project=project)
    except NotFound:
        pass
    except Expired as error:
        removed = error
    with contextlib.suppress(NotFound):
        live = await session.client.get_wire(definition, name, project)
    return Step(definition, name, project, past, live, removed)


async def plan_way_back(session: Session, project: str, revision: str) -> WayBack:
    """Return what makes the project as it was at that revision; nothing is changed by that.

    Raises:
        QuotaExceeded: quotas leave no room for all of it.
        NotFound: history does not reach back so far.
        Expired: what was then has been removed from history.
        Unavailable: history has not come to the present.
    """
    # History follows at some distance: what it has not come to yet would be left out.
    await look_at(session, definition_of(Project), project, None, NEWEST)
    touched, moment = await _touched_since(session, project, int(revision))
    calls = [partial(look_at, session, definition, name, place, revision) for definition, place, name in touched]
    steps = []
    followers = 0
    for found, is_clouds in zip(await gather(calls), touched.values(), strict=True):
        if isinstance(found, Exception):
            raise found
        step = _without_deleting(found)
        if (step.past or step.live or {"metadata": {}})["metadata"].get("ownerReferences") or (
            is_clouds and step.past is None and step.removed is None
        ):
            followers += 1
        elif step.removed is not None:
            raise step.removed
        elif not step.is_settled:
            if found.past is None and _was_there(step, moment):
                raise NotFound(f"{step} was there then, but its history does not reach back so far")
            steps.append(step)
    wanted = {manifest.key: (step, manifest) for step in steps if (manifest := _manifest_of(step)) is not None}
    examined = await examine_all(session, [manifest for _, manifest in wanted.values()], force=True, replace=True)
    leavings = [step for step in steps if step.past is None]
    return WayBack(
        [(wanted[each.manifest.key][0], each) for each in examined],
        sorted(leavings, key=lambda step: -step.definition.apply_order),
        followers,
    )


async def bring_back(session: Session, step: Step, *, dry_run: bool = False) -> None:
    """Make the object as it was, on the version that was looked at or one that differs in what was observed only.

    Raises:
        Conflict: somebody has changed it since.
    """
    manifest, live = _manifest_of(step), step.live
    assert manifest is not None
    if live is None:
        await session.client.create_wire(step.definition, manifest.wire, dry_run=dry_run)
        return
    for left in reversed(range(TRIES)):
        try:
            await _write(session, step, manifest.wire, live, dry_run=dry_run)
        except Conflict as error:
            now = await session.client.get_wire(step.definition, step.name, step.project)
            if not left or not _is_unchanged(error, step, live, now):
                raise
            live = now
        else:
            return


def in_order(steps: Sequence[Step]) -> list[list[Step]]:
    """Return what can be made together, what others refer to first."""
    manifests = [(manifest, step) for step in steps if (manifest := _manifest_of(step)) is not None]
    by_key = {manifest.key: step for manifest, step in manifests}
    return [[by_key[each.key] for each in wave] for wave in in_waves([manifest for manifest, _ in manifests])]


async def _touched_since(session: Session, project: str, revision: int) -> tuple[dict[Place, bool], datetime]:
    """Return the objects that have changed since with whether the cloud itself made them then, and when that began.

    Raises:
        NotFound: history does not reach back so far; what it has not seen would look as if it had not been there.
        Expired: something that has changed since may have been removed from history.
    """
    lines: list[Wire] = []
    past = ProjectPast(session, project)
    async for line in past.lines():
        if revision < past.reach:
            raise past.refuse()
        if int(line["revision"]) <= revision:
            return _by_place(lines), datetime.fromisoformat(line["time"])
        lines.append(line)
    if revision < past.reach:
        raise past.refuse()
    if past.reach_time is not None:
        return _by_place(lines), past.reach_time
    raise NotFound(f"the history of project/{project} does not reach back to revision {revision}")


def _by_place(lines: Sequence[Wire]) -> dict[Place, bool]:
    found: dict[Place, bool] = {}
    for line in reversed(lines):
        definition = load_kinds()[line["kind"]]
        if definition.system_only:
            continue
        key = (definition, line.get("project"), line["name"])
        made = line["operation"] == "Created"
        found[key] = str(line["actor"]).startswith("system:") if made else found.get(key, False)
    return found


def _was_there(step: Step, moment: datetime) -> bool:
    """Return whether an object that history has not seen is older than that."""
    assert step.live is not None
    return datetime.fromisoformat(step.live["metadata"]["creationTimestamp"]) < moment.replace(microsecond=0)


def _without_deleting(step: Step) -> Step:
    """Return the step; what was on its way out then is not brought back, what is on its way out needs no deletion."""
    past = None if step.past is None or step.past["metadata"].get("deletionTimestamp") else step.past
    going = past is None and step.live is not None and step.live["metadata"].get("deletionTimestamp")
    return replace(step, past=past, live=None if going else step.live)


def _manifest_of(step: Step) -> Manifest | None:
    """Return what people write of the object as it was; None: it was not there."""
    past = step.past
    if past is None:
        return None
    kept = {key: past["metadata"][key] for key in ("project", "name", *WRITTEN) if key in past["metadata"]}
    wire = {"apiVersion": past["apiVersion"], "kind": past["kind"], "metadata": kept, "spec": past.get("spec") or {}}
    return Manifest(step.definition, wire, "history")


async def _write(session: Session, step: Step, wanted: Wire, live: Wire, *, dry_run: bool) -> None:
    patch = create_merge_patch(_written(live), _written(wanted))
    exact = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
    patch["metadata"] = {**patch.get("metadata", {}), **exact}
    await session.client.merge_patch_wire(step.definition, step.name, patch, project=step.project, dry_run=dry_run)


def _written(wire: Wire) -> Wire:
    return {"metadata": {key: wire["metadata"].get(key) or {} for key in WRITTEN}, "spec": wire.get("spec") or {}}


def _is_unchanged(error: Conflict, step: Step, live: Wire, now: Wire) -> bool:
    """Return whether only what was observed is another now."""
    is_same = live["metadata"]["uid"] == now["metadata"]["uid"] and not compare(step.definition.model, live, now)
    return is_same and any(cause.field == "metadata.resourceVersion" for cause in error.causes)
