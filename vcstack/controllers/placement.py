"""Where an instance can run and where it runs best: filters and scores as pure functions.

A filter gives the reason why a host is rejected, or None. A score is better when it is higher. Among
equal hosts the first by name wins, so the choice is the same each time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vcstack.controllers.capacity import build_allocatable, find_shortage
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
class Candidate:
    """A host with what is claimed of it."""

    host: Host
    used: Capacity
    allocatable: Capacity | None


Filter = Callable[[Demand, Candidate], str | None]


def build_candidate(host: Host, used: Capacity) -> Candidate:
    """Return the host as a candidate."""
    return Candidate(host, used, build_allocatable(host))


def reject_other_hosts(demand: Demand, candidate: Candidate) -> str | None:
    """Only the host that placement names, if it names one."""
    wanted = demand.placement.host
    return f"placement asks for host {wanted}" if wanted and wanted != candidate.host.metadata.name else None


def reject_leaving(demand: Demand, candidate: Candidate) -> str | None:
    """No host that is being deleted."""
    return "it is being deleted" if candidate.host.deleting else None


def reject_not_alive(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts whose lease is held and whose agent reached libvirt and OVS."""
    for type_ in (ALIVE, AGENT_READY):
        condition = candidate.host.find_condition(type_)
        if condition is None or condition.status != "True":
            reason = condition.reason if condition else "not observed yet"
            return f"it is not {type_} ({reason})"
    return None


def reject_cordoned(demand: Demand, candidate: Candidate) -> str | None:
    """No cordoned hosts."""
    return "it is cordoned" if candidate.host.spec.scheduling is Scheduling.DISABLED else None


def reject_other_zones(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts of the zone asked for."""
    wanted, zone = demand.placement.zone, candidate.host.spec.zone
    return f"its zone is {zone or 'not set'}, not {wanted}" if wanted and wanted != zone else None


def reject_unselected(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts with the labels asked for."""
    labels = candidate.host.metadata.labels
    missing = [f"{k}={v}" for k, v in sorted(demand.placement.host_selector.items()) if labels.get(k) != v]
    return f"it has no label {', '.join(missing)}" if missing else None


def reject_without_hypervisor(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts on which a guest CPU was started."""
    return None if candidate.host.status.virt_type else "it has no working hypervisor"


def reject_full(demand: Demand, candidate: Candidate) -> str | None:
    """Only hosts with room, overcommit counted."""
    if candidate.allocatable is None:
        return "its capacity was not observed yet"
    return find_shortage(demand.request, candidate.used, candidate.allocatable)


FILTERS: Sequence[Filter] = (
    reject_other_hosts,
    reject_leaving,
    reject_other_zones,
    reject_unselected,
    reject_cordoned,
    reject_not_alive,
    reject_without_hypervisor,
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
    allocatable = candidate.allocatable or Capacity()
    shares = [
        (getattr(candidate.used, name) + getattr(demand.request, name)) / max(getattr(allocatable, name), 1)
        for name in ("vcpus", "memory_mib")
    ]
    load = sum(shares) / len(shares)
    has_image = demand.image_digest is not None and demand.image_digest in (candidate.host.status.cached_images or ())
    return (load if strategy is Strategy.BIN_PACKING else -load, has_image)


def choose(
    demand: Demand, candidates: Iterable[Candidate], strategy: Strategy
) -> tuple[Candidate | None, Mapping[str, str]]:
    """Return the best host, None when none fits, and the reason for each rejected one by name."""
    rejected: dict[str, str] = {}
    best: tuple[tuple[float, bool], Candidate] | None = None
    for candidate in sorted(candidates, key=lambda c: c.host.metadata.name):
        reason = find_rejection(demand, candidate)
        if reason:
            rejected[candidate.host.metadata.name] = reason
            continue
        points = score(demand, candidate, strategy)
        if best is None or points > best[0]:
            best = (points, candidate)
    return (best[1] if best else None), rejected


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
