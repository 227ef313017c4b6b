"""Subnet: an address range of a network with its DHCP options."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from vcstack.specs.claims import Claim, Members
from vcstack.specs.errors import Cause
from vcstack.specs.kinds.network import build_lent_view, network_ref
from vcstack.specs.model import Change, Model, Name, RefersTo, Takes
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/subnet"
REALIZED = "Realized"
"""True when the DHCP options were read back from OVN (or DHCP is disabled and none are there)."""

GATEWAY_TAKEN = "GatewayTaken"
"""Reason of Realized: a port got the address before it was made the gateway's."""


def check_cidr(value: str) -> str:
    """Return the canonical prefix, else raise ValueError with the fix."""
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"{value!r} is no CIDR; write e.g. 10.10.0.0/24 or fd00:10::/64") from error
    if str(network) != value:
        raise ValueError(f"{value!r} has host bits or is not canonical; write {network}")
    limits = (8, 30) if network.version == 4 else (48, 126)
    if not limits[0] <= network.prefixlen <= limits[1]:
        raise ValueError(f"the prefix length must be from /{limits[0]} to /{limits[1]}")
    if network.is_multicast or network.is_loopback or network.is_link_local or network.is_unspecified:
        raise ValueError(f"{value} is multicast, loopback, link-local or unspecified; use a unicast range")
    return value


def check_address(value: str) -> str:
    """Return the canonical address, else raise ValueError with the fix."""
    try:
        address = ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no IP address; write e.g. 10.10.0.5 or fd00:10::5") from error
    if str(address) != value or "%" in value:
        raise ValueError(f"{value!r} is not canonical; write {ip_address(value.split('%')[0])}")
    return value


CIDR = Annotated[str, AfterValidator(check_cidr), Field(max_length=43)]
Prefix = Annotated[str, AfterValidator(lambda v: str(ip_network(v))), Field(max_length=43)]
Address = Annotated[str, AfterValidator(check_address), Field(max_length=39)]


