"""The kind registry: everything that routes, storage, CLI, mirror, docs and console derive from.

A kind registers once, in its own module ``vcstack/specs/kinds/<kind>.py``; nothing else lists kinds.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from vcstack.specs.claims import Claim
from vcstack.specs.errors import Cause
from vcstack.specs.resource import AnyResource, Ref
from vcstack.specs.settings import SettingReader


class Scope(StrEnum):
    """Where objects of a kind live."""

    GLOBAL = "Global"
    PROJECT = "Project"
    GLOBAL_OR_PROJECT = "GlobalOrProject"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``vcctl get`` and of the console's list."""

    name: str
    """The heading, upper case."""
    path: str
    """Dotted path on the wire object: status.host, status.addresses[*].address, status.conditions[Ready].status.

    ``[*]`` joins all items with a comma, ``[X]`` picks the item whose type or name is X.
    """
    wide: bool = False
    """Shown only with -o wide."""
    format: str = "text"
    """text, age (a time shown as age), bytes, or power."""
    default: str = ""
    """Shown when the field is absent: the default in force, since defaults stay out of spec."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A typed column of the kind's view in the mirror."""

    name: str
    path: str
    type: str = "text"
    """A PostgreSQL type: text, bigint, boolean, timestamptz, jsonb, inet."""


Referenced = Mapping[Ref, AnyResource]


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that names another object."""

    path: str
    """The field to blame: spec.parent."""
    ref: Ref


def no_claims(resource: AnyResource) -> Sequence[Claim]:
    """Return nothing: the kind claims nothing."""
    return ()


def no_causes(resource: AnyResource, old: AnyResource | None, referenced: Referenced) -> Sequence[Cause]:
    """Return nothing: the schema says all there is to check."""
    return ()


def no_warnings(resource: AnyResource, old: AnyResource | None) -> Sequence[str]:
    """Return nothing: no write of the kind is dangerous in itself."""
    return ()


def no_references(resource: AnyResource) -> Sequence["Reference"]:
    """Return nothing: what the fields marked with RefersTo name may be missing if the writer allows it."""
    return ()


def no_lender(wire: Mapping[str, Any]) -> Ref | None:
    """Return nothing: no other project's objects may name the kind's."""
    return None


def no_amounts(resource: AnyResource, referenced: Referenced) -> Mapping[str, int]:
    """Return nothing: of the kind only the objects are counted."""
    return {}


def makes_nothing(resource: AnyResource) -> Mapping[str, int]:
    """Return nothing: the kind's controllers make no objects that count."""
    return {}


def begins_empty(resource: Any, settings: SettingReader) -> Sequence[AnyResource]:
    """Return nothing."""
    return ()


def no_neighbours(resource: AnyResource) -> Sequence[str]:
    """Return nothing: the check needs only what the object refers to."""
    return ()


