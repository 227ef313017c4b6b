"""``.../why`` and ``.../related``: what really holds an object up, and what it is connected with."""

from starlette.responses import Response

from vcstack.apiclient.explainmessages import WhyReply
from vcstack.apiserver import queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.reasons import Investigation
from vcstack.apiserver.related import Readable, find_related
from vcstack.apiserver.replies import model_reply
from vcstack.specs.errors import MethodNotAllowed
from vcstack.store.records import Stored
from vcstack.store.store import Store


class ExplainRoutes:
    """Answers both. What the caller may not read is left out."""

    def __init__(self, store: Store, authorizer: Authorizer) -> None:
        self._store = store
        self._authorizer = authorizer

    async def why(self, call: Call) -> Response:
        """Return what really holds the object up."""
        stored = await self._find(call)
        finding = await Investigation(self._readable(call)).examine(call.target.definition, stored.wire)
        return model_reply(WhyReply(finding=finding))

    async def related(self, call: Call) -> Response:
        """Return what the object is connected with."""
        stored = await self._find(call)
        return model_reply(await find_related(self._readable(call), call.target.definition, stored.wire))

    async def _find(self, call: Call) -> Stored:
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        call.query.only(queries.NONE)
        target = call.target
        await self._authorizer.authorize(call.identity, Action(Verb.GET, target))
        return await self._store.get(target.definition, target.project, target.name)

    def _readable(self, call: Call) -> Readable:
        return Readable(self._store, self._authorizer, call.identity)