class DHCP(StrEnum):
    """Whether addresses are told by DHCP."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class AllocationRange(Model):
    """An inclusive range of addresses."""

    start: Address
    """The first address."""
    end: Address
    """The last address."""


class HostRoute(Model):
    """A route told by DHCP."""

    destination: Prefix
    """The prefix, e.g. 192.168.0.0/16."""
    next_hop: Address
    """A router in the subnet."""


class SubnetSpec(Spec):
    """What the address range is to be."""

    network: Annotated[Name, RefersTo("Network"), Takes(Change.IMMUTABLE)]
    """The network it belongs to."""
    cidr: Annotated[CIDR, Takes(Change.IMMUTABLE)]
    """The range, IPv4 or IPv6, e.g. 10.10.0.0/24."""
    gateway: Annotated[Address | None, Takes(Change.LIVE)] = None
    """The address of the range that is kept for its router; default the first one. No port ever gets it. Guests
    are told it as their default route only once a router answers there; until then they get none."""
    allocation_ranges: Annotated[list[AllocationRange], Field(max_length=32)] = Field(default_factory=list)
    """Where addresses are chosen from; default the whole range without gateway and ends."""
    dns_servers: Annotated[list[Address], Field(max_length=8)] = Field(default_factory=list)
    """Resolvers told by DHCP."""
    host_routes: Annotated[list[HostRoute], Field(max_length=64)] = Field(default_factory=list)
    """Routes told by DHCP (IPv4)."""
    dhcp: DHCP = DHCP.ENABLED
    """Whether DHCP answers. When Disabled, cloud-init sets the addresses that guests have at their first boot;
    IPv6 addresses it always sets, as most guests ask DHCPv6 only when a router tells them to."""


class SubnetStatus(Status):
    """What was observed of the range."""

    gateway: str | None = None
    """The address that is kept for the router."""
    used_addresses: int | None = None
    """How many addresses ports hold."""
    free_addresses: int | None = None
    """How many can still be given; at most 2^53."""


class Subnet(Resource[SubnetSpec, SubnetStatus]):
    """An address range of a network with its DHCP options."""

    KIND = "Subnet"
    status: SubnetStatus = Field(default_factory=SubnetStatus)


def gateway_of(spec: SubnetSpec) -> str:
    """Return the address kept for the router: the one given or the first address."""
    return spec.gateway or str(ip_network(spec.cidr)[1])


def find_router(subnet: Subnet) -> str | None:
    """Return what guests of the subnet are told as their default route, None when nothing would answer there.

    The one place that decides it, for DHCP and for cloud-init alike: always None until there is a kind Router
    that a subnet can be attached to. A default route to nobody makes guests wait instead of failing at once.
    """
    return None


def find_shell_address(subnet: Subnet) -> str | None:
    """Return the address that shells come from to the subnet's guests: the gateway's, which no port ever has.

    None before it was observed, and while a port holds it all the same.
    """
    realized = subnet.find_condition(REALIZED)
    taken = realized is not None and realized.reason == GATEWAY_TAKEN
    return None if taken else subnet.status.gateway


def _inside(network: IPv4Network | IPv6Network, address: str) -> bool:
    return ip_address(address).version == network.version and ip_address(address) in network


def _check(new: Subnet, old: Subnet | None, referenced: Referenced) -> Sequence[Cause]:
    """Gateway, ranges and next hops lie in the range and are of its family; ranges are ordered and disjoint."""
    spec, network, causes = new.spec, ip_network(new.spec.cidr), []

    def refuse(field: str, message: str) -> None:
        causes.append(Cause(field=field, reason="FieldValueInvalid", message=message))

    edges = {network[0]} | ({network[-1]} if network.version == 4 else set())
    if spec.gateway and (not _inside(network, spec.gateway) or ip_address(spec.gateway) in edges):
        refuse("spec.gateway", f"{spec.gateway} is no usable address of {spec.cidr}")
    spans: list[tuple[int, int]] = []
    for i, r in enumerate(spec.allocation_ranges):
        path = f"spec.allocationRanges[{i}]"
        if not (_inside(network, r.start) and _inside(network, r.end)):
            refuse(path, f"{r.start} to {r.end} does not lie in {spec.cidr}")
            continue
        span = (int(ip_address(r.start)), int(ip_address(r.end)))
        if span[0] > span[1]:
            refuse(path, f"start {r.start} is after end {r.end}; swap them")
        if any(span[0] <= e and s <= span[1] for s, e in spans):
            refuse(path, "overlaps an earlier range; make them disjoint")
        spans.append(span)
    for i, server in enumerate(spec.dns_servers):
        if ip_address(server).version != network.version:
            refuse(f"spec.dnsServers[{i}]", f"{server} is not of the address family of {spec.cidr}")
    for i, route in enumerate(spec.host_routes):
        if network.version == 6:
            refuse(f"spec.hostRoutes[{i}]", "DHCPv6 carries no routes; remove it")
        elif not _inside(network, route.next_hop):
            refuse(f"spec.hostRoutes[{i}].nextHop", f"{route.next_hop} does not lie in {spec.cidr}")
        elif ip_network(route.destination).version != network.version:
            refuse(
                f"spec.hostRoutes[{i}].destination",
                f"{route.destination} is not of the family of {spec.cidr}",
            )
    return causes


def _claims(subnet: Subnet) -> Sequence[Claim]:
    """Claim the range in its network: ranges of one network never overlap."""
    network = ip_network(subnet.spec.cidr)

    def rule(members: Members) -> str | None:
        for member in members.values():
            other = ip_network(str(member["cidr"]))
            if other.version == network.version and other.overlaps(network):
                return f"{network} overlaps {other} of subnet {member.get('name', '?')} in the same network"
        return None

    value: Mapping[str, Any] = {"cidr": subnet.spec.cidr}
    pool = f"subnets/{subnet.metadata.project}/{subnet.spec.network}"
    return (Claim(pool=pool, key=subnet.metadata.name, field="spec.cidr", value=value, rule=rule),)


def _lent_by(wire: Mapping[str, Any]) -> Ref:
    return network_ref(wire["spec"]["network"], wire["metadata"].get("project"))


register(
    KindDefinition(
        model=Subnet,
        plural="subnets",
        uid_prefix="sn",
        scope=Scope.PROJECT,
        columns=(
            Column("NETWORK", "spec.network"),
            Column("CIDR", "spec.cidr"),
            Column("GATEWAY", "status.gateway"),
            Column("USED", "status.usedAddresses"),
            Column("FREE", "status.freeAddresses"),
            Column("DHCP", "spec.dhcp", wide=True, default=DHCP.ENABLED.value),
        ),
        view=(
            ViewColumn("network", "spec.network"),
            ViewColumn("cidr", "spec.cidr"),
            ViewColumn("gateway", "status.gateway"),
        ),
        ready_when=(REALIZED,),
        finalizers=(FINALIZER,),
        claims=_claims,
        check=_check,
        lent_by=_lent_by,
        lent_view=lambda wire: build_lent_view(wire, spec=None, status=("gateway",)),
        apply_order=25,
        category="network",
        example={
            "metadata": {"project": "demo", "name": "web-v4"},
            "spec": {"network": "web", "cidr": "10.10.0.0/24"},
            "status": {"gateway": "10.10.0.1", "usedAddresses": 1, "freeAddresses": 252},
        },
    )
)
