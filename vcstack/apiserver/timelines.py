"""``/api/v1/projects/PROJECT/timeline``: what has changed in a whole project, the newest first.

Each line is shown to who may read the history of the object that it is about. What was before the project is another
one's of the same name.
"""

from typing import Any, Final

from starlette.responses import Response

from vcstack.apiserver.audit.scope import find_project_birth
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.ownpast import find_own_past
from vcstack.apiserver.parts import ApiParts, LocatedRevision
from vcstack.apiserver.replies import value_reply
from vcstack.apiserver.targets import Target
from vcstack.specs.errors import MethodNotAllowed, NotFound
from vcstack.specs.kinds.project import Project
from vcstack.specs.meta import format_time
from vcstack.specs.registry import load_kinds
from vcstack.store.draft import not_found

MOST: Final = 500
PAGE: Final = 100
PARAMETERS: Final = frozenset({"limit", "before"})


class TimelineRoutes:
    """Answers what has changed in projects."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._history = parts.history
        self._cache = parts.store.cache
        self._authorizer = authorizer

    async def answer(self, call: Call) -> Response:
        """Return a page. What is not for the caller is left out, so a page may be short; ``before`` leads on."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        query = call.query.only(PARAMETERS)
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        project = call.target.name
        born = find_project_birth(self._cache, project)
        if born is None:
            raise not_found(call.target.definition, None, project)
        if self._history is None:
            raise NotFound("no history is kept here: no PostgreSQL is configured")
        limit = query.count("limit", least=1, most=MOST) or PAGE
        found = await self._history.list_of_project(project, since=born, limit=limit + 1, before=query.count("before"))
        more = len(found) > limit
        if more:
            # A page ends with a revision, not within it: the next one begins before it.
            found = [revision for revision in found if revision.revision >= found[limit - 1].revision]
        items = [revision.to_wire() for revision in found if self._shows(call, revision)]
        # After the lines: what is removed between the two is in one of them.
        reach = await self._history.find_project_reach(project, since=born)
        metadata: dict[str, Any] = {"before": str(found[-1].revision)} if more else {}
        if reach is not None:
            time = {} if reach.time is None else {"time": format_time(reach.time)}
            metadata["reach"] = {"revision": str(reach.revision), **time, "cuts": str(reach.cuts)}
        return value_reply({"kind": "Timeline", "metadata": metadata, "items": items})

    def _shows(self, call: Call, revision: LocatedRevision) -> bool:
        ref = revision.ref
        definition = load_kinds().get(ref.kind)
        if definition is None:
            return False
        if call.identity.account is None or (ref.kind == Project.KIND and ref.project is None):
            return True
        action = Action(Verb.GET, Target(definition, ref.project, ref.name, "history"))
        if not self._authorizer.decide(call.identity, action):
            return False
        own = find_own_past(self._authorizer, self._cache, call.identity, action)
        return own is not None and own.uid in (None, revision.uid)
