"""With whom a network is shared, and who is on it: worked out from what the informers know. Reads only."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.domaintree import find_enclosing
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.network import Network, SharedTo, network_ref, target_of
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.project import Project
from vcstack.specs.resource import Ref

BORROWERS = "borrowers"
"""Index of ports by the other project's network that they are on."""

Target = tuple[str, str]
"""project or domain, and its name."""


@dataclass(slots=True)
class Lending:
    """What is shared, and what is left of what was."""

    shared: list[SharedTo] = field(default_factory=list)
    gone: list[Target] = field(default_factory=list)
    """Named in spec, but not there, or another one of that name."""
    leaving: list[tuple[Target, int]] = field(default_factory=list)
    """Not named in spec any more, with how many ports they have left."""


def borrowed_by(port: Port) -> Iterator[Ref]:
    """Yield the network that the port is on if it is another project's."""
    network = network_ref(port.spec.network, port.metadata.project)
    if network.project != port.metadata.project:
        yield network


class Lendings:
    """Looks up who borrows networks."""

    def __init__(self, context: ControllerContext) -> None:
        self._ports = context.informer(Port)
        self._projects, self._domains = context.informer(Project), context.informer(Domain)
        self._ports.add_index(BORROWERS, borrowed_by)

    def find(self, network: Network) -> Lending:
        """Return with whom the network is shared, each as it was meant when it was shared."""
        wanted = [target_of(s) for s in network.spec.shared_with]
        before = {target_of(s): s.uid for s in network.status.shared_with or ()}
        counts = self._count(network, list(dict.fromkeys((*wanted, *before))))
        found = Lending()
        for target in dict.fromkeys((*wanted, *before)):
            now, count = self._uid_of(target), counts[target]
            uid = before.get(target, now)
            if target in wanted and (uid is None or uid != now):
                found.gone.append(target)
            if target not in wanted and count:
                found.leaving.append((target, count))
            if uid is not None and (target in wanted or count):
                kind, name = target
                found.shared.append(SharedTo.model_validate({kind: name, "uid": uid, "port_count": count}))
        return found

    def _count(self, network: Network, targets: Sequence[Target]) -> Counter[Target]:
        counts: Counter[Target] = Counter()
        for port in self._ports.by_index(BORROWERS, network.ref):
            scopes = self._scopes_of(port.metadata.project or "")
            counts.update(scope for scope in scopes[:1] or () if scope in targets)
            if scopes and scopes[0] not in targets:
                counts.update([s for s in scopes[1:] if s in targets][:1])
        return counts

    def _scopes_of(self, project: str) -> list[Target]:
        """Return the project and the domains that it lies in, the innermost first."""
        known = self._projects.find(project)
        domains = find_enclosing(self._domains, known.spec.domain if known is not None else None)
        return [("project", project), *(("domain", domain) for domain in domains)]

    def _uid_of(self, target: Target) -> str | None:
        kind, name = target
        found = (self._projects if kind == "project" else self._domains).find(name)
        return found.uid if found is not None else None
