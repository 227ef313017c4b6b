"""What applying would do, object by object: for diff and plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from vcstack.applying.concurrency import gather
from vcstack.applying.manifests import Manifest
from vcstack.applying.sets import changes_to, with_set
from vcstack.specs.errors import ApiError
from vcstack.specs.plan import FieldChange
from vcstack.specs.registry import get_kind
from vcstack.specs.sensitive import has_sensitive, redact
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import MANAGER, Session


@dataclass(frozen=True, slots=True)
class Examined:
    """One object, and what would become of it."""

    manifest: Manifest
    live: Wire | None = None
    """As it is; None: it would be created."""
    result: Wire | None = None
    """As it would be, secret values left out; None: it would be deleted."""
    changes: Sequence[FieldChange] = ()
    refusal: ApiError | None = None
    """Why the API would refuse it."""
    error: Exception | None = None
    """Why that could not be found out."""

    @property
    def differs(self) -> bool:
        """Return whether something would happen."""
        return self.error is None and (self.live is None or self.result is None or bool(self.changes))


async def examine_all(
    session: Session, manifests: Sequence[Manifest], *, set_name: str | None = None, prune: bool = False
) -> list[Examined]:
    """Return what applying would do, in the manifests' order, and then what would be pruned."""
    projects = frozenset(m.name for m in manifests if m.definition.kind == "Project")
    in_set = len(manifests) > 1
    calls = [partial(_examine, session, m, projects, set_name, in_set=in_set) for m in manifests]
    found = [
        Examined(manifest, error=each) if isinstance(each, Exception) else each
        for manifest, each in zip(manifests, await gather(calls), strict=True)
    ]
    if prune and set_name is not None:
        for wire in await session.applier.find_stale(manifests, set_name):
            metadata = {k: wire["metadata"][k] for k in ("project", "name") if k in wire["metadata"]}
            manifest = Manifest(get_kind(wire["kind"]), {"kind": wire["kind"], "metadata": metadata}, "the apply set")
            found.append(Examined(manifest, live=wire))
    return found


async def _examine(
    session: Session, manifest: Manifest, projects: frozenset[str], set_name: str | None, *, in_set: bool
) -> Examined:
    """Look at one object. What it refers to may be missing when others of its set might make it."""
    live = await session.applier.find_live(manifest)
    wanted = with_set(manifest, live, set_name)
    model = manifest.definition.model
    # What is secret in the manifest is not shown; the API's answer says whether it differs.
    result = redact(model, session.applier.lay_over(wanted, live))
    changes = changes_to(manifest, live, result)
    if live is None and manifest.project in projects:
        return Examined(manifest, live, result, changes)
    try:
        answer = await session.client.apply_wire(
            manifest.definition,
            wanted.wire,
            manager=MANAGER,
            dry_run=True,
            missing_references="Allow" if in_set else None,
        )
        if has_sensitive(model):
            result, changes = answer, changes_to(manifest, live, answer)
    except ApiError as error:
        if error.CODE >= 500:
            raise
        return Examined(manifest, live, result, changes, refusal=error)
    return Examined(manifest, live, result, changes)
