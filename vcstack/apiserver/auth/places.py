"""Where objects lie, as far as access goes: in a project, in a domain, or at the top of the cloud."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object lies. Grants on a domain hold for all below it, grants on the cloud everywhere."""

    project: str | None = None
    domain: str | None = None
    """Of an object outside projects; None: the top."""


TOP = Place()


class Organization:
    """The tree of domains with the projects in it."""

    def __init__(self) -> None:
        self.version = 0
        """Rises when the tree changes."""
        self._parents: dict[str, str | None] = {}
        self._projects: dict[str, str | None] = {}
        self._projects_in: defaultdict[str, set[str]] = defaultdict(set)
        self._chains: dict[str, tuple[str, ...]] = {}

    def copy(self) -> "Organization":
        """Return another one of the same shape."""
        other = Organization()
        other._parents, other._projects = dict(self._parents), dict(self._projects)
        other._projects_in.update({domain: set(names) for domain, names in self._projects_in.items()})
        return other

    def put_domain(self, name: str, parent: str | None) -> None:
        """Take in a domain."""
        if name not in self._parents or self._parents[name] != parent:
            self._parents[name] = parent
            self._changed()

    def remove_domain(self, name: str) -> None:
        """Take out a domain; of none is nothing."""
        if name in self._parents:
            del self._parents[name]
            self._changed()

    def put_project(self, name: str, domain: str | None) -> None:
        """Take in a project."""
        if name in self._projects and self._projects[name] == domain:
            return
        self.remove_project(name)
        self._projects[name] = domain
        if domain is not None:
            self._projects_in[domain].add(name)
        self.version += 1

    def remove_project(self, name: str) -> None:
        """Take out a project; of none is nothing."""
        domain = self._projects.pop(name, None)
        if domain is not None:
            projects = self._projects_in[domain]
            projects.discard(name)
            if not projects:
                del self._projects_in[domain]
        self.version += 1

    def clear_domains(self) -> None:
        """Forget all domains."""
        self._parents.clear()
        self._changed()

    def clear_projects(self) -> None:
        """Forget all projects."""
        self._projects.clear()
        self._projects_in.clear()
        self.version += 1

    def domains_of(self, place: Place) -> tuple[str, ...]:
        """Return the domains that the place lies in, the innermost first."""
        domain = place.domain if place.project is None else self._projects.get(place.project)
        if domain is None:
            return ()
        found = self._chains.get(domain)
        return found if found is not None else self._follow(domain)

    def projects_below(self, domain: str) -> set[str]:
        """Return the projects in the domain and in all below it."""
        inside = [d for d, projects in self._projects_in.items() if projects and domain in self._follow(d)]
        return {project for d in inside for project in self._projects_in[d]}

    def _follow(self, domain: str) -> tuple[str, ...]:
        """Return the way up; it ends at a domain that is missing, and at one that came before (a broken store)."""
        chain: list[str] = []
        current: str | None = domain
        while current is not None and current in self._parents and current not in chain:
            chain.append(current)
            current = self._parents[current]
        found = tuple(chain)
        if domain in self._parents:  # names of none come from whoever asks, as many as he likes
            self._chains[domain] = found
        return found

    def _changed(self) -> None:
        self._chains.clear()
        self.version += 1
