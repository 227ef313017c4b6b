"""Who may do what: the one place that decides, before anything is read or written.

The administrator may do everything that is a user's business: status, finalizers and events belong to the
system. A host may do what ``reach.py`` finds to be its own. Users and service accounts may what their role
bindings give them (``auth/grants.py``); where they may nothing, nothing seems to be there. Nobody else may do
anything.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from vcstack.apiserver.audit.entry import note_denial
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.bearers import Bearers, KeyTerms
from vcstack.apiserver.auth.granting import (
    EVERYTHING,
    Excess,
    describe,
    describe_missing_role,
    find_excess,
    find_excess_of,
    find_outlasting,
)
from vcstack.apiserver.auth.grants import ALWAYS, Grants, Selectors
from vcstack.apiserver.auth.keyguard import find_lacking
from vcstack.apiserver.auth.naming import find_hidden
from vcstack.apiserver.auth.owning import find_unowned
from vcstack.apiserver.auth.places import TOP, Place
from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.ownfields import HOST_LIMIT, check_host_status
from vcstack.apiserver.reach import HostReach
from vcstack.apiserver.targets import Target
from vcstack.specs.columns import find_value
from vcstack.specs.errors import ApiError, Cause, Expired, Forbidden, Invalid, Unauthorized
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.event import Event, actor_of
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.kinds.task import Task
from vcstack.specs.permissions import ANY, READ, Rule
from vcstack.specs.registry import KindDefinition, Scope, definition_of
from vcstack.specs.resource import AnyResource, Ref
from vcstack.specs.selectors import parse_field_selector
from vcstack.specs.settings import KNOWN_SETTINGS, Delegation
from vcstack.store.actor import Guard, Premise
from vcstack.store.draft import Draft, not_found
from vcstack.store.etcd.ops import Compare
from vcstack.store.keys import row_of
from vcstack.store.lending import is_lent_to_any
from vcstack.store.references import no_project
from vcstack.store.store import Store

Wire = Mapping[str, Any]


class Verb(StrEnum):
    """What is asked for, independent of HTTP's methods."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that somebody wants to do."""

    verb: Verb
    target: Target
    field_selector: str = ""
    """Of a list or watch."""
    creates: bool = False
    """Whether what is not there is made (server-side apply)."""

    def __str__(self) -> str:
        target = self.target
        place = f"{target.project}/" if target.project else ""
        sub = f"/{target.subresource}" if target.subresource else ""
        return f"{self.verb.value} {target.definition.plural} {place}{target.name}{sub}".rstrip()


READ_VERBS = frozenset({Verb.GET, Verb.LIST, Verb.WATCH})
SYSTEM_SUBRESOURCES = frozenset({"status", "finalize", "heartbeat", "certificate", "tunnel"})
"""Written by hosts and the cloud's own parts; people read them."""
HOST_SUBRESOURCES = {
    "": frozenset({Verb.GET}),
    "status": frozenset({Verb.GET, Verb.UPDATE}),
    "heartbeat": frozenset({Verb.UPDATE}),
    "certificate": frozenset({Verb.UPDATE}),
    "tunnel": frozenset({Verb.GET}),
}
"""What a host may do with its own Host object."""
BOUND_SUBRESOURCES = {
    "": frozenset({Verb.GET}),
    "status": frozenset({Verb.GET, Verb.UPDATE}),
    "finalize": frozenset({Verb.UPDATE}),
}
"""What a host may do with objects bound to it."""
OWNER_VERBS = frozenset({Verb.GET, Verb.DELETE})
"""What everybody may do with what is one's own: sessions, API keys."""
EVERYTHING_READABLE = (Rule(verbs=["get"], kinds=[ANY]),)
RECHECK_SECONDS = 1.0
"""How often a stream that goes on is looked at while nothing is sent."""
HOST_RECHECK_SECONDS = 2.0
"""The same for hosts, each of which has several."""
NOBODY = "say who you are: a bearer token or a client certificate"


