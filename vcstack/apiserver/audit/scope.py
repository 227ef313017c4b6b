"""Whose records a caller may read: who audits the cloud all of them, who audits domains or projects theirs.

A name may have been another one's before: what is older than the project or domain itself is not its own. Nor are
tries of others that were answered as if there were nothing: whoever probes a project is for the cloud's auditors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import orjson

from vcstack.apiserver.auth.places import TOP, Place
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.identity import Identity
from vcstack.apiserver.targets import Target
from vcstack.specs.audit import AuditFilter, format_instant
from vcstack.specs.errors import Forbidden
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.project import Project
from vcstack.specs.permissions import ANY, Rule
from vcstack.specs.registry import get_kind
from vcstack.store.cache import WatchCache
from vcstack.store.keys import row_of
from vcstack.store.table import Entry

AUDIT: Final = "audit"
"""The subresource that rules name: of Project the records of a project, of Domain those of a domain outside projects,
of everything those of the cloud."""
DOMAIN_AUDITED: Final = (Rule(verbs=["get"], kinds=[Domain.KIND], subresources=[AUDIT]),)
EVERYTHING_AUDITED: Final = (Rule(verbs=["get"], kinds=[ANY], subresources=[AUDIT]),)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records are for a caller."""

    projects: Mapping[str, str] | None
    """Projects, and since when each is what it is; None: all records."""

    domains: Mapping[str, str] = field(default_factory=dict)
    """Domains, likewise, of what lies outside projects."""

    def narrow(self, wanted: AuditFilter) -> AuditFilter:
        """Return what is wanted of what is for the caller."""
        if self.projects is None:
            return wanted
        projects, domains = tuple(sorted(self.projects.items())), tuple(sorted(self.domains.items()))
        return replace(wanted, projects=projects, domains=domains)


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
    projects = {name: since for name in allowed if (since := find_beginning(cache, name)) is not None}
    domains = {}
    for row, entry in cache.table(get_kind(Domain.KIND)).objects.items():
        name = row.partition("/")[2]
        if not grants.missing(DOMAIN_AUDITED, Place(domain=name)):
            domains[name] = format_instant(_read_birth(entry))
    if not projects and not domains:
        raise Forbidden(f"{identity.subject} may not read the audit trail, of no domain or project either")
    return Scope(projects, domains)


def find_project_birth(cache: WatchCache, project: str) -> datetime | None:
    """Return since when there is that very project; None: there is none."""
    entry = cache.find(get_kind(Project.KIND), row_of(None, project))
    return None if entry is None else _read_birth(entry)


def find_beginning(cache: WatchCache, project: str) -> str | None:
    """Return the same as it stands in records."""
    born = find_project_birth(cache, project)
    return None if born is None else format_instant(born)


def _read_birth(entry: Entry) -> datetime:
    return datetime.fromisoformat(orjson.loads(entry.json)["metadata"]["creationTimestamp"])
