"""The tree of domains, as an informer knows it."""

from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.domain import Domain


def find_enclosing(domains: Informer[Domain], name: str | None) -> list[str]:
    """Return the domain and those that it lies in, the innermost first; nothing of None.

    A name that there is no domain of is the last one. A broken store may have a circle: each is told once.
    """
    found: list[str] = []
    while name and name not in found:
        found.append(name)
        domain = domains.find(name)
        name = domain.spec.parent if domain is not None else None
    return found