class Authorizer:
    """Decides. Raises Unauthorized or Forbidden, or NotFound where the caller must not learn what is there."""

    def __init__(self, store: Store, index: AccessIndex, bearers: Bearers) -> None:
        self._cache = store.cache
        self._reach = HostReach(store)
        self._index = index
        self._bearers = bearers

    async def authorize(self, identity: Identity, action: Action) -> None:
        """Return when the caller may.

        Raises:
            Unauthorized: it is nobody.
            Forbidden: it may not.
            NotFound: it may not and may do nothing else there either, whether or not there is something.
        """
        if identity.role is Role.ADMIN:
            _refuse_systems(action)
            return
        if identity.account is not None:
            await self._authorize_account(identity, action)
            return
        if identity.role is not Role.HOST:
            raise Unauthorized(NOBODY)
        # A heartbeat tells nobody anything and changes no object: it is worth no question to etcd.
        fresh = action.target.subresource != "heartbeat"
        await self._reach.demand_registered(identity.host, identity.host_uid, fresh=fresh)
        if not self._host_may(identity.host, action):
            message = f"{identity.subject} may not {action}; a host reaches only what is bound to it"
            raise Forbidden(message)

    def demand_admin(self, identity: Identity) -> None:
        """Return when the caller is the administrator, as other replicas are."""
        if identity.role is Role.ANONYMOUS:
            raise Unauthorized(NOBODY)
        if identity.role is not Role.ADMIN:
            raise Forbidden(f"{identity.subject} is no administrator")

    def demand_reader_of_all(self, identity: Identity) -> None:
        """Return when the caller may read all objects of the cloud: administrators and auditors."""
        if identity.account is None:
            self.demand_admin(identity)
        elif self.grants_of(identity).missing(EVERYTHING_READABLE, TOP):
            raise Forbidden(f"{identity.subject} may not read the whole cloud")

    def demand(self, identity: Identity, verb: Verb, definition: KindDefinition, place: Place) -> None:
        """Return when the caller may do that with all objects of the kind in a place outside projects.

        Raises:
            NotFound: it may see nothing of that domain, whether or not there is one.
            Forbidden: it may not.
        """
        grants = self.grants_of(identity)
        if grants.may(verb.value, definition, place):
            return
        if place.domain is not None and not grants.sees(place):
            raise not_found(definition_of(Domain), None, place.domain)
        raise _forbid(identity, Action(verb, Target(definition, None)))

    def demand_power_over(self, identity: Identity, subject: Ref, *, by_key: bool = False) -> None:
        """Return when the caller may do all that the subject may: whoever gets its secret can act as it.

        Args:
            identity: who asks for the secret.
            subject: whose it is.
            by_key: it is an API key's, which everybody may have for oneself; it outlives what a user may do today,
                so that nobody but who may do everything gets a user's.

        Raises:
            Forbidden: the caller would give what it does not have.
        """
        if by_key and subject == _own_account(identity):
            return
        if excess := self._find_excess_of(self.grants_of(identity), subject, by_key=by_key):
            raise Forbidden(describe(excess))

    def find_end_of_power(self, identity: Identity, target: Target, owner: Ref) -> datetime | None:
        """Return until when the caller may make secrets of an API key and do all that its owner may; None: for good.

        A secret that is made then has to end by then, or its maker would keep by it what was given for a time.

        Args:
            identity: who asks for the secret, and may have it now.
            target: the key's subresource.
            owner: as whom the key acts.
        """
        until = identity.rights_until
        account, groups = identity.account, identity.groups
        if account is None or owner == _own_account(identity):
            return until
        first_end = self.grants_of(identity).until
        if first_end is None:
            return until
        action = Action(Verb.UPDATE, target)

        def has_until(end: datetime | None) -> bool:
            grants = _as_restricted(self._index.find_lasting(account, groups, end), identity.key)
            return self._may_one(identity, grants, action) and not self._find_excess_of(grants, owner, by_key=True)

        if has_until(None):
            return until
        ends = [b.expires_at for b in self._index.bindings_for(account, groups) if b.expires_at is not None]
        latest = max((end for end in ends if has_until(end)), default=first_end)
        return latest if until is None else min(latest, until)

    def _find_excess_of(self, grants: Grants, subject: Ref, *, by_key: bool) -> Excess:
        if by_key and subject.kind == "User":
            return [(TOP, p) for p in grants.missing(EVERYTHING, TOP)]
        return find_excess_of(self._index, grants, subject)

    def grants_of(self, identity: Identity) -> Grants:
        """Return what the caller may; of the administrator and of accounts only. Raises Forbidden."""
        if identity.account is None:
            self.demand_admin(identity)
            return self._index.admin
        return _as_restricted(self._index.grants(identity.account, identity.groups), identity.key)

    def secret_keys(self, identity: Identity, target: Target) -> frozenset[str] | None:
        """Return which values of a Secret the caller may have that may read them; None: all."""
        return self._reach.keys_named(identity.host, target) if identity.role is Role.HOST else None

    def is_one_of(self, identity: Identity, subjects: Container[Ref]) -> bool:
        """Return whether the caller, or a group that it is in, is among them."""
        account = identity.account
        if account is None:
            return False
        groups = self._index.groups_of(account, identity.groups) if account.kind == "User" else ()
        return account in subjects or any(Ref("Group", None, name) in subjects for name in groups)

    def visibility(self, identity: Identity, action: Action) -> Callable[[Wire], bool] | None:
        """Return what tells which objects of a list or watch are for the caller; None: all are."""
        if identity.account is None:
            return None
        grants, target, verb = self.grants_of(identity), action.target, action.verb.value
        if grants.may_everywhere(verb, target.definition):
            return None
        if _lies_at_the_top(target.definition) and grants.may(verb, target.definition, TOP):
            return None
        if target.project is not None and grants.may(verb, target.definition, Place(project=target.project)):
            return None
        return lambda wire: self._shows(identity, action, wire)

    def projects_of(self, identity: Identity, action: Action) -> frozenset[str] | None:
        """Return where the objects lie of a list over all projects that are for the caller; None: anywhere."""
        definition = action.target.definition
        if identity.account is None or definition.scope is not Scope.PROJECT or definition.owner_path is not None:
            return None
        return self.grants_of(identity).projects_for(action.verb.value, definition)

    def permit(self, identity: Identity, action: Action) -> "Permit | None":
        """Return what tells whether a stream may go on that the caller was authorized for; None: to its end."""
        if identity.role is Role.HOST:
            return HostPermit(self._reach, identity)
        if identity.account is None:
            return None
        return AccountPermit(self, self._bearers, identity, action, self.grants_of(identity))

    def guard_of(self, identity: Identity) -> Guard | None:
        """Return what decides about the caller's writes once it is known what they change; None: they are let be."""
        if identity.account is None:
            return None
        return lambda new, live: self._check_write(identity, new, live)

    def premise_of(self, identity: Identity) -> "HostPremise | None":
        """Return what the caller's writes rest on until they are done: of hosts, that what they may still is so."""
        if identity.role is not Role.HOST:
            return None
        return HostPremise(lambda draft: self._rest_host_write(identity, draft))

    async def reads_as_borrower(self, identity: Identity, action: Action) -> bool:
        """Return whether the caller may not read the object, but what of it is for those that it is shared with."""
        if identity.account is None or self.decide(identity, action):
            return False
        await self._cache.fresh()
        return not self.decide(identity, action) and self._borrows(identity, action.target)

    def authorize_event(self, identity: Identity, project: str | None, wire: dict[str, Any]) -> None:
        """Return when a host may write that event: it regards the host itself or what is bound to it.

        Raises:
            Forbidden: it does not, is told in another one's name, or would hold up what has nothing to do with it.
        """
        if identity.role is not Role.HOST:
            return
        found, metadata = wire.get("spec"), wire["metadata"]
        spec = found if isinstance(found, dict) else {}
        regarding = spec.get("regarding")
        if not isinstance(regarding, dict) or not self._reach.regards(identity.host, project, regarding):
            raise Forbidden(f"{identity.subject} may not report events of what is not bound to it")
        if spec.get("actor") != actor_of(identity.host):
            raise Forbidden(f"{identity.subject} reports events as actor {actor_of(identity.host)} only")
        # With a finalizer an event stays, and so does the project that it is in, when that is to be deleted.
        if held := [name for name in ("finalizers", "ownerReferences") if metadata.get(name)]:
            raise Forbidden(f"{identity.subject} may not write events with metadata.{held[0]}")

    # Users and service accounts.

    async def _authorize_account(self, identity: Identity, action: Action) -> None:
        _refuse_systems(action)
        if self.decide(identity, action):
            return
        # What gives the right may have been written a moment ago by another replica.
        await self._cache.fresh()
        if not self.decide(identity, action):
            raise self._denial(identity, action)

    def decide(self, identity: Identity, action: Action) -> bool:
        """Return whether a user or service account may, as the cache says."""
        grants, target, verb = self.grants_of(identity), action.target, action.verb.value
        definition = target.definition
        if target.name:
            return self._may_one(identity, grants, action)
        if target.project is not None:
            return bool(grants.selectors(verb, definition, Place(project=target.project)))
        own = action.verb in (Verb.LIST, Verb.WATCH) and definition.owner_path is not None
        return own or grants.may_somewhere(verb, definition)

    def _may_one(self, identity: Identity, grants: Grants, action: Action) -> bool:
        target, verb = action.target, action.verb.value
        definition, sub = target.definition, target.subresource
        inside = Place(project=target.project)
        locks = definition.kind == Setting.KIND and verb not in READ
        if target.project is not None and not locks:
            selectors = grants.selectors(verb, definition, inside, sub)
            if selectors == ALWAYS:
                return True  # as nearly always: the object need not even be looked at
            if not selectors and not action.creates and definition.owner_path is None:
                return False  # nor here: the time that it takes would tell whether it is there
        wire = self._find(target)
        if wire is None and action.creates:
            if target.project is None:
                return grants.may_somewhere("create", definition)
            return bool(grants.selectors("create", definition, inside))
        if target.project is not None and not (locks and wire is not None):
            place = inside
        elif wire is not None:
            place = self._index.place_of(definition, wire, verb=verb)
        else:
            # What is gone, or not there yet, is for those who may do it to all that is outside of projects.
            return grants.may_everywhere(verb, definition, sub)
        selectors = grants.selectors(verb, definition, place, sub)
        if selectors == ALWAYS or (wire is None and selectors):
            return True
        return wire is not None and (_match(selectors, wire) or self._owns(identity, action, wire))

    def _owns(self, identity: Identity, action: Action, wire: Wire) -> bool:
        """Return whether the object is the caller's own, and the verb one of an owner's."""
        if action.target.subresource or _own_account(identity) is None:
            return False
        mine = self._index.owner_of(action.target.definition, wire) == identity.account
        return mine and (action.verb in OWNER_VERBS or action.verb in (Verb.LIST, Verb.WATCH))

    def _shows(self, identity: Identity, action: Action, wire: Wire) -> bool:
        grants, verb, definition = self.grants_of(identity), action.verb.value, action.target.definition
        if self._index.shows(grants, verb, definition, wire) or self._owns(identity, action, wire):
            return True
        if definition.kind not in (Project.KIND, Domain.KIND):
            return False
        # When it is gone the tree does not tell any more where it was.
        spec = wire["spec"]
        above = Place(domain=spec.get("domain" if definition.kind == Project.KIND else "parent"))
        return grants.may(verb, definition, above, labels=_labels(wire))

    def _denial(self, identity: Identity, action: Action) -> ApiError:
        """Return the refusal, which tells of nothing where the caller may do nothing."""
        grants, target, verb = self.grants_of(identity), action.target, action.verb.value
        if not target.name:
            if target.project is None or grants.sees(Place(project=target.project)):
                return _forbid(identity, action)
            note_denial()
            return no_project(target.project)
        place = self._index.find_place(target.definition, target.project, target.name, verb=verb)
        if action.verb not in READ_VERBS and not target.subresource and self._borrows(identity, target):
            return Forbidden(f"{target.ref} is shared to be used: {identity.subject} may not {verb} it")
        reading = Action(Verb.GET, replace(target, subresource=""))
        if (place is not None and grants.sees(place)) or self._may_one(identity, grants, reading):
            return _forbid(identity, action)
        note_denial()
        return not_found(target.definition, target.project, target.name)

    def _borrows(self, identity: Identity, target: Target) -> bool:
        """Return whether the object is shared with a project in which the caller may read such ones."""
        definition = target.definition
        entry = self._cache.find(definition, row_of(target.project, target.name))
        if definition.lent_view is None or entry is None:
            return False
        projects = self.grants_of(identity).projects_for(Verb.GET.value, definition)
        return is_lent_to_any(self._cache, definition, entry, projects or ())

    def _check_write(self, identity: Identity, new: AnyResource, live: Wire | None) -> Sequence[Cause]:
        """Decide about a write in its transaction: return the references that are to seem missing.

        Raises:
            Forbidden: the caller may not, or would give what it does not have.
            NotFound: it may do nothing in that project.
        """
        definition, grants = definition_of(new), self.grants_of(identity)
        verb = Verb.CREATE if live is None else Verb.UPDATE
        wire = new.to_wire() if live is None else live
        place = self._index.place_of(definition, wire, verb=verb.value)
        selectors = grants.selectors(verb.value, definition, place)
        if selectors != ALWAYS and not (_match(selectors, wire) and _match(selectors, new.to_wire())):
            action = Action(verb, Target(definition, new.metadata.project, new.metadata.name))
            if place.project is not None and not grants.sees(place):
                note_denial()
                raise no_project(place.project)
            raise _forbid(identity, action)
        if isinstance(new, Setting):
            self._check_setting(identity, grants, new, verb)
        if isinstance(new, Task) and live is None and selectors != ALWAYS:
            self._check_task(identity, selectors, new)
        old = definition.model.from_wire(live) if live is not None else None
        excess = find_excess(self._index, grants, _own_account(identity), new, old)
        if excess:
            raise Forbidden(describe_missing_role(self._index, new) or describe(excess))
        for_a_time = grants.until is not None or identity.rights_until is not None
        if for_a_time and (outlasting := self._find_outlasting(identity, new, old)):
            raise Forbidden(outlasting)
        lacking = find_lacking(grants, new, old) or find_unowned(self._cache, self._index, grants, new, old)
        if lacking:
            raise Forbidden(f"{identity.subject} may not {lacking}")
        hidden = find_hidden(self._index, grants, new, old, home=place)
        if hidden:
            note_denial()
        return hidden

    def _check_task(self, identity: Identity, selectors: Selectors, new: Task) -> None:
        """Hold a right to some tasks to what these are done to: the labels of a task are its maker's choice.

        Raises:
            Forbidden: the target is none of those objects, or is not there.
        """
        target, project = new.spec.target, new.metadata.project
        wire = (
            self._find(Target(definition_of(Instance), project, target.name)) if target.kind == Instance.KIND else None
        )
        if wire is None or not _match(selectors, wire):
            message = f"{identity.subject} may not create a Task for {target.kind} {target.name} in project {project}"
            raise Forbidden(f"{message}: its labels are none of those that the right is for")

    def _find_outlasting(self, identity: Identity, new: AnyResource, old: AnyResource | None) -> str:
        """Return what is wrong with a write that gives for longer what the caller has for a time; else empty."""
        account, groups = identity.account, identity.groups
        assert account is not None  # whose grants end
        latest = identity.rights_until
        ends = [b.expires_at for b in self._index.bindings_for(account, groups) if b.expires_at is not None]
        if latest is not None:
            ends = [latest, *(min(end, latest) for end in ends)]

        def have_until(until: datetime | None) -> Grants:
            if latest is not None and (until is None or until > latest):
                return self._index.nothing
            return _as_restricted(self._index.find_lasting(account, groups, until), identity.key)

        return find_outlasting(self._index, have_until, ends, new, old)

    def _check_setting(self, identity: Identity, grants: Grants, new: Setting, verb: Verb) -> None:
        """Hold who may set no more than the place to what is delegated, and to what counts above.

        Raises:
            Forbidden: it is not, or goes beyond that.
        """
        definition, wire = definition_of(new), new.to_wire()
        above = self._index.place_above(wire)
        known = KNOWN_SETTINGS.get(new.spec.setting)
        if known is None or grants.may(verb.value, definition, above, labels=_labels(wire)):
            return
        where = f"domain {above.domain}" if above.domain else "the whole cloud"
        if new.spec.locked:
            raise Forbidden(f"{identity.subject} may not lock a setting: that is for who may set settings in {where}")
        counts = self._cache.setting_book.find(new.spec.setting, domain=above.domain)
        try:
            value = known.read(new.spec.value)
        except ValueError:
            return  # the store says what is wrong with it
        if known.is_within(value, counts.used):
            return
        if known.delegation is Delegation.NONE:
            raise Forbidden(f"{known.name} is set by who may set settings in {where}")
        bound = "at most" if known.delegation is Delegation.AT_MOST else "no less than"
        raise Forbidden(f"{known.name} may be {bound} {counts.value!r} here, which counts in {where}")

    def _find(self, target: Target) -> Wire | None:
        entry = self._cache.find(target.definition, row_of(target.project, target.name))
        return None if entry is None else orjson.loads(entry.json)

    # Hosts.

    def _host_may(self, host: str, action: Action) -> bool:
        target = action.target
        path = target.definition.node_path
        if action.verb in (Verb.LIST, Verb.WATCH):
            return path is not None and _asks_only_for(action, path, host)
        if target.definition.kind == Host.KIND:
            return target.name == host and action.verb in HOST_SUBRESOURCES.get(target.subresource, ())
        if target.definition.kind == Event.KIND:
            return self._may_event(host, action)
        if path is not None and self._reach.is_bound(host, target):
            return action.verb in BOUND_SUBRESOURCES.get(target.subresource, ())
        if target.definition.kind == Project.KIND and target.subresource == "sshauthority":
            return action.verb is Verb.GET and self._reach.has_instance_in(host, target.name)
        reads = action.verb is Verb.GET and target.subresource in ("", "content", "value")
        return reads and bool(target.name) and self._reach.is_referred_to(host, target)

    def _rest_host_write(self, identity: Identity, draft: Draft) -> Sequence[Compare]:
        """Decide about a host's write on what it is written over, and return what else it rests on.

        It was authorized before its body came; meanwhile its object may have been bound to another host.

        Raises:
            Forbidden: the Host is gone, or the object is not its.
            Invalid: it would write what is the manager's.
        """
        host, definition, live = identity.host, draft.definition, draft.live
        rests_on = [self._reach.rest_on_registration(host, identity.host_uid)]
        path = definition.node_path
        if definition.kind == Event.KIND:
            self.authorize_event(identity, draft.project, {"metadata": draft.metadata, "spec": draft.spec})
            rests_on.append(self._reach.rest_on_regarded(draft.project, draft.spec["regarding"]))
            is_own = live is None or self._reach.regards(host, draft.project, live["spec"]["regarding"])
        else:
            is_own = live is not None and path is not None and find_value(live, path) == host
        if not is_own:
            target = Target(definition, draft.project, draft.name)
            message = f"{identity.subject} may not update {target.ref}; a host reaches only what is bound to it"
            raise Forbidden(message)
        if live is not None:
            check_host_status(definition, live.get("status") or {}, draft.status)
        return rests_on

    def _may_event(self, host: str, action: Action) -> bool:
        """A host writes new events (their content is checked once it is read) and its own ones."""
        target = action.target
        if target.subresource:
            return False
        if action.verb is Verb.CREATE:
            return True
        return action.verb in (Verb.GET, Verb.UPDATE) and self._reach.owns_event(host, target)


