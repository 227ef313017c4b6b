"""What applying would do, object by object: for diff and plan. The server says it, which does all but write."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vcstack.apiclient.planmessages import MOST_ITEMS, PlannedElsewhere, PlannedItem
from vcstack.applying.concurrency import gather
from vcstack.applying.manifests import Manifest
from vcstack.applying.sets import with_set
from vcstack.specs.errors import ApiError, TooLarge, from_status
from vcstack.specs.meta import APPLY_SET_LABEL
from vcstack.specs.plan import FieldChange
from vcstack.specs.registry import get_kind
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import MANAGER, Session


@dataclass(frozen=True, slots=True)
class Examined:
    """One object, and what would become of it."""

    manifest: Manifest
    live: Wire | None = None
    """As it is; None: it would be created."""
    changes: Sequence[FieldChange] = ()
    """Secrets are stand-ins."""
    deleted: bool = False
    """Whether it would be pruned."""
    refusal: ApiError | None = None
    """Why the API would refuse it."""
    error: Exception | None = None
    """Why that could not be found out."""

    @property
    def differs(self) -> bool:
        """Return whether something would happen."""
        return self.error is None and (self.live is None or self.deleted or bool(self.changes))


async def examine_all(
    session: Session,
    manifests: Sequence[Manifest],
    *,
    set_name: str | None = None,
    prune: bool = False,
    force: bool = False,
    replace: bool = False,
) -> list[Examined]:
    """Return what applying (or replacing) would do, in the manifests' order, and then what would be pruned.

    Raises:
        QuotaExceeded: there is no room for all of it together, though there is for each.
    """
    lives = await gather([partial(session.applier.find_live, manifest) for manifest in manifests])
    found = {
        m.key: Examined(m, error=live) if isinstance(live, Exception) else Examined(m, live)
        for m, live in zip(manifests, lives, strict=True)
    }
    wanted = [(e, with_set(e.manifest, e.live, set_name).wire) for e in found.values() if e.error is None]
    beside = [(m.definition.kind, m.name) for m in manifests]
    for each, item in await _ask(session, wanted, beside, force=force, replace=replace):
        found[each.manifest.key] = _judge(session, each, item)
    examined = list(found.values())
    if prune and set_name is not None:
        for wire in await session.applier.find_stale(manifests, set_name):
            metadata = {k: wire["metadata"][k] for k in ("project", "name") if k in wire["metadata"]}
            manifest = Manifest(get_kind(wire["kind"]), {"kind": wire["kind"], "metadata": metadata}, "the apply set")
            examined.append(Examined(manifest, live=wire, deleted=True))
    return examined


async def _ask(
    session: Session,
    wanted: Sequence[tuple[Examined, Wire]],
    names: Sequence[tuple[str, str]],
    *,
    force: bool,
    replace: bool,
) -> list[tuple[Examined, PlannedItem]]:
    """Return the server's answer for each; what is too large for one request is asked in halves."""
    if not wanted:
        return []
    given = {(e.manifest.definition.kind, e.manifest.name) for e, _ in wanted}
    beside = [PlannedElsewhere(kind=kind, name=name) for kind, name in names if (kind, name) not in given]
    try:
        if len(wanted) > MOST_ITEMS:
            raise TooLarge("more than one request takes")
        wires = [wire for _, wire in wanted]
        reply = await session.client.plan(wires, manager=MANAGER, force=force, beside=beside, replace=replace)
    except TooLarge:
        half = len(wanted) // 2
        if not half:
            raise
        first = await _ask(session, wanted[:half], names, force=force, replace=replace)
        return first + await _ask(session, wanted[half:], names, force=force, replace=replace)
    if reply.refusal is not None:
        raise from_status(reply.refusal)
    return [(each, item) for (each, _), item in zip(wanted, reply.items, strict=True)]


def _judge(session: Session, each: Examined, item: PlannedItem) -> Examined:
    for text in item.warnings:
        session.warn(text)
    changes = [FieldChange(c.path, c.takes, c.from_, c.to) for c in item.changes if APPLY_SET_LABEL not in c.path]
    refusal = from_status(item.refusal) if item.refusal is not None else None
    return Examined(each.manifest, each.live, changes, refusal=refusal)
