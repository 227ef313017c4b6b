"""Who may do what, as the store's cache says it now: bindings, roles, groups, users, domains and projects.

The index is brought up to date by whoever asks: it compares the cache's version of seven kinds, and takes in
what has changed since from the cache's ring of changes. What follows for a subject is compiled when it is
asked for, and kept until something that it rests on changes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson
import structlog
from pydantic import TypeAdapter

from vcstack.apiserver.auth.grants import Grants, RuleSet
from vcstack.apiserver.auth.places import TOP, Organization, Place
from vcstack.clock import Clock
from vcstack.specs.access import EventType
from vcstack.specs.columns import find_value
from vcstack.specs.errors import Expired
from vcstack.specs.permissions import ADMIN, READ, Rule, built_in_roles
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.selection import Selection
from vcstack.store.table import Entry, Table

log = structlog.get_logger(__name__)

Wire = Mapping[str, Any]
Groups = frozenset[str]

NO_GROUPS: Final[Groups] = frozenset()
REMEMBERED: Final = 20_000
"""Most subjects whose grants are kept compiled, and sets of roles."""
K = TypeVar("K")
V = TypeVar("V")

_time: TypeAdapter[datetime] = TypeAdapter(datetime)
_rules: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


@dataclass(frozen=True, slots=True)
class Account:
    """A user, group or service account."""

    domain: str | None
    good: bool
    """Whether it may do anything: enabled, and not being deleted."""
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Binding:
    """A role binding that gives something."""

    subject: Ref
    role: str
    place: Place
    expires_at: datetime | None


@dataclass(slots=True)
class _Followed:
    """One kind, and up to where its changes have been taken in."""

    table: Table
    take_in: Callable[[str, Wire | None], None]
    clear: Callable[[], None]
    objects: Mapping[str, Entry] | None = None
    revision: int = 0


class AccessIndex:
    """Compiles and remembers grants. Everything in it is as of the cache when it is asked."""

    def __init__(self, cache: WatchCache, clock: Clock) -> None:
        self.organization = Organization()
        self._cache = cache
        self._clock = clock
        self._accounts: dict[Ref, Account] = {}
        self._groups_of: defaultdict[str, set[str]] = defaultdict(set)
        self._roles: dict[str, tuple[Rule, ...]] = {}
        self._bindings: dict[str, Binding] = {}
        self._bindings_of: defaultdict[Ref, set[str]] = defaultdict(set)
        self._rule_sets: dict[frozenset[str], RuleSet] = {}
        self._compiled: dict[tuple[Ref, Groups], Grants] = {}
        self._bases: dict[tuple[Ref, Groups], set[Ref]] = {}
        """What they rest on."""
        self._rests_on: defaultdict[Ref, set[tuple[Ref, Groups]]] = defaultdict(set)
        """The same, from what to which."""
        self._nobody = Grants(self.organization)
        self._admin = Grants(self.organization, RuleSet(built_in_roles()[ADMIN].rules))
        self._followed = [
            self._follow("Domain", self._take_domain, self.organization.clear_domains),
            self._follow("Project", self._take_project, self.organization.clear_projects),
            self._follow("Role", self._take_role, self._roles.clear),
            self._follow("User", self._take_account("User"), self._clear_accounts("User")),
            self._follow(
                "ServiceAccount", self._take_account("ServiceAccount"), self._clear_accounts("ServiceAccount")
            ),
            self._follow("Group", self._take_group, self._clear_groups),
            self._follow("RoleBinding", self._take_binding, self._clear_bindings),
        ]

    @property
    def admin(self) -> Grants:
        """Return the grants of somebody who may everything."""
        return self._admin

    @property
    def nothing(self) -> Grants:
        """Return the grants of somebody who may nothing."""
        return self._nobody

    def grants(self, subject: Ref, groups: Groups = NO_GROUPS) -> Grants:
        """Return what the user or service account may do now; a Group's are those that its members get.

        The same object is returned until something changed, so a stream knows by ``is`` whether it may go on.

        Args:
            subject: who.
            groups: groups besides those that list the user as a member (an identity provider's).
        """
        self._refresh()
        found = self._compiled.get((subject, groups))
        if found is not None and (found.until is None or self._clock.now() < found.until):
            return found
        return self._compile(subject, groups)

    def find_potential(self, subject: Ref) -> Grants:
        """Return what the subject may do as soon as it is enabled; worked out anew each time."""
        self._refresh()
        return self._add_up(self._holders(subject, NO_GROUPS), set())

    def find_lasting(self, subject: Ref, groups: Groups, until: datetime | None) -> Grants:
        """Return what the subject may do now and at least until then; None: for good. Worked out anew each time."""
        self._refresh()
        holders = [h for h in self._holders(subject, groups) if self._is_good(h)] if self._is_good(subject) else []

        def lasts(binding: Binding) -> bool:
            return binding.expires_at is None or (until is not None and binding.expires_at >= until)

        return self._add_up(holders, set(), lasts)

    def is_good(self, subject: Ref) -> bool:
        """Return whether the user or service account is there, enabled and not being deleted."""
        self._refresh()
        return self._is_good(subject)

    def domains_of(self, subject: Ref) -> tuple[str, ...]:
        """Return the domains that the user or service account lies in, the innermost first."""
        self._refresh()
        if subject.project is not None:
            return self.organization.domains_of(Place(project=subject.project))
        account = self._accounts.get(subject)
        return self.organization.domains_of(Place(domain=account.domain)) if account else ()

    def groups_of(self, subject: Ref, groups: Groups = NO_GROUPS) -> Groups:
        """Return the groups that count for the user: those that list it, and these, that are not being deleted."""
        self._refresh()
        return frozenset(h.name for h in self._holders(subject, groups) if h != subject and self._is_good(h))

    def bindings_for(self, subject: Ref, groups: Groups = NO_GROUPS) -> list[Binding]:
        """Return the bindings that give something to the subject now, by itself or by its groups and these."""
        self._refresh()
        if not self._is_good(subject):
            return []
        now = self._clock.now()
        rows = {r for h in self._holders(subject, groups) if self._is_good(h) for r in self._bindings_of.get(h, ())}
        found = [self._bindings[row] for row in rows]
        return [b for b in found if b.expires_at is None or b.expires_at > now]

    def place_of(self, definition: KindDefinition, wire: Wire, *, verb: str) -> Place:
        """Return where an object lies, or one that is to be created.

        Scopes lie in themselves for those who look, and in what is above for those who make and remove them.
        Ask ``grants`` first, which brings the index up to date.
        """
        metadata = wire["metadata"]
        project: str | None = metadata.get("project")
        if definition.kind == "Setting" and verb not in READ and wire["spec"].get("locked") is True:
            return self.place_above(wire)
        if project is not None:
            return Place(project=project)
        if definition.kind == "Project" and verb not in ("create", "delete"):
            return Place(project=metadata["name"])
        if definition.kind == "Domain" and verb in READ:
            return Place(domain=metadata["name"])
        owner = self.owner_of(definition, wire)
        if owner is not None:
            account = self._accounts.get(owner)
            return Place(project=owner.project) if owner.project else Place(domain=account.domain if account else None)
        path = definition.domain_path
        domain = find_value(wire, path) if path else None
        if definition.kind == "Quota" and verb not in READ and isinstance(domain, str):
            # Who administers a domain shares it out, but what it has itself is said from above.
            above = self.organization.domains_of(Place(domain=domain))[1:]
            return Place(domain=above[0]) if above else TOP
        return Place(domain=domain) if isinstance(domain, str) else TOP

    def place_above(self, setting: Wire) -> Place:
        """Return the place above that for which a setting holds."""
        project = setting["metadata"].get("project")
        domain = setting["spec"].get("domain")
        above = self.organization.domains_of(Place(project=project) if project else Place(domain=domain))
        above = above if project else above[1:]
        return Place(domain=above[0]) if above else TOP

    def find_place(self, definition: KindDefinition, project: str | None, name: str, *, verb: str) -> Place | None:
        """Return where an object that is there lies, as cached; None when it is not there.

        An object of a project lies there whether it is there or not.
        """
        if project is not None:
            return Place(project=project)
        entry = self._cache.find(definition, row_of(None, name))
        return None if entry is None else self.place_of(definition, orjson.loads(entry.json), verb=verb)

    def owner_of(self, definition: KindDefinition, wire: Wire) -> Ref | None:
        """Return whose the object is (a session, an API key): it may read and delete it."""
        found = find_value(wire, definition.owner_path) if definition.owner_path else None
        if isinstance(found, str):
            return Ref("User", None, found)
        return _subject_of(found, None) if isinstance(found, Mapping) else None

    def role_rules(self, name: str) -> tuple[Rule, ...] | None:
        """Return the rules of a role, None when there is none. The cloud's own are what it defines, whatever is
        stored."""
        self._refresh()
        return self._find_role(name)

    def shows(self, grants: Grants, verb: str, definition: KindDefinition, wire: Wire) -> bool:
        """Return whether one object of a list or watch is for the subject to see."""
        place = self.place_of(definition, wire, verb=verb)
        return grants.may(verb, definition, place, labels=wire["metadata"].get("labels") or {})

    # Taking in what changed.

    def _follow(self, kind: str, take_in: Callable[[str, Wire | None], None], clear: Callable[[], None]) -> _Followed:
        return _Followed(self._cache.table(get_kind(kind)), take_in, clear)

    def _refresh(self) -> None:
        for followed in self._followed:
            table = followed.table
            if table.objects is not followed.objects:
                self._load(followed)
            elif table.revision != followed.revision:
                self._catch_up(followed)

    def _catch_up(self, followed: _Followed) -> None:
        try:
            changes = followed.table.changes_after(followed.revision, Selection(None))
        except Expired:
            self._load(followed)
            return
        followed.revision = followed.table.revision
        for item in changes:
            metadata = orjson.loads(item.json)["metadata"]
            row = row_of(metadata.get("project"), metadata["name"])
            _take_in(followed, row, None if item.type is EventType.DELETED else item.json)

    def _load(self, followed: _Followed) -> None:
        """Take in everything of a kind, because changes may have been missed."""
        table = followed.table
        followed.clear()
        self._forget_all()
        followed.objects, followed.revision = table.objects, table.revision
        for row, entry in table.objects.items():
            _take_in(followed, row, entry.json)

    def _take_domain(self, row: str, wire: Wire | None) -> None:
        name = row.partition("/")[2]
        if wire is None:
            self.organization.remove_domain(name)
        else:
            self.organization.put_domain(name, wire["spec"].get("parent"))

    def _take_project(self, row: str, wire: Wire | None) -> None:
        name = row.partition("/")[2]
        if wire is None:
            self.organization.remove_project(name)
        else:
            self.organization.put_project(name, wire["spec"].get("domain"))

    def _take_role(self, row: str, wire: Wire | None) -> None:
        name = row.partition("/")[2]
        rules = tuple(_rules.validate_python(wire["spec"].get("rules") or [])) if wire is not None else None
        if rules == self._roles.get(name):
            return
        if rules is None:
            self._roles.pop(name, None)
        else:
            self._roles[name] = rules
        self._rule_sets.clear()
        self._changed(Ref("Role", None, name))

    def _take_account(self, kind: str) -> Callable[[str, Wire | None], None]:
        def take_in(row: str, wire: Wire | None) -> None:
            self._put_account(_ref_of(kind, row), _account_of(wire))

        return take_in

    def _take_group(self, row: str, wire: Wire | None) -> None:
        ref = _ref_of("Group", row)
        before = self._accounts.get(ref)
        after = _account_of(wire)
        self._put_account(ref, after)
        old, new = before.members if before else frozenset[str](), after.members if after else frozenset[str]()
        for name in old - new:
            _discard(self._groups_of, name, ref.name)
            self._changed(Ref("User", None, name))
        for name in new - old:
            self._groups_of[name].add(ref.name)
            self._changed(Ref("User", None, name))

    def _put_account(self, ref: Ref, account: Account | None) -> None:
        if account == self._accounts.get(ref):
            return
        if account is None:
            del self._accounts[ref]
        else:
            self._accounts[ref] = account
        self._changed(ref)

    def _take_binding(self, row: str, wire: Wire | None) -> None:
        before, after = self._bindings.get(row), _binding_of(wire)
        if before == after:
            return
        if before is not None:
            del self._bindings[row]
            _discard(self._bindings_of, before.subject, row)
            self._changed(before.subject)
        if after is not None:
            self._bindings[row] = after
            self._bindings_of[after.subject].add(row)
            self._changed(after.subject)

    def _clear_accounts(self, kind: str) -> Callable[[], None]:
        def clear() -> None:
            for ref in [r for r in self._accounts if r.kind == kind]:
                del self._accounts[ref]

        return clear

    def _clear_groups(self) -> None:
        self._clear_accounts("Group")()
        self._groups_of.clear()

    def _clear_bindings(self) -> None:
        self._bindings.clear()
        self._bindings_of.clear()

    # Compiling.

    def _changed(self, ref: Ref) -> None:
        for key in tuple(self._rests_on.get(ref, ())):
            self._forget(key)

    def _forget(self, key: tuple[Ref, Groups]) -> None:
        self._compiled.pop(key, None)
        for ref in self._bases.pop(key, ()):
            _discard(self._rests_on, ref, key)

    def _forget_all(self) -> None:
        self._compiled.clear()
        self._bases.clear()
        self._rests_on.clear()
        self._rule_sets.clear()

    def _is_good(self, subject: Ref) -> bool:
        account = self._accounts.get(subject)
        return account is not None and account.good

    def _compile(self, subject: Ref, groups: Groups) -> Grants:
        if len(self._compiled) >= REMEMBERED:
            self._forget_all()
        rests_on = {subject}
        found = self._nobody
        if subject in self._accounts and self._accounts[subject].good:
            holders = self._holders(subject, groups)
            rests_on.update(holders)
            found = self._add_up([h for h in holders if h in self._accounts and self._accounts[h].good], rests_on)
        key = (subject, groups)
        self._forget(key)
        self._compiled[key], self._bases[key] = found, rests_on
        for ref in rests_on:
            self._rests_on[ref].add(key)
        return found

    def _holders(self, subject: Ref, groups: Groups) -> list[Ref]:
        """Return whose bindings count for the subject: its own, and of the groups that a user is in."""
        if subject.kind != "User":
            return [subject]
        names = groups | self._groups_of.get(subject.name, NO_GROUPS)
        return [subject, *(Ref("Group", None, name) for name in names)]

    def _add_up(
        self, holders: list[Ref], rests_on: set[Ref], counts: Callable[[Binding], bool] = lambda _: True
    ) -> Grants:
        now, until = self._clock.now(), None
        roles: defaultdict[Place, set[str]] = defaultdict(set)
        for row in {row for holder in holders for row in self._bindings_of.get(holder, ())}:
            binding = self._bindings[row]
            rests_on.add(Ref("Role", None, binding.role))
            if binding.expires_at is not None:
                if binding.expires_at <= now:
                    continue
                until = min(until or binding.expires_at, binding.expires_at)
            if not counts(binding):
                continue
            roles[binding.place].add(binding.role)
        sets = {place: self._rule_set(frozenset(names)) for place, names in roles.items()}
        return Grants(
            self.organization,
            sets.get(TOP),
            {p.domain: rules for p, rules in sets.items() if p.domain is not None},
            {p.project: rules for p, rules in sets.items() if p.project is not None},
            until=until,
        )

    def _rule_set(self, names: frozenset[str]) -> RuleSet:
        """Return the roles' rules together, compiled once for all who have just these."""
        found = self._rule_sets.get(names)
        if found is None:
            if len(self._rule_sets) >= REMEMBERED:
                self._rule_sets.clear()
            rules = [rule for name in sorted(names) for rule in self._find_role(name) or ()]
            found = self._rule_sets[names] = RuleSet(rules)
        return found

    def _find_role(self, name: str) -> tuple[Rule, ...] | None:
        built_in = built_in_roles().get(name)
        return built_in.rules if built_in is not None else self._roles.get(name)


def _discard(index: defaultdict[K, set[V]], key: K, value: V) -> None:
    """Take a value out, and the key with the last one: keys are names of what people make and delete."""
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]


