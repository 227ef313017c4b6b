"""Who may do what: the one place that decides, before anything is read or written.

The administrator may do everything that is a user's business: status, finalizers and events belong to the
system. A host may do what ``reach.py`` finds to be its own. Nobody else may do anything.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vcstack.apiserver.identity import Identity, Role
from vcstack.apiserver.reach import HostReach
from vcstack.apiserver.targets import Target
from vcstack.specs.errors import Forbidden, Unauthorized
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.host import Host
from vcstack.specs.selectors import parse_field_selector


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


class Authorizer:
    """Decides. Raises Unauthorized or Forbidden."""

    def __init__(self, reach: HostReach) -> None:
        self._reach = reach

    async def authorize(self, identity: Identity, action: Action) -> None:
        """Return when the caller may. Raises Unauthorized for nobody, Forbidden for somebody who may not."""
        if identity.role is Role.ANONYMOUS:
            raise Unauthorized("say who you are: a bearer token or a client certificate")
        if identity.role is Role.ADMIN:
            self._authorize_admin(action)
            return
        if identity.role is not Role.HOST:
            raise Forbidden(f"{identity.subject} may not {action}")
        # A heartbeat tells nobody anything and changes no object: it is worth no question to etcd.
        await self._reach.demand_registered(identity.host, fresh=action.target.subresource != "heartbeat")
        if not self._host_may(identity.host, action):
            message = f"{identity.subject} may not {action}; a host reaches only what is bound to it"
            raise Forbidden(message)

    def demand_admin(self, identity: Identity) -> None:
        """Return when the caller administers the cloud."""
        if identity.role is Role.ANONYMOUS:
            raise Unauthorized("say who you are: a bearer token or a client certificate")
        if identity.role is not Role.ADMIN:
            raise Forbidden(f"{identity.subject} is no administrator")

    def authorize_event(self, identity: Identity, project: str | None, wire: dict[str, Any]) -> None:
        """Return when a host may write that event: it regards the host itself or what is bound to it."""
        regarding = (wire.get("spec") or {}).get("regarding") or {}
        if identity.role is Role.HOST and not self._reach.regards(identity.host, project, regarding):
            raise Forbidden(f"{identity.subject} may not report events of what is not bound to it")

    def _authorize_admin(self, action: Action) -> None:
        subresource, definition = action.target.subresource, action.target.definition
        if action.verb in READ_VERBS and subresource != "tunnel":
            return
        if subresource in SYSTEM_SUBRESOURCES:
            raise Forbidden(f"{subresource} of {definition.plural} is written by the cloud itself, not by people")
        if definition.system_only and not (definition.revocable and action.verb is Verb.DELETE):
            raise Forbidden(f"{definition.plural} are written by the cloud itself, not by people")

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
        reads = action.verb is Verb.GET and target.subresource in ("", "content", "value")
        return reads and bool(target.name) and self._reach.is_referred_to(host, target)

    def _may_event(self, host: str, action: Action) -> bool:
        """A host writes new events (their content is checked once it is read) and its own ones."""
        target = action.target
        if target.subresource:
            return False
        if action.verb is Verb.CREATE:
            return True
        return action.verb in (Verb.GET, Verb.UPDATE) and self._reach.owns_event(host, target)


def _asks_only_for(action: Action, path: str, host: str) -> bool:
    selector = parse_field_selector(action.field_selector, action.target.definition.model)
    return selector.required_value(path) == host
