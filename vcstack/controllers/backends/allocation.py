"""Choosing IP addresses: pure arithmetic that the network controllers share."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from vcstack.specs.kinds.subnet import Subnet, gateway_of

FREE_LIMIT = 2**53
"""The largest integer that every JSON reader keeps exactly."""

Span = tuple[int, int]
"""An inclusive range of addresses as integers."""


def spans_of(subnet: Subnet) -> list[Span]:
    """Return the ranges that addresses are chosen from, ascending, without edges and gateway.

    The first address of an IPv6 subnet is the routers' anycast address: RFC 4291, section 2.6.1.
    """
    spec, network = subnet.spec, ip_network(subnet.spec.cidr)
    whole = [(int(network[0]), int(network[-1]))]
    spans = sorted((int(ip_address(r.start)), int(ip_address(r.end))) for r in spec.allocation_ranges) or whole
    excluded = {int(network[0]), int(ip_address(gateway_of(spec)))}
    if network.version == 4:
        excluded.add(int(network[-1]))
    for hole in sorted(excluded):
        spans = [part for span in spans for part in _without(span, hole)]
    return spans


def _without(span: Span, hole: int) -> Iterator[Span]:
    start, end = span
    if not start <= hole <= end:
        yield span
        return
    if start < hole:
        yield (start, hole - 1)
    if hole < end:
        yield (hole + 1, end)


def iter_addresses(subnet: Subnet, *, beginning: int = 0) -> Iterator[str]:
    """Yield the addresses that may be chosen, ascending, from the one with that number on."""
    build = ip_address(ip_network(subnet.spec.cidr)[0]).__class__
    for start, end in spans_of(subnet):
        for number in range(max(start, beginning), end + 1):
            yield str(build(number))


def count_free(subnet: Subnet, used: set[str]) -> int:
    """Return how many addresses can still be chosen; at most FREE_LIMIT."""
    spans = spans_of(subnet)
    numbers = [int(ip_address(a)) for a in used]
    taken = sum(any(start <= n <= end for start, end in spans) for n in numbers)
    return min(sum(end - start + 1 for start, end in spans) - taken, FREE_LIMIT)
