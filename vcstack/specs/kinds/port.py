"""Port: an attachment point on a network with its addresses and security groups."""

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from vcstack.specs.claims import Claim
from vcstack.specs.errors import Cause
from vcstack.specs.kinds.network import network_ref
from vcstack.specs.kinds.securitygroup import DEFAULT_NAME
from vcstack.specs.kinds.subnet import Address, Subnet, gateway_of
from vcstack.specs.macs import SERVER_MAC_PREFIX
from vcstack.specs.model import Change, LentName, Model, Name, Observed, RefersTo, Takes, split_lent
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/port"
ALLOCATED = "Allocated"
"""True when the port holds its MAC and addresses."""
REALIZED = "Realized"
"""True when the logical switch port was read back from OVN as wanted."""
UP = "Up"
"""True when ovn-controller reported the port up: its flows are installed on the host. Not part of Ready."""


def check_mac(value: str) -> str:
    """Return the address if it is a unicast MAC in lower case, else raise ValueError with the fix."""
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", value):
        raise ValueError(f"{value!r} is no MAC address in lower case; write e.g. 52:54:00:12:34:56")
    if int(value[:2], 16) & 1:
        raise ValueError(f"{value} is a multicast address; clear the lowest bit of the first byte")
    if value == "00:00:00:00:00:00":
        raise ValueError("a MAC address of zeros is not allowed")
    return value


MAC = Annotated[str, AfterValidator(check_mac), Field(max_length=17)]


class PortSpec(Spec):
    """What the attachment point is to be."""

    network: Annotated[LentName, RefersTo("Network", lent=True), Takes(Change.IMMUTABLE)]
    """The network it is on; PROJECT/NAME for one that another project shares."""
    subnet: Annotated[LentName | None, RefersTo("Subnet", lent=True), Takes(Change.IMMUTABLE)] = None
    """Where its address comes from, PROJECT/NAME if the network is another project's; default one address of each
    family that the network has, also when it gets its first subnet of a family later."""
    address: Annotated[Address | None, Takes(Change.IMMUTABLE)] = None
    """A fixed address; default a free one."""
    mac: Annotated[MAC | None, Takes(Change.IMMUTABLE)] = None
    """A fixed MAC address; default one made from the uid."""
    security_groups: Annotated[list[Annotated[Name, RefersTo("SecurityGroup")]], Field(max_length=16)] | None = None
    """What traffic is allowed; default the project's group "default". An empty list allows nothing."""


class PortAddress(Model):
    """An address that a port holds."""

    subnet: Observed
    """The subnet; PROJECT/NAME if it is another project's."""
    address: Observed
    """The address."""


class PortStatus(Status):
    """What was observed of the port."""

    mac: Observed | None = None
    """The MAC address it holds."""
    addresses: Annotated[list[PortAddress], Field(max_length=64)] | None = None
    """The addresses it holds."""
    instance: Observed | None = None
    """The instance that it is attached to."""
    host: Observed | None = None
    """The host that the instance is bound to."""


class Port(Resource[PortSpec, PortStatus]):
    """An attachment point on a network with its addresses and security groups."""

    KIND = "Port"
    status: PortStatus = Field(default_factory=PortStatus)


def security_groups_of(spec: PortSpec) -> Sequence[str]:
    """Return the names of the groups in force."""
    return (DEFAULT_NAME,) if spec.security_groups is None else spec.security_groups


def _check(new: Port, old: Port | None, referenced: Referenced) -> Sequence[Cause]:
    """The subnet is one of the network; a fixed address is a usable one of the subnet."""
    home = new.metadata.project
    causes = find_needless_project(new.spec.network, home, "spec.network")
    causes += find_needless_project(new.spec.subnet, home, "spec.subnet")
    if old is None and (new.spec.mac or "").startswith(SERVER_MAC_PREFIX):
        message = f"{SERVER_MAC_PREFIX} is how the cloud's own addresses begin; choose another one"
        causes.append(Cause(field="spec.mac", reason="FieldValueInvalid", message=message))
    if causes:
        return causes
    subnet = referenced.get(Ref("Subnet", *split_lent(new.spec.subnet or "", home)))
    if not isinstance(subnet, Subnet):
        fault = (
            new.spec.address
            and not new.spec.subnet
            and find_stray_fault(new.spec.address, new.spec.network, referenced)
        )
        return (Cause(field="spec.address", reason="FieldValueInvalid", message=fault),) if fault else ()
    if network_of(subnet) != network_ref(new.spec.network, home):
        message = f"subnet {new.spec.subnet} belongs to network {subnet.spec.network}, not {new.spec.network}"
        causes.append(Cause(field="spec.subnet", reason="FieldValueInvalid", message=message))
    fault = new.spec.address and find_address_fault(new.spec.address, subnet)
    if fault:
        causes.append(Cause(field="spec.address", reason="FieldValueInvalid", message=fault))
    return causes