class HostPremise:
    """What a host's write rests on, and how much of what is written then is the host's."""

    def __init__(self, decide: Premise) -> None:
        self._decide = decide
        self.bytes = 0
        """Of the status or event that was to be written last."""

    def __call__(self, draft: Draft) -> Sequence[Compare]:
        """Return what has to hold besides. Raises Forbidden, Invalid."""
        is_event = draft.definition.kind == Event.KIND
        size = self.bytes = len(orjson.dumps([draft.metadata, draft.spec] if is_event else draft.status))
        rests_on = self._decide(draft)
        if size > HOST_LIMIT:
            message = f"a host may make it {HOST_LIMIT} bytes large at most, not {size}"
            cause = Cause(field="spec" if is_event else "status", reason="FieldValueTooLong", message=message)
            raise Invalid(f"{cause.field}: {message}", causes=[cause])
        return rests_on


class Permit(ABC):
    """Whether a stream may go on: looked at before everything that is sent, and each second or two."""

    recheck_seconds = RECHECK_SECONDS

    @abstractmethod
    def find_loss(self) -> ApiError | None:
        """Return why the stream ends; None: it goes on."""

    async def lost(self) -> ApiError:
        """Return why the stream ends, once it has to."""
        while (loss := self.find_loss()) is None:  # noqa: ASYNC110 (nothing tells when time takes a right away)
            await asyncio.sleep(self.recheck_seconds)
        return loss


