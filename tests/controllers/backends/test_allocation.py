"""Address arithmetic."""

from ipaddress import IPv4Address, ip_address, ip_network
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from vcstack.controllers.backends.allocation import (
    count_free,
    iter_addresses,
    spans_of,
)
from vcstack.specs.kinds.port import check_mac, find_address_fault
from vcstack.specs.kinds.subnet import AllocationRange, Subnet, SubnetSpec, gateway_of
from vcstack.specs.macs import MAC_PREFIX, SERVER_MAC_PREFIX, build_mac


def build_subnet(cidr: str, gateway: str | None = None, *ranges: tuple[str, str]) -> Subnet:
    spec = SubnetSpec(
        network="web",
        cidr=cidr,
        gateway=gateway,
        allocation_ranges=[AllocationRange(start=start, end=end) for start, end in ranges],
    )
    return Subnet.new("s", spec, project="demo")


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    """Subnets of up to 256 addresses with a usable gateway and disjoint ranges, as the kind's check allows."""
    prefix = draw(st.integers(24, 30))
    network = ip_network((draw(st.integers(0x0A000000, 0x0AFFFFFF)) >> (32 - prefix) << (32 - prefix), prefix))
    hosts = [str(h) for h in network.hosts()]
    gateway = draw(st.none() | st.sampled_from(hosts))
    bounds = sorted(draw(st.sets(st.sampled_from([*map(int, network)]), max_size=6)))
    pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
    return build_subnet(str(network), gateway, *((str(IPv4Address(a)), str(IPv4Address(b))) for a, b in pairs))


@given(subnets())
def test_every_offered_address_is_usable_ascending_and_counted(subnet: Subnet) -> None:
    offered = list(iter_addresses(subnet))
    assert offered == sorted(set(offered), key=ip_address)
    assert all(find_address_fault(a, subnet) is None for a in offered)
    assert gateway_of(subnet.spec) not in offered
    assert count_free(subnet, set()) == len(offered)
    assert count_free(subnet, set(offered)) == 0
    spans = [(ip_address(r.start), ip_address(r.end)) for r in subnet.spec.allocation_ranges]
    assert not spans or all(any(s <= ip_address(a) <= e for s, e in spans) for a in offered)


@given(subnets(), st.integers(0, 300))
def test_a_beginning_skips_what_is_below(subnet: Subnet, offset: int) -> None:
    beginning = int(ip_network(subnet.spec.cidr)[0]) + offset
    expected = [a for a in iter_addresses(subnet) if int(ip_address(a)) >= beginning]
    assert list(iter_addresses(subnet, beginning=beginning)) == expected


@given(subnets())
def test_nothing_is_forgotten(subnet: Subnet) -> None:
    """Without ranges all hosts but the gateway are offered."""
    bare = build_subnet(subnet.spec.cidr, subnet.spec.gateway)
    hosts = {str(h) for h in ip_network(subnet.spec.cidr).hosts()}
    assert set(iter_addresses(bare)) == hosts - {gateway_of(bare.spec)}


def test_a_large_ipv6_range_costs_nothing() -> None:
    subnet = build_subnet("fd00::/64")
    assert list(islice(iter_addresses(subnet), 2)) == ["fd00::2", "fd00::3"]
    assert count_free(subnet, {"fd00::2"}) == 2**53
    assert len(spans_of(subnet)) == 1


@given(st.text(), st.integers(0, 64))
def test_macs_are_valid_and_differ_by_attempt(uid: str, attempt: int) -> None:
    mac = build_mac(uid, attempt)
    assert check_mac(mac) == mac
    assert mac.startswith(MAC_PREFIX)
    assert int(mac[:2], 16) & 0b11 == 0b10
    assert mac == build_mac(uid, attempt) != build_mac(uid, attempt + 1)
    assert build_mac(uid, prefix=SERVER_MAC_PREFIX)[:5] != mac[:5]
