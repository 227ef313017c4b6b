"""What a writer may not name: people and places of others are told from missing ones by no error.

A binding can name any user of the cloud, so whether one is accepted would tell who is there.
"""

from collections.abc import Iterator, Sequence

from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import Grants
from vcstack.apiserver.auth.places import Place
from vcstack.specs.errors import Cause
from vcstack.specs.introspect import iter_references
from vcstack.specs.registry import Reference, Scope, definition_of, get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.references import build_missing


def find_hidden(
    index: AccessIndex, writer: Grants, new: AnyResource, old: AnyResource | None, *, home: Place
) -> Sequence[Cause]:
    """Return what the store would say if what the object begins to name, and the writer may not see, were missing.

    Args:
        index: the index.
        writer: what the writer may do.
        new: the object as it would be.
        old: as it is, None when it is new.
        home: where the object lies: users and groups of its own domain and of those above may be named.
    """
    known = {r.ref for r in _named_by(old)} if old is not None else set()
    hidden = {r.path: r.ref for r in _named_by(new) if r.ref not in known and not _may_name(index, writer, r.ref, home)}
    return [build_missing(path, ref, new.metadata.project) for path, ref in hidden.items()]


def _named_by(resource: AnyResource) -> Iterator[Reference]:
    """Yield what may lie elsewhere: global objects, and service accounts of other projects."""
    for found in iter_references(resource):
        if get_kind(found.kind).scope is Scope.GLOBAL:
            yield Reference(found.path, Ref(found.kind, None, found.name))
    yield from definition_of(resource).must_exist(resource)


def _may_name(index: AccessIndex, writer: Grants, ref: Ref, home: Place) -> bool:
    if ref.project is not None:
        return writer.sees(Place(project=ref.project))
    definition = get_kind(ref.kind)
    if definition.domain_path is None:
        return True  # a catalogue, the same for all
    place = index.find_place(definition, None, ref.name, verb="get")
    if place is None or writer.may("get", definition, place):
        return True
    return place.domain is not None and place.domain in index.organization.domains_of(home)