class HostPermit(Permit):
    """A host's, as long as the Host is there that its certificate was issued for, and in service."""

    recheck_seconds = HOST_RECHECK_SECONDS

    def __init__(self, reach: HostReach, identity: Identity) -> None:
        self._reach = reach
        self._identity = identity

    def find_loss(self) -> ApiError | None:
        """Return why the stream ends; None: it goes on."""
        return self._reach.find_refusal(self._identity.host, self._identity.host_uid)


class AccountPermit(Permit):
    """A user's or service account's, as long as it is logged in and has the right."""

    def __init__(
        self, authorizer: Authorizer, bearers: Bearers, identity: Identity, action: Action, held: Grants
    ) -> None:
        self._authorizer = authorizer
        self._bearers = bearers
        self._identity = identity
        self._action = action
        self._held = held

    def find_loss(self) -> ApiError | None:
        """Return why the stream ends; None: it goes on."""
        identity = self._identity
        found = self._bearers.find(identity.access) if identity.access is not None else None
        if found is None or (found.account, found.key) != (identity.account, identity.key):
            return Unauthorized("you are not logged in any more")
        if found.groups != identity.groups:
            identity = self._identity = replace(identity, groups=found.groups)
        grants = self._authorizer.grants_of(identity)
        if grants is not self._held:
            if self._action.verb is Verb.WATCH:
                # What is to be seen may be more or less now: the watcher's picture is to be drawn anew.
                return Expired("what you may see has changed; list again and watch from the list's version")
            self._held = grants
        if not self._authorizer.decide(identity, self._action):
            return _forbid(identity, self._action)
        return None


