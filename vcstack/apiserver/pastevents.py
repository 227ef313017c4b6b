"""Events that the store has let go: lists of events with ``since`` come from the mirror.

Who may see them is decided as for those of today. A project's name may have been another one's before: what is
older than the project itself is only for who may see all events.
"""

import base64
import binascii
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.responses import Response

from vcstack.apiserver.audit.scope import find_project_birth
from vcstack.apiserver.auth.places import TOP
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.replies import value_reply
from vcstack.specs.errors import NotFound
from vcstack.specs.meta import API_VERSION
from vcstack.specs.pastevents import COLUMNS, PastEvents, PastPlace
from vcstack.specs.selectors import parse_field_selector

PARAMETERS: Final = frozenset({"since", "until", "fieldSelector", "limit", "continue", "watch"})
PAGE: Final = 500
MOST: Final = 1000


class PastEventRoutes:
    """Answers lists of events of the past."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._history = parts.history
        self._cache = parts.store.cache
        self._authorizer = authorizer

    async def list(self, call: Call) -> Response:
        """Return a page, the newest first. What is not for the caller is left out, so a page may be short."""
        query, target = call.query.only(PARAMETERS), call.target
        if query.flag("watch"):
            raise refuse("watch", "shows what comes; with since there is what was")
        fields = query.text("fieldSelector") or ""
        action = Action(Verb.LIST, target, fields)
        await self._authorizer.authorize(call.identity, action)
        selector = parse_field_selector(fields, target.definition.model)
        if self._history is None:
            raise NotFound("no events of the past are kept here: no PostgreSQL is configured")
        limit = query.count("limit", least=1, most=MOST) or PAGE
        wanted = PastEvents(
            since=_read_time(query, "since"),
            until=_read_time(query, "until") if query.text("until") else None,
            project=target.project,
            projects=self._find_projects(call, action),
            values={column: value for path, column in COLUMNS.items()
                    if (value := selector.required_value(path)) is not None},
            before=_read_place(query),
            limit=limit + 1,
        )  # fmt: skip
        found = await self._history.list_events(wanted)
        visible = self._authorizer.visibility(call.identity, action)
        items = [wire for wire, _ in found[:limit] if selector.matches(wire) and (visible is None or visible(wire))]
        metadata = {"continue": _write_place(found[limit - 1][1])} if len(found) > limit else {}
        return value_reply({"apiVersion": API_VERSION, "kind": "EventList", "metadata": metadata, "items": items})

    def _find_projects(self, call: Call, action: Action) -> dict[str, datetime] | None:
        """Return the projects that the caller may list events of, and since when each is what it is; None: all."""
        if call.identity.account is None:
            return None
        grants, definition = self._authorizer.grants_of(call.identity), action.target.definition
        if action.target.project is None:
            names = grants.projects_for("list", definition)
            if names is None and (grants.may_everywhere("list", definition) or grants.may("list", definition, TOP)):
                return None
        else:
            names = frozenset({action.target.project})
        return {name: born for name in names or () if (born := find_project_birth(self._cache, name)) is not None}


def _read_time(query: Query, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(query.text(name) or "")
        if time.tzinfo is None:
            raise ValueError
    except ValueError as error:
        raise refuse(name, "must be a time as in RFC 3339, e.g. 2026-11-22T08:00:00Z") from error
    return time


def _write_place(place: PastPlace) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([place[0].isoformat(), place[1]])).decode()


def _read_place(query: Query) -> PastPlace | None:
    token = query.text("continue")
    if token is None:
        return None
    try:
        found: Any = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        time, uid = found
        at = datetime.fromisoformat(time)
        if not isinstance(uid, str) or "\0" in uid or at.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise refuse("continue", "is no token of an earlier page") from error
    return at, uid
