"""What an object's owners do to it and it to them: it is deleted with them, and may hold up their deletion.

So who changes the owners of an object that is there needs the right to delete it, as in Kubernetes
(OwnerReferencesPermissionEnforcement): an owner that is not there would have it deleted at once.
"""

import orjson

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import Grants
from vcstack.specs.meta import OwnerReference
from vcstack.specs.permissions import Verb
from vcstack.specs.registry import definition_of, load_kinds
from vcstack.specs.resource import AnyResource
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of


def find_unowned(
    cache: WatchCache, index: AccessIndex, grants: Grants, new: AnyResource, old: AnyResource | None
) -> str:
    """Return what the caller may not do of what the write says of owners; empty when it may.

    What somebody makes may go with anything.
    """
    before = old.metadata.owner_references if old is not None else []
    if new.metadata.owner_references == before:
        return ""
    if old is not None and not _may_delete(index, grants, old):
        return f"change metadata.ownerReferences of this {old.kind}: that is for who may delete it"
    for owner in new.metadata.owner_references:
        if not owner.block_owner_deletion or owner in before:
            continue
        found = _find(cache, new, owner)
        if found is not None and not _may_delete(index, grants, found):
            return f"set blockOwnerDeletion for {owner.kind} {owner.name}: that is for who may delete it"
    return ""


def _may_delete(index: AccessIndex, grants: Grants, resource: AnyResource) -> bool:
    definition = definition_of(resource)
    place = index.place_of(definition, resource.to_wire(), verb=Verb.DELETE)
    return grants.may(Verb.DELETE, definition, place, labels=resource.metadata.labels)


def _find(cache: WatchCache, resource: AnyResource, owner: OwnerReference) -> AnyResource | None:
    """Return the owner: in the object's own project, or global. Who names its uid has seen it."""
    definition = load_kinds().get(owner.kind)
    if definition is None:
        return None
    for project in (resource.metadata.project, None):
        entry = cache.find(definition, row_of(project, owner.name))
        if entry is not None and orjson.loads(entry.json)["metadata"]["uid"] == owner.uid:
            return definition.model.from_wire(entry.json)
    return None