def find_needless_project(name: str | None, home: str | None, field: str) -> list[Cause]:
    """Return that what is one's own is named without its project, so that each thing has one name."""
    project, bare = split_lent(name or "", None)
    if project is None or project != home:
        return []
    return [Cause(field=field, reason="FieldValueInvalid", message=f"{name} is of the same project; write {bare}")]


def network_of(subnet: Subnet) -> Ref:
    """Return the subnet's network."""
    return network_ref(subnet.spec.network, subnet.metadata.project)


def find_address_fault(address: str, subnet: Subnet) -> str | None:
    """Return why a port cannot have the address in the subnet, or None."""
    network, wanted = ip_network(subnet.spec.cidr), ip_address(address)
    if wanted.version != network.version or wanted not in network:
        return f"{address} does not lie in {subnet.spec.cidr} of subnet {subnet.metadata.name}"
    if address == gateway_of(subnet.spec):
        return f"{address} is the gateway of subnet {subnet.metadata.name}"
    if (network.version == 4 and wanted in (network[0], network[-1])) or wanted == network[0]:
        return f"{address} is the network's or the broadcast address of {subnet.spec.cidr}"
    return None


def find_stray_fault(address: str, network: str, referenced: Referenced) -> str | None:
    """Return why a port of the network cannot have the address when no subnet is named, or None.

    A network without subnets says nothing yet; the port then waits, with a condition.
    """
    subnets = [s for s in referenced.values() if isinstance(s, Subnet) and s.spec.network == network]
    for subnet in subnets:
        if ip_address(address) in ip_network(subnet.spec.cidr):
            return find_address_fault(address, subnet)
    ranges = ", ".join(sorted(s.spec.cidr for s in subnets))
    return f"{address} lies in no subnet of network {network}; choose one in {ranges}" if subnets else None


def _neighbours(port: Port) -> Sequence[str]:
    """Return Subnet when an address is given without its subnet: all of them are looked at."""
    return ("Subnet",) if port.spec.address and not port.spec.subnet else ()


def _claims(port: Port) -> Sequence[Claim]:
    """Claim the addresses in the network and the MAC in the whole cloud, wanted and chosen ones alike."""
    addresses = dict.fromkeys([port.spec.address] if port.spec.address else [], "spec.address")
    addresses |= {a.address: "status.addresses" for a in port.status.addresses or () if a.address not in addresses}
    macs = dict.fromkeys([port.spec.mac] if port.spec.mac else [], "spec.mac")
    macs |= {port.status.mac: "status.mac"} if port.status.mac and port.status.mac not in macs else {}
    network = network_ref(port.spec.network, port.metadata.project)
    pool = f"addresses/{network.project}/{network.name}"
    return (
        *(Claim(pool=pool, key=a, field=f) for a, f in addresses.items()),
        *(Claim(pool="macs", key=m, field=f) for m, f in macs.items()),
    )


register(
    KindDefinition(
        model=Port,
        plural="ports",
        uid_prefix="p",
        scope=Scope.PROJECT,
        columns=(
            Column("NETWORK", "spec.network"),
            Column("ADDRESSES", "status.addresses[*].address"),
            Column("MAC", "status.mac"),
            Column("INSTANCE", "status.instance"),
            Column("UP", "status.conditions[Up].status"),
            Column("HOST", "status.host", wide=True),
        ),
        view=(
            ViewColumn("network", "spec.network"),
            ViewColumn("mac", "status.mac"),
            ViewColumn("addresses", "status.addresses", "jsonb"),
            ViewColumn("instance", "status.instance"),
            ViewColumn("host", "status.host"),
        ),
        ready_when=(ALLOCATED, REALIZED),
        finalizers=(FINALIZER,),
        node_path="status.host",
        claims=_claims,
        check=_check,
        neighbours=_neighbours,
        apply_order=30,
        category="network",
        example={
            "metadata": {"project": "demo", "name": "p1"},
            "spec": {"network": "web", "securityGroups": ["ssh"]},
            "status": {"mac": "02:00:00:00:00:01", "host": "h1"},
        },
    )
)
