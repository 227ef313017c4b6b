"""How much of the past under a name is for a caller: names come again, and what was before is another one's.

In a project it is what has been since there is that very project. Outside of projects, and for who may see some objects
only, it is that of the very object that is there now. Who may see all objects of the kind sees all.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson

from vcstack.apiserver.audit.scope import find_project_birth
from vcstack.apiserver.auth.places import Place
from vcstack.apiserver.authz import Action, Authorizer
from vcstack.apiserver.identity import Identity, Role
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of


@dataclass(frozen=True, slots=True)
class OwnPast:
    """What of the past under a name is the caller's."""

    since: datetime | None = None
    """Nothing that is older; None: however old."""
    uid: str | None = None
    """Of this object only; None: of all that had the name."""


def find_own_past(authorizer: Authorizer, cache: WatchCache, identity: Identity, action: Action) -> OwnPast | None:
    """Return what of the past a caller may see who may do that now, as cached; None: nothing."""
    if identity.role is Role.ADMIN:
        return OwnPast()
    target, verb = action.target, action.verb.value
    if identity.account is not None:
        grants = authorizer.grants_of(identity)
        if grants.may_everywhere(verb, target.definition, target.subresource):
            return OwnPast()
        if target.project is not None and grants.may(
            verb, target.definition, Place(project=target.project), target.subresource
        ):
            born = find_project_birth(cache, target.project)
            return None if born is None else OwnPast(since=born)
    entry = cache.find(target.definition, row_of(target.project, target.name))
    return None if entry is None else OwnPast(uid=orjson.loads(entry.json)["metadata"]["uid"])
