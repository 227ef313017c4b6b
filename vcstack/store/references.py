"""References: what a new or changed one names must exist, checked in the cache and compared in the transaction."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from vcstack.specs.errors import NAMES_NOTHING, Cause, ErrorDetails, NotFound
from vcstack.specs.introspect import FoundReference, iter_references, iter_wire_references, refers_to
from vcstack.specs.registry import KindDefinition, Scope, get_kind
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.cache import WatchCache
from vcstack.store.draft import Draft
from vcstack.store.etcd.ops import Compare
from vcstack.store.keys import object_key, row_of
from vcstack.store.lending import is_lent
from vcstack.store.table import Entry
from vcstack.store.validation import build_cause, refuse


class Referenced(Mapping[Ref, AnyResource]):
    """The objects that a resource refers to, decoded when a rule asks for them."""

    def __init__(self, entries: Mapping[Ref, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, ref: Ref) -> AnyResource:
        return get_kind(ref.kind).model.from_wire(self._entries[ref].json)

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True)
class Resolution:
    """What became of a draft's references."""

    entries: dict[Ref, Entry] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    compares: list[Compare] = field(default_factory=list)


def resolve(
    cache: WatchCache,
    draft: Draft,
    resource: AnyResource,
    *,
    allow_missing: bool,
    dry_run: bool = False,
    hidden: Container[str] = (),
) -> Resolution:
    """Look up everything that the resource refers to; what is new must exist and stay until the write.

    What a kind's ``must_exist`` names may not be missing either when references may: but for a dry run, whose
    set of objects may make it. What the fields of ``hidden`` name is as good as missing.
    """
    result = Resolution()
    model = draft.definition.model
    if not (allow_missing and dry_run):
        _resolve_strict(cache, draft, resource, result, hidden)
    if not refers_to(model):
        return result
    known = {(r.kind, r.project, r.name) for r in iter_wire_references(model, draft.live)} if draft.live else set()
    compared = set(result.entries)
    blamed = {c.field for c in result.causes}
    for reference in iter_references(resource):
        ref, entry = _find(cache, reference, resource.metadata.project)
        if ref == resource.ref:
            continue
        is_known = (reference.kind, reference.project, reference.name) in known
        if reference.path in hidden or not (is_known or _may_name(cache, reference, entry, draft.project)):
            entry = None
        if entry is not None:
            result.entries[ref] = entry
        if is_known:
            continue
        fault = None if entry is not None and not is_deleting(entry) else _fault(reference, draft.project, entry)
        # What another project shares is not promised: later it might be there without being shared.
        excused = allow_missing and (dry_run or reference.project is None)
        if fault and not excused and reference.path not in blamed:
            result.causes.append(build_cause(reference.path, NAMES_NOTHING, fault))
        elif entry is not None and ref not in compared:
            compared.add(ref)
            result.compares.append(_unchanged(get_kind(ref.kind), ref, entry))
    _add_neighbours(cache, draft, resource, result)
    return result


def _resolve_strict(
    cache: WatchCache, draft: Draft, resource: AnyResource, result: Resolution, hidden: Container[str]
) -> None:
    """Look up what must exist, whoever writes and however."""
    must_exist = draft.definition.must_exist
    wanted = must_exist(resource)
    if not wanted:
        return
    known = {r.ref for r in must_exist(draft.definition.model.from_wire(draft.live))} if draft.live else set()
    for path, ref in ((r.path, r.ref) for r in wanted if r.ref not in known):
        definition = get_kind(ref.kind)
        entry = cache.find(definition, row_of(ref.project, ref.name)) if path not in hidden else None
        if entry is None:
            result.causes.append(build_missing(path, ref, draft.project))
        elif is_deleting(entry):
            fault = _fault(FoundReference(path, ref.kind, ref.name), ref.project, entry)
            result.causes.append(build_cause(path, NAMES_NOTHING, fault))
        elif ref not in result.entries:
            result.entries[ref] = entry
            result.compares.append(_unchanged(definition, ref, entry))


