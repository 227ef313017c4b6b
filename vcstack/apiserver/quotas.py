"""Quotas over HTTP: how much of one is in use, and whether there is room for a whole set of objects."""

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiserver import bodies, queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import Query
from vcstack.apiserver.replies import model_reply
from vcstack.specs.errors import MethodNotAllowed
from vcstack.specs.kinds.project import Project
from vcstack.specs.model import Model
from vcstack.specs.registry import KindDefinition, load_kinds
from vcstack.store.actor import Actor

CHECKER = "quotacheck"
"""The field manager that a checked set is applied as, though never written."""


class QuotaCheckRequest(Model):
    """Objects that are to be applied together."""

    items: Annotated[list[dict[str, Any]], Field(max_length=10_000)]
    """The objects as they would be applied, each with its kind."""


class QuotaCheckReply(Model):
    """There is room for all."""

    kind: str = "QuotaCheck"
    """Always QuotaCheck."""
    checked: int
    """How many objects there were."""


class QuotaRoutes:
    """Answers requests about quotas."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._authorizer = authorizer

    async def usage(self, call: Call) -> Response:
        """Return how much of the quota's limits is in use, or of a project all limits that hold in it."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        call.query.only(queries.NONE)
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        if call.target.definition.kind == Project.KIND:
            return model_reply(await self._store.quotas_in_force(call.target.name))
        return model_reply(await self._store.quota_usage(call.target.project, call.target.name))

    async def check(self, request: Request, identity: Identity) -> Response:
        """Look whether quotas leave room for all the objects together. What the caller may not write counts as
        nothing, so that nothing is learned of other places.

        Raises:
            QuotaExceeded: they do not.
            Forbidden: a host asks.
        """
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.method} is not possible here; there is POST")
        Query.parse(request.scope["query_string"]).only(queries.NONE)
        self._authorizer.grants_of(identity)
        asked = await bodies.read_model(request, QuotaCheckRequest)
        kinds = load_kinds()
        wires: list[tuple[KindDefinition, bodies.Wire]] = []
        for item in asked.items:
            kind = item.get("kind")
            if isinstance(kind, str) and kind in kinds and not kinds[kind].system_only:
                wires.append((kinds[kind], item))
        actor = Actor(identity.subject, CHECKER, guard=self._authorizer.guard_of(identity))
        await self._store.check_quotas(wires, actor=actor)
        return model_reply(QuotaCheckReply(checked=len(asked.items)))