async def until_lost(permit: Permit | None) -> None:
    """Wait until the stream may not go on. Raises Unauthorized, Forbidden."""
    if permit is None:
        await asyncio.Event().wait()
    else:
        raise await permit.lost()


def _refuse_systems(action: Action) -> None:
    """Keep people from what the cloud itself writes. Raises Forbidden."""
    subresource, definition = action.target.subresource, action.target.definition
    if action.verb in READ_VERBS and subresource != "tunnel":
        return
    if subresource in SYSTEM_SUBRESOURCES:
        raise Forbidden(f"{subresource} of {definition.plural} is written by the cloud itself, not by people")
    if definition.system_only and not (definition.revocable and action.verb is Verb.DELETE):
        raise Forbidden(f"{definition.plural} are written by the cloud itself, not by people")


def _as_restricted(grants: Grants, key: KeyTerms | None) -> Grants:
    """Return the grants as far as the API key's rules allow them."""
    return grants if key is None or not key.rules else grants.restricted((key.uid, key.generation), key.rules)


def _own_account(identity: Identity) -> Ref | None:
    """Return for whom the caller may make keys; a restricted key would make itself one without restrictions."""
    return None if identity.key is not None and identity.key.rules else identity.account


def _forbid(identity: Identity, action: Action) -> Forbidden:
    target = action.target
    sub = f"/{target.subresource}" if target.subresource else ""
    where = f" in project {target.project}" if target.project else ""
    return Forbidden(f"{identity.subject} may not {action.verb.value} {target.definition.kind}{sub}{where}")


def _lies_at_the_top(definition: KindDefinition) -> bool:
    """Return whether all objects of the kind are in the same place."""
    if definition.scope is not Scope.GLOBAL or definition.kind in (Project.KIND, Domain.KIND):
        return False
    return definition.domain_path is None and definition.owner_path is None


def _match(selectors: Selectors, wire: Wire) -> bool:
    labels = _labels(wire)
    return any(selector.matches(labels) for selector in selectors)


def _labels(wire: Wire) -> Mapping[str, str]:
    return wire["metadata"].get("labels") or {}


def _asks_only_for(action: Action, path: str, host: str) -> bool:
    selector = parse_field_selector(action.field_selector, action.target.definition.model)
    return selector.required_value(path) == host
