"""Places: how much of something slow goes on at once, shared so that no tenant and no project holds all of it.

Who has a place may have it for hours, and it is taken from nobody. So some are always left for others: a tenant gets
another one while it has fewer than are free, and a project while it has fewer than its tenant could still get. Alone, a
tenant comes to half of all and a project to a quarter; the more others have the less, and where all are taken the next
one that becomes free is for who has none. Who waits asks again; nobody is kept in a queue.
"""

from collections import Counter
from dataclasses import dataclass

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.domaintree import find_enclosing
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.project import Project


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a place."""

    tenant: tuple[str, str]
    """The kind and name of what is at the top of the tree: a domain, or a project that lies in none."""
    project: str
    """Empty: nobody's in particular, as the cloud's own images."""


class Places:
    """So many places. Not thread-safe."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken: Counter[Holder] = Counter()

    @property
    def taken(self) -> int:
        """Return how many are."""
        return self._taken.total()

    def take(self, holder: Holder) -> bool:
        """Take a place if there is one for the holder; return whether there was. ``give_back`` it at the end."""
        free = self.total - self.taken
        of_tenant = sum(count for other, count in self._taken.items() if other.tenant == holder.tenant)
        still_to_tenant = (free - of_tenant + 1) // 2
        if self._taken[holder] >= still_to_tenant:
            return False
        self._taken[holder] += 1
        return True

    def give_back(self, holder: Holder) -> None:
        """Give a place back that was taken for this holder."""
        self._taken[holder] -= 1
        if not self._taken[holder]:
            del self._taken[holder]


class Holders:
    """Which tenant a project is of, as the informers know."""

    def __init__(self, context: ControllerContext) -> None:
        self._projects: Informer[Project] = context.informer(Project)
        self._domains: Informer[Domain] = context.informer(Domain)

    def find(self, project: str | None) -> Holder:
        """Return who holds what is done for a project's object; of None: of the cloud's own."""
        found = self._projects.find(project) if project else None
        domains = find_enclosing(self._domains, found.spec.domain if found is not None else None)
        return Holder(("domain", domains[-1]) if domains else ("project", project or ""), project or "")
