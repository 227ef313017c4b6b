"""Who refers to an object: what holds back its deletion, found from the RefersTo marks of all kinds.

An object that is deleted cannot be referred to anew (the store sees to it in its transactions), so once
it is being deleted a consistent read without users is final.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NoReturn

from vcstack.runtime.client import ResourceClient
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.informers import Informers
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.introspect import Shape, fields_of, iter_references, reference_paths, shapes_along
from vcstack.specs.model import join_lent
from vcstack.specs.registry import Scope, get_kind, load_kinds
from vcstack.specs.resource import AnyResource, Ref

DELETABLE = "Deletable"
"""False while something holds back the deletion that was asked for; the message names it."""
NAMED_IN_MESSAGE = 8
"""How many users a message names."""

_INDEX = "references"
_DELETING = "deleting"


@cache
def user_kinds(kind: str) -> tuple[type[AnyResource], ...]:
    """Return the kinds whose spec can refer to objects of that kind."""
    return tuple(d.model for d in load_kinds().values() if kind in _kinds_referred(fields_of(d.model)["spec"].shape))


def _kinds_referred(shape: Shape) -> Iterator[str]:
    if shape.refers_to:
        yield shape.refers_to
    for inner in (shape.items, shape.values):
        if inner is not None:
            yield from _kinds_referred(inner)
    for field in fields_of(shape.model).values() if shape.model else ():
        yield from _kinds_referred(field.shape)


def candidates_of(resource: AnyResource) -> set[Ref]:
    """Return all that the resource may refer to; a name that may be a project's or global stands for both."""
    found: set[Ref] = set()
    for reference in iter_references(resource):
        scope = get_kind(reference.kind).scope
        if scope is not Scope.GLOBAL:
            found.add(Ref(reference.kind, reference.project or resource.metadata.project, reference.name))
        if scope is not Scope.PROJECT:
            found.add(Ref(reference.kind, None, reference.name))
    return found


@cache
def lent_paths(kind: type[AnyResource], used: str) -> tuple[str, ...]:
    """Return the fields of a kind that may name another project's objects of the used kind."""
    found = (path for path, named in reference_paths(kind) if named == used)
    return tuple(p for p in found if shapes_along(kind, p)[-1].lent)


def find_users(informers: Informers, ref: Ref) -> list[Ref]:
    """Return who refers to the object as far as the informers know, sorted."""
    users: list[AnyResource] = []
    for kind in user_kinds(ref.kind):
        informer = informers.of(kind)
        informer.add_index(_INDEX, candidates_of)
        users += informer.by_index(_INDEX, ref)
    return _counting(users, ref, lambda own: informers.find(own) is not None)


async def read_users(client: ResourceClient, ref: Ref) -> list[Ref]:
    """Return who refers to the object, consistently read, sorted."""
    users: list[AnyResource] = []
    for kind in user_kinds(ref.kind):
        page = await client.list(kind, project=ref.project)
        users += [r for r in page.items if ref in candidates_of(r)]
        for path in lent_paths(kind, ref.kind) if ref.project else ():
            # Of other projects, found by how they write the name.
            page = await client.list(kind, fields=f"{path}={join_lent(ref.project, ref.name, None)}")
            users += page.items
    shadows: set[Ref] = set()
    if users and ref.project is None and get_kind(ref.kind).scope is Scope.GLOBAL_OR_PROJECT:
        shadows = {r.ref for r in (await client.list(get_kind(ref.kind).model)).items}
    return _counting(users, ref, lambda own: own in shadows)


def _counting(users: Iterable[AnyResource], ref: Ref, exists: Callable[[Ref], bool]) -> list[Ref]:
    """Return those that count: not itself, none that means a project's own object of the same name.

    Objects of its own kind that are being deleted too do not count, else two that refer to each other
    would wait for ever.
    """
    counting = set()
    for user in users:
        own = Ref(ref.kind, user.metadata.project, ref.name)
        shadowed = own != ref and get_kind(ref.kind).scope is Scope.GLOBAL_OR_PROJECT and exists(own)
        if user.ref != ref and not shadowed and not (user.deleting and user.kind == ref.kind):
            counting.add(user.ref)
    return sorted(counting, key=lambda r: (r.kind, r.project or "", r.name))


def watch_users(context: ControllerContext, kind: type[AnyResource]) -> Mapping[type[AnyResource], Any]:
    """Return the watches that wake a deleting object of the kind when its users change."""

    informer = context.informer(kind)
    informer.add_index(_DELETING, lambda resource: (True,) if resource.deleting else ())

    def used_and_deleting(user: AnyResource) -> Iterator[Ref]:
        if not informer.by_index(_DELETING, True):
            return  # as nearly always
        for ref in candidates_of(user):
            used = informer.get(ref) if ref.kind == kind.KIND else None
            if used is not None and used.deleting:
                yield ref

    return dict.fromkeys(user_kinds(kind.KIND), used_and_deleting)


def name_some(refs: Iterable[Ref], *, home: str | None = None) -> str:
    """Return a list for a sentence: the first few by name and how many more.

    Args:
        refs: the objects.
        home: the project whose people read it; what is other projects' is only counted.
    """
    known = list(refs)
    names = [str(r) for r in known if home is None or r.project in (None, home)]
    others = Counter(r.kind for r in known if home is not None and r.project not in (None, home))
    names += [f"{count} {kind}{'s' if count > 1 else ''} of other projects" for kind, count in sorted(others.items())]
    more = len(names) - NAMED_IN_MESSAGE
    return ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")


async def ensure_unused(context: ControllerContext, resource: AnyResource) -> None:
    """Return when nothing refers to a deleting object any more; else say in Deletable who does, and wait.

    Raises:
        WaitingFor: it is in use.
    """
    users = find_users(context.informers, resource.ref) or await read_users(context.client, resource.ref)
    if users:
        names = name_some(users, home=resource.metadata.project)
        await refuse_deletion(context, resource, "InUse", f"Used by {names}; delete or change them first.")


async def refuse_deletion(
    context: ControllerContext, resource: AnyResource, reason: str, message: str, *, after_seconds: float = 30.0
) -> NoReturn:
    """Say in the Deletable condition what holds back the deletion, and wait.

    Raises:
        WaitingFor: always.
    """
    condition = condition_of(resource, DELETABLE, False, reason, message, clock=context.clock)
    await write_status(context.client, resource, conditions=[condition])
    raise WaitingFor(reason, message, after_seconds)