@dataclass(frozen=True, slots=True, eq=False)
class KindDefinition:
    """All that the generic parts know of a kind."""

    model: type[AnyResource]
    plural: str
    uid_prefix: str
    scope: Scope
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    """Besides NAME, READY and AGE, which every kind has."""
    view: tuple[ViewColumn, ...] = ()
    """Besides project, name, uid, ready and the times. Empty: no typed view in the mirror."""
    ready_when: tuple[str, ...] = ()
    """The conditions that Ready sums up, in the order in which they come true. Empty: no conditions."""
    finalizers: tuple[str, ...] = ()
    """Set on every new object: what the kind's reconcilers clean up."""
    node_finalizer: str | None = None
    """The finalizer that the object's host removes."""
    node_path: str | None = None
    """Where the object names its host (status.host): that host may read it and write its status."""
    claims: Callable[[Any], Sequence[Claim]] = no_claims
    """What the object holds exclusively; pure. Claimed and released in the object's own transactions."""
    claimed_by: Callable[[str], str] | None = None
    """From an object's name to the pool of the claims on it: it is not removed while one is held."""
    check: Callable[[Any, Any, Referenced], Sequence[Cause]] = no_causes
    """Rules across fields and objects; pure. Called with (new, old or None, the objects it refers to)."""
    warns: Callable[[Any, Any], Sequence[str]] = no_warnings
    """What people are warned of who write that, in plans and answers; pure. Called with (new, old or None)."""
    must_exist: Callable[[Any], Sequence[Reference]] = no_references
    """What has to be there, and stay until the write, when the object begins to name it, even where references
    may be missing; pure. For names that give rights: whoever takes the name later must not get them."""
    lent_by: Callable[[Mapping[str, Any]], Ref | None] = no_lender
    """The Network whose spec.sharedWith says which other projects may name a wire object, and read it as ``lent_view``
    shows it; pure."""
    lent_view: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """What those see of the wire object who borrow it; None: they see nothing, and nobody borrows any."""
    neighbours: Callable[[Any], Sequence[str]] = no_neighbours
    """The kinds whose objects in the same project ``check`` sees as well; pure."""
    amounts: Callable[[Any, Referenced], Mapping[str, int] | None] = no_amounts
    """What an object takes of a quota besides being one more of its kind; pure. None: what it refers to and is
    measured by is missing yet. Called with the object and what it refers to."""
    amount_names: tuple[str, ...] = ()
    """The names that ``amounts`` may return."""
    amounts_path: str = ""
    """The field to blame when an amount exceeds a quota (spec.flavor)."""
    begins_with: Callable[[Any, SettingReader], Sequence[AnyResource]] = begins_empty
    """What the cloud makes with a new object, in the same transaction: there is never one without; pure."""
    makes: Callable[[Any], Mapping[str, int]] = makes_nothing
    """What its controllers will make and quotas count, by plural; pure. For the check of a whole set beforehand."""
    counted: bool = True
    """Whether quotas count it, if it lies in a project or domain and is not the system's own."""
    ttl_setting: str | None = None
    """Objects vanish that long after their last write (Event): the setting that says how long."""
    system_only: bool = False
    """Users read it but never write it (Event)."""
    revocable: bool = False
    """Of what only the system writes: users may delete it (Session)."""
    domain_path: str | None = None
    """Where a global object names the domain that it lies in (spec.domain); without one it lies at the top."""
    owner_path: str | None = None
    """Where a global object names whose it is: a user by name, or a subject. It lies in that one's domain, and
    its owner may read and delete it."""
    shared: bool = False
    """Whether global objects of it are for the tenants of all projects to read (Image)."""
    apply_order: int = 50
    """Where it comes in an apply set: lower is applied first and pruned last."""
    category: str = "core"
    """A group for docs and console: compute, network, storage, identity, core."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """An object as a user writes it, without kind and apiVersion; status: what may become of it. Those of all kinds fit
    together in project demo."""
    spec_outside: Mapping[str, Any] = field(default_factory=dict)
    """What the example's spec is outside of projects, where that differs."""
    schema_version: int = 1
    """The version of the stored schema."""
    conversions: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    """From stored version n to n + 1; pure, on the decoded JSON."""

    @property
    def kind(self) -> str:
        """Return the kind's name."""
        return self.model.KIND

    @property
    def is_counted(self) -> bool:
        """Return whether quotas count the kind's objects."""
        if not self.counted or self.system_only:
            return False
        return self.scope is not Scope.GLOBAL or self.domain_path is not None

    @property
    def singular(self) -> str:
        """Return the kind's name in lower case, as typed in vcctl."""
        return self.kind.lower()


_KINDS: dict[str, KindDefinition] = {}

R = TypeVar("R", bound=AnyResource)


def register(definition: KindDefinition) -> KindDefinition:
    """Add a kind.

    Raises:
        ValueError: if its name, plural or short name is taken.
    """
    taken = {n for d in _KINDS.values() for n in (d.singular, d.plural, *d.short_names)}
    clash = taken & {definition.singular, definition.plural, *definition.short_names}
    if clash or not definition.kind:
        raise ValueError(f"kind {definition.kind}: {sorted(clash)} registered already or KIND is missing")
    _KINDS[definition.kind] = definition
    return definition


def load_kinds() -> Mapping[str, KindDefinition]:
    """Return all kinds by name, importing the modules below vcstack.specs.kinds on the first call."""
    _import_kinds()
    return _KINDS


@cache
def _import_kinds() -> None:
    """Once only: looking for modules takes half a millisecond, and this is asked at every reconcile."""
    package = importlib.import_module("vcstack.specs.kinds")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"vcstack.specs.kinds.{module}")


@cache
def quota_names() -> tuple[str, ...]:
    """Return all that a quota can limit: the plurals of kinds that are counted, and the names of amounts."""
    counted = [d for d in load_kinds().values() if d.is_counted]
    return tuple(sorted({d.plural for d in counted}.union(*(d.amount_names for d in counted))))


def get_kind(kind: str) -> KindDefinition:
    """Return the kind of that exact name.

    Raises:
        KeyError: if there is none.
    """
    return load_kinds()[kind] if kind not in _KINDS else _KINDS[kind]


def definition_of(model: type[AnyResource] | AnyResource) -> KindDefinition:
    """Return the definition of a resource or its class."""
    return get_kind(model.KIND)


def find_kind(word: str) -> KindDefinition | None:
    """Return the kind called so: its name in any case, plural or short name; None when there is none."""
    lower = word.lower()
    for definition in load_kinds().values():
        if lower in (definition.singular, definition.plural, *definition.short_names):
            return definition
    return None