def _take_in(followed: _Followed, row: str, json: bytes | None) -> None:
    """Take in a version; what cannot be read gives nothing, and does not keep others from their rights."""
    try:
        followed.take_in(row, orjson.loads(json) if json is not None else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        log.exception("access.unreadable", kind=followed.table.definition.kind, row=row)
        followed.take_in(row, None)


def _ref_of(kind: str, row: str) -> Ref:
    project, _, name = row.partition("/")
    return Ref(kind, None if project == "-" else project, name)


def _subject_of(wire: Wire, project: str | None) -> Ref:
    kind: str = wire["kind"]
    return Ref(kind, (wire.get("project") or project) if kind == "ServiceAccount" else None, wire["name"])


def _account_of(wire: Wire | None) -> Account | None:
    if wire is None:
        return None
    spec, deleting = wire["spec"], "deletionTimestamp" in wire["metadata"]
    good = spec.get("enabled", True) is True and not deleting
    return Account(spec.get("domain"), good, frozenset(spec.get("members") or ()))


def _binding_of(wire: Wire | None) -> Binding | None:
    """Return what a binding gives; nothing when it is being deleted."""
    if wire is None or "deletionTimestamp" in wire["metadata"]:
        return None
    spec, project = wire["spec"], wire["metadata"].get("project")
    place = Place(project=project) if project else Place(domain=spec.get("domain"))
    expiry = spec.get("expiresAt")
    expires_at = _time.validate_python(expiry) if expiry is not None else None
    return Binding(_subject_of(spec["subject"], project), spec["role"], place, expires_at)