def _add_neighbours(cache: WatchCache, draft: Draft, resource: AnyResource, result: Resolution) -> None:
    """Add what the kind's rules want to see of the project besides."""
    project = resource.metadata.project
    for kind in draft.definition.neighbours(resource) if project else ():
        table = cache.table(get_kind(kind))
        for row in table.rows(project):
            result.entries.setdefault(Ref(kind, project, row.partition("/")[2]), table.objects[row])


def check_project(cache: WatchCache, definition: KindDefinition, project: str) -> Compare:
    """Return the comparison that the project is still there and not being deleted.

    Raises:
        NotFound: there is no such project.
        Invalid: it is being deleted.
    """
    projects = get_kind("Project")
    ref = Ref("Project", None, project)
    entry = cache.find(projects, row_of(None, project))
    if entry is None:
        raise no_project(project)
    if is_deleting(entry):
        message = f"project {project} is being deleted; nothing can be created in it"
        cause = build_cause("metadata.project", "ProjectTerminating", message)
        raise refuse(definition, project, "", [cause])
    return _unchanged(projects, ref, entry)


def no_project(project: str) -> NotFound:
    """Return the error of a project that is not there, or is to seem so."""
    cause = build_cause("metadata.project", NAMES_NOTHING, f"there is no Project {project}")
    details = ErrorDetails(kind="Project", name=project)
    return NotFound(f"there is no Project {project}", causes=[cause], details=details)


def is_deleting(entry: Entry) -> bool:
    """Return whether the object's deletion was asked for."""
    if b'"deletionTimestamp":"' not in entry.json:
        return False
    # It might be a label's key.
    return "deletionTimestamp" in orjson.loads(entry.json)["metadata"]


def _may_name(cache: WatchCache, reference: FoundReference, entry: Entry | None, project: str | None) -> bool:
    """Return whether the project may name it: what is its own or global, and what is shared with it."""
    if reference.project in (None, project) or entry is None:
        return True
    return project is not None and is_lent(cache, get_kind(reference.kind), entry, project)


def _find(cache: WatchCache, reference: FoundReference, project: str | None) -> tuple[Ref, Entry | None]:
    """Look in the own project first, then among the global objects, as the kind's scope allows."""
    definition = get_kind(reference.kind)
    if reference.project is not None:
        entry = cache.find(definition, row_of(reference.project, reference.name))
        return Ref(reference.kind, reference.project, reference.name), entry
    places: tuple[str | None, ...] = (None,)
    if definition.scope is not Scope.GLOBAL:
        places = (project,) if definition.scope is Scope.PROJECT or project is None else (project, None)
    for place in places:
        entry = cache.find(definition, row_of(place, reference.name))
        if entry is not None:
            return Ref(reference.kind, place, reference.name), entry
    return Ref(reference.kind, places[0], reference.name), None


def build_missing(path: str, ref: Ref, project: str | None) -> Cause:
    """Return what a writer in the project is told of a name that stands for nothing."""
    where = project if get_kind(ref.kind).scope is not Scope.GLOBAL else None
    return build_cause(
        path, NAMES_NOTHING, _fault(FoundReference(path, ref.kind, ref.name), ref.project or where, None)
    )


def _fault(reference: FoundReference, project: str | None, entry: Entry | None) -> str:
    if entry is not None:
        return f"{reference} is being deleted; name another one"
    if reference.project is not None:
        return f"there is no {reference} that is shared with project {project}; name another one"
    scope = get_kind(reference.kind).scope
    where = "" if scope is Scope.GLOBAL or not project else f" in project {project}"
    if where and scope is Scope.GLOBAL_OR_PROJECT:
        where += " nor a public one"
    return f"there is no {reference.kind} {reference.name}{where}; create it first"


def _unchanged(definition: KindDefinition, ref: Ref, entry: Entry) -> Compare:
    key = object_key(definition, row_of(ref.project, ref.name))
    return Compare.mod_revision(key, "=", entry.revision)
