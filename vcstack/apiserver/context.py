"""What every request handler gets: who asks, for what, in which request."""

import re
from dataclasses import dataclass

from starlette.requests import Request

from vcstack.apiserver.identity import Identity
from vcstack.apiserver.policies import Admission
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.targets import Target
from vcstack.specs.kinds.gitsource import MANAGER as SOURCES
from vcstack.specs.kinds.gitsource import manager_of
from vcstack.store.actor import Actor, Guard, Premise

MANAGER_LIMIT = 128
_MANAGER = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request for a resource path."""

    request: Request
    identity: Identity
    target: Target
    query: Query
    guard: Guard | None = None
    """What decides about the caller's writes once it is known what they change."""
    admission: Admission | None = None
    """What holds people's writes to policies."""
    premise: Premise | None = None
    """What a host's right to write rests on."""

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return self.request.method

    def actor(self, *, manager: str | None = None) -> Actor:
        """Return who writes: the caller, through the field manager it names or its program's name."""
        by = manager or self.manager() or self._program()
        return Actor(self.identity.subject, by, guard=self.guard, review=self.admission, premise=self.premise)

    def manager(self) -> str | None:
        """Return the fieldManager parameter. Raises BadRequest when it is no plain word."""
        manager = self.query.text("fieldManager")
        if manager is not None and not _MANAGER.fullmatch(manager):
            raise refuse("fieldManager", f"must be 1 to {MANAGER_LIMIT} printable ASCII characters without spaces")
        if manager is not None and not self._may_be(manager):
            raise refuse("fieldManager", f"names that begin with {SOURCES}: are Git sources' own; choose another one")
        return manager

    def _program(self) -> str:
        agent = self.request.headers.get("user-agent", "").split("/")[0].strip()
        return agent if _MANAGER.fullmatch(agent) and self._may_be(agent) else self.identity.subject

    def _may_be(self, manager: str) -> bool:
        """Return whether the caller may write by that name: a Git source's says which objects are in its set."""
        if not manager.startswith(f"{SOURCES}:"):
            return True
        access = self.identity.access
        name, _, uid = (access.source if access is not None else "").partition("/")
        return bool(uid) and manager == manager_of(name, uid)
