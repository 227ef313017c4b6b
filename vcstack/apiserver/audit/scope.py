"""Whose records a caller may read: who audits the cloud all of them, who audits projects theirs.

A project's name may have been another one's before: what is older than the project itself is not its own. Nor are
tries of others that were answered as if there were nothing: whoever probes a project is for the cloud's auditors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import orjson

from vcstack.apiserver.auth.places import TOP
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.targets import Target
from vcstack.specs.audit import AuditFilter, format_instant
from vcstack.specs.errors import Forbidden
from vcstack.specs.kinds.project import Project
from vcstack.specs.permissions import ANY, Rule
from vcstack.specs.registry import get_kind
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of

AUDIT: Final = "audit"
"""The subresource that rules name: of Project the records of a project, of everything those of the cloud."""
EVERYTHING_AUDITED: Final = (Rule(verbs=["get"], kinds=[ANY], subresources=[AUDIT]),)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records are for a caller."""

    projects: Mapping[str, str] | None
    """Projects, and since when each is what it is; None: all records."""

    def narrow(self, wanted: AuditFilter) -> AuditFilter:
        """Return what is wanted of what is for the caller."""
        return wanted if self.projects is None else replace(wanted, projects=tuple(sorted(self.projects.items())))


WHOLE_CLOUD: Final = Scope(None)


def find_scope(authorizer: Authorizer, cache: WatchCache, identity: Identity) -> Scope:
    """Return what the caller may read of the trail. Raises Unauthorized; Forbidden for nothing at all."""
    if identity.account is None:
        authorizer.demand_admin(identity)
        return WHOLE_CLOUD
    grants = authorizer.grants_of(identity)
    if not grants.missing(EVERYTHING_AUDITED, TOP):
        return WHOLE_CLOUD
    definition = get_kind(Project.KIND)
    names = grants.projects_for("get", definition, AUDIT)
    if names is None:  # in the whole cloud, but not of everything: of all projects
        names = frozenset(row.partition("/")[2] for row in cache.table(definition).rows(None))
    targets = (Target(definition, None, name, AUDIT) for name in names)
    allowed = [t.name for t in targets if authorizer.decide(identity, Action(Verb.GET, t))]
    found = {name: since for name in allowed if (since := find_beginning(cache, name)) is not None}
    if not found:
        raise Forbidden(f"{identity.subject} may not read the audit trail, of no project either")
    return Scope(found)


def find_project_birth(cache: WatchCache, project: str) -> datetime | None:
    """Return since when there is that very project; None: there is none."""
    entry = cache.find(get_kind(Project.KIND), row_of(None, project))
    return None if entry is None else datetime.fromisoformat(orjson.loads(entry.json)["metadata"]["creationTimestamp"])


def find_beginning(cache: WatchCache, project: str) -> str | None:
    """Return the same as it stands in records."""
    born = find_project_birth(cache, project)
    return None if born is None else format_instant(born)
