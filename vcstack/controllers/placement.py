"""Where an instance can run and where it runs best: filters and scores as pure functions.

A filter gives the reason why a host is rejected, or None. A score is better when it is higher. Among
equal hosts the first by name wins, so the choice is the same each time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vcstack.controllers.capacity import Standard, build_allocatable, find_shortage
from vcstack.specs.kinds.host import AGENT_READY, ALIVE, Capacity, Host, Scheduling
from vcstack.specs.kinds.instance import Placement

NAMED_PER_REASON = 100
"""How many of the hosts that share a reason a message names."""


class Strategy(StrEnum):
    """Which of the hosts that fit is best."""

    BIN_PACKING = "BinPacking"
    """The fullest: keeps others free for large instances."""
    SPREAD = "Spread"
    """The emptiest: a lost host takes few instances with it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an instance asks for."""

    request: Capacity
    placement: Placement
    image_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a version of a host offers; worked out once, since thousands of decisions look at it."""

    host: Host
    standard: Standard
    """The overcommit that is set, with which it was worked out."""
    allocatable: Capacity | None
    unfit: str | None
    """Why it takes no instance at all, or None."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host with what is claimed of it."""

    offer: Offer
    used: Capacity

    @property
    def host(self) -> Host:
        """Return the host."""
        return self.offer.host

    @property
    def allocatable(self) -> Capacity | None:
        """Return what instances may claim of it in sum."""
        return self.offer.allocatable


Filter = Callable[[Demand, Candidate], str | None]


def build_offer(host: Host, standard: Standard) -> Offer:
    """Return what the host offers."""
    unfit = next((reason for reject in HOST_FILTERS if (reason := reject(host))), None)
    return Offer(host, standard, build_allocatable(host, standard), unfit)


def build_candidate(host: Host, standard: Standard, used: Capacity) -> Candidate:
    """Return the host as a candidate."""
    return Candidate(build_offer(host, standard), used)


def reject_other_hosts(demand: Demand, candidate: Candidate) -> str | None:
    """Only the host that placement names, if it names one."""
    wanted = demand.placement.host
    return f"placement asks for host {wanted}" if wanted and wanted != candidate.host.metadata.name else None


def reject_leaving(host: Host) -> str | None:
    """No host that is being deleted."""
    return "it is being deleted" if host.deleting else None


def reject_out_of_service(host: Host) -> str | None:
    """No host whose machine is stated to be off or lost."""
    return "it is out of service" if host.spec.out_of_service else None


def reject_not_alive(host: Host) -> str | None:
    """Only hosts whose lease is held and whose agent reached libvirt and OVS."""
    for type_ in (ALIVE, AGENT_READY):
        condition = host.find_condition(type_)
        if condition is None or condition.status != "True":
            reason = condition.reason if condition else "not observed yet"
            return f"it is not {type_} ({reason})"
    return None


def reject_cordoned(host: Host) -> str | None:
    """No cordoned hosts."""
    return "it is cordoned" if host.spec.scheduling is Scheduling.DISABLED else None


def reject_without_hypervisor(host: Host) -> str | None:
    """Only hosts on which a guest CPU was started."""
    return None if host.status.virt_type else "it has no working hypervisor"


HOST_FILTERS = (reject_leaving, reject_out_of_service, reject_cordoned, reject_not_alive, reject_without_hypervisor)
"""What a host itself lacks, whatever is asked for."""


def reject_unfit(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts that take instances at all."""
    return candidate.offer.unfit


def reject_other_zones(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts of the zone asked for."""
    wanted, zone = demand.placement.zone, candidate.host.spec.zone
    return f"its zone is {zone or 'not set'}, not {wanted}" if wanted and wanted != zone else None


def reject_unselected(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts with the labels asked for."""
    labels = candidate.host.metadata.labels
    missing = [f"{k}={v}" for k, v in sorted(demand.placement.host_selector.items()) if labels.get(k) != v]
    return f"it has no label {', '.join(missing)}" if missing else None


def reject_full(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts with room, overcommit counted."""
    if candidate.allocatable is None:
        return "its capacity was not observed yet"
    return find_shortage(demand.request, candidate.used, candidate.allocatable)


FILTERS: Sequence[Filter] = (
    reject_other_hosts,
    reject_other_zones,
    reject_unselected,
    reject_unfit,
    reject_full,
)
"""In the order in which a reason is given: what the user asked for before what the host lacks."""


def find_rejection(demand: Demand, candidate: Candidate) -> str | None:
    """Return why the host is rejected, or None when the instance fits."""
    for reject in FILTERS:
        reason = reject(demand, candidate)
        if reason:
            return reason
    return None


def score(demand: Demand, candidate: Candidate, strategy: Strategy) -> tuple[float, bool]:
    """Return how good the host is: by its load after placing, then by whether it has the image."""
    allocatable, used, request = candidate.allocatable or Capacity(), candidate.used, demand.request
    cpu = (used.vcpus + request.vcpus) / max(allocatable.vcpus, 1)
    memory = (used.memory_mib + request.memory_mib) / max(allocatable.memory_mib, 1)
    load = (cpu + memory) / 2
    has_image = demand.image_digest is not None and demand.image_digest in (candidate.host.status.cached_images or ())
    return (load if strategy is Strategy.BIN_PACKING else -load, has_image)


def choose(
    demand: Demand, candidates: Iterable[Candidate], strategy: Strategy
) -> tuple[Candidate | None, Mapping[str, str]]:
    """Return the best host, None when none fits, and the reason for each rejected one by name."""
    rejected: dict[str, str] = {}
    best: Candidate | None = None
    best_points, best_name = (0.0, False), ""
    for candidate in candidates:
        name = candidate.host.metadata.name
        reason = find_rejection(demand, candidate)
        if reason:
            rejected[name] = reason
            continue
        points = score(demand, candidate, strategy)
        if best is None or points > best_points or (points == best_points and name < best_name):
            best, best_points, best_name = candidate, points, name
    return best, rejected


def describe_rejections(rejected: Mapping[str, str]) -> str:
    """Return the reasons as a sentence's part, hosts of the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(rejected.items()):
        by_reason.setdefault(reason, []).append(name)
    parts = []
    for reason, names in by_reason.items():
        more = len(names) - NAMED_PER_REASON
        shown = ", ".join(names[:NAMED_PER_REASON]) + (f" and {more} more" if more > 0 else "")
        parts.append(f"{shown}: {reason}")
    return "; ".join(parts)
