"""Garbage collection along owner references, for all kinds alike.

An object whose owners are all gone is deleted (background). A deleted owner that carries the foreground
finalizer waits for its dependents; one that carries the orphan finalizer lets them go first. Informers
only say where to look: an owner counts as gone, and an owner as rid of its dependents, after a consistent
read.
"""

from collections.abc import Iterator

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.users import name_some
from vcstack.specs.access import Propagation
from vcstack.specs.errors import NotFound
from vcstack.specs.meta import OwnerReference
from vcstack.specs.registry import Scope, get_kind, load_kinds
from vcstack.specs.resource import AnyResource, Ref

FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"
WORKERS = 8

_OWNERS = "owners"


def collected_kinds() -> list[type[AnyResource]]:
    """Return the kinds that take part: all whose objects do not vanish by themselves."""
    return [d.model for d in load_kinds().values() if d.ttl_setting is None]


def owner_refs(resource: AnyResource, owner: OwnerReference) -> Iterator[Ref]:
    """Yield where the owner may be: in the object's own project, or global; nothing for unknown kinds."""
    try:
        scope = get_kind(owner.kind).scope
    except KeyError:
        return
    if scope is not Scope.GLOBAL and resource.metadata.project is not None:
        yield Ref(owner.kind, resource.metadata.project, owner.name)
    if scope is not Scope.PROJECT:
        yield Ref(owner.kind, None, owner.name)


def _all_owners(resource: AnyResource) -> Iterator[Ref]:
    for owner in resource.metadata.owner_references:
        yield from owner_refs(resource, owner)


class GarbageCollector:
    """Reconciles objects of all kinds: as dependents and as owners."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._informers = {kind.KIND: context.informer(kind) for kind in collected_kinds()}
        for informer in self._informers.values():
            informer.add_index(_OWNERS, _all_owners)

    async def reconcile(self, resource: AnyResource | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is not None:
            await self._collect(resource)
            if resource.deleting and ORPHAN_FINALIZER in resource.metadata.finalizers:
                await self._release_dependents(resource)
            elif resource.deleting and FOREGROUND_FINALIZER in resource.metadata.finalizers:
                await self._delete_dependents(resource)
        for dependent in self._known_dependents(ref):
            if resource is None or all(o.uid != resource.uid for o in dependent.metadata.owner_references):
                await self._collect(dependent)
        return None

    def _known_dependents(self, owner: Ref) -> list[AnyResource]:
        return [r for informer in self._informers.values() for r in informer.by_index(_OWNERS, owner)]

    async def _collect(self, resource: AnyResource) -> None:
        """Delete the object when all its owners are gone; else strike those that are."""
        owners = resource.metadata.owner_references
        gone = [o.uid for o in owners if not await self._exists(resource, o)]
        if not gone or resource.deleting:
            return
        if len(gone) == len(owners):
            await self._client.delete(resource.ref, uid=resource.uid)
            return
        await self._strike(resource, set(gone))

    async def _exists(self, resource: AnyResource, owner: OwnerReference) -> bool:
        """Return whether the owner is there; an owner of an unknown kind always is."""
        refs = list(owner_refs(resource, owner))
        known = [self._informers[ref.kind].get(ref) for ref in refs if ref.kind in self._informers]
        if not refs or any(k is not None and k.uid == owner.uid for k in known):
            return True
        for ref in refs:
            try:
                found = await self._client.get(get_kind(ref.kind).model, ref.name, ref.project)
            except NotFound:
                continue
            if found.uid == owner.uid:
                return True
        return False

    async def _strike(self, resource: AnyResource, uids: set[str]) -> None:
        """Remove those owners from the object."""
        left = [o for o in resource.metadata.owner_references if o.uid not in uids]
        metadata = resource.metadata.model_copy(update={"owner_references": left})
        await self._client.update(resource.model_copy(update={"metadata": metadata}))

    async def _release_dependents(self, owner: AnyResource) -> None:
        """Strike the owner from all its dependents, then let it go."""
        for dependent in await self._read_dependents(owner):
            await self._strike(dependent, {owner.uid})
        await self._client.remove_finalizer(owner, ORPHAN_FINALIZER)

    async def _delete_dependents(self, owner: AnyResource) -> None:
        """Delete all its dependents and, when those that block are gone, let it go."""
        dependents = await self._read_dependents(owner)
        for dependent in dependents:
            if not dependent.deleting:
                await self._client.delete(dependent.ref, uid=dependent.uid, propagation=Propagation.FOREGROUND)
        blocking = [d.ref for d in dependents if _blocks(d, owner)]
        if blocking:
            raise WaitingFor("DependentsPresent", f"Waiting for {name_some(blocking)} to be gone.", 5.0)
        await self._client.remove_finalizer(owner, FOREGROUND_FINALIZER)

    async def _read_dependents(self, owner: AnyResource) -> list[AnyResource]:
        """Return all that the owner owns, consistently read."""
        found: list[AnyResource] = []
        project = owner.metadata.project
        for kind in collected_kinds():
            if project is not None and get_kind(kind.KIND).scope is Scope.GLOBAL:
                continue
            page = await self._client.list(kind, project=project)
            found += [r for r in page.items if any(o.uid == owner.uid for o in r.metadata.owner_references)]
        return found


def _blocks(dependent: AnyResource, owner: AnyResource) -> bool:
    return any(o.uid == owner.uid and o.block_owner_deletion for o in dependent.metadata.owner_references)


def build(context: ControllerContext) -> Controller:
    """Return the garbage collector."""

    def owners_of(resource: AnyResource) -> Iterator[Ref]:
        if resource.deleting:
            yield from _all_owners(resource)

    kinds = collected_kinds()
    watches, matters = dict.fromkeys(kinds, owners_of), dict.fromkeys(kinds, asked_of)
    return context.controller(
        GarbageCollector(context), *kinds, name="garbage", watches=watches, matters=matters, workers=WORKERS
    )
