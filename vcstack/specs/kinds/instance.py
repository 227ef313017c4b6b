"""Instance: a virtual machine."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.claims import Claim
from vcstack.specs.errors import Cause
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.host import Capacity, Host, capacity_pool
from vcstack.specs.kinds.network import network_ref
from vcstack.specs.kinds.port import Port, find_address_fault, find_needless_project, find_stray_fault, network_of
from vcstack.specs.kinds.secret import SecretKey
from vcstack.specs.kinds.subnet import Address, Subnet
from vcstack.specs.meta import LabelKey, LabelValue, Time
from vcstack.specs.model import Change, LentName, Model, Name, Observed, RefersTo, Takes, split_lent
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/instance"
"""Removed by the manager when the instance's ports are gone."""
DOMAIN_FINALIZER = "vcstack.io/domain"
"""Removed by the host's agent when domain, disks and taps are gone; by the manager if it was never bound, or its host
is out of service."""

SCHEDULED = "Scheduled"
"""Written by the scheduler."""
NETWORK_READY = "NetworkReady"
"""Written by the manager's instance controller: every interface's port holds its addresses, is in OVN, and,
once the domain is plugged, is reported up."""
IMAGE_READY = "ImageReady"
"""Written by the agent: the image is in the host's cache with the right digest."""
DISKS_READY = "DisksReady"
"""Written by the agent: root disk and seed are there."""
RUNNING = "Running"
"""Written by the agent: True when the domain is in the power state that spec asks for."""
UP_TO_DATE = "UpToDate"
"""Written by the agent: False with reason RebootRequired or RecreateRequired while a change of spec waits for one.
Not part of Ready."""

OBSERVED_ON_HOST = (IMAGE_READY, DISKS_READY, RUNNING, UP_TO_DATE)
"""What the agent writes; Unknown for the reason OutOfService while its host is, until the agent writes it again."""

USER_DATA_LIMIT = 64 * 1024


class PowerState(StrEnum):
    """The power state of a virtual machine."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    PAUSED = "Paused"


class NetworkInterface(Model):
    """A network card. A Port is made for it unless one is named."""

    name: Annotated[Name, StringConstraints(max_length=15)]
    """Unique in the instance, e.g. eth0."""
    network: Annotated[LentName | None, RefersTo("Network", lent=True)] = None
    """The network it is on, PROJECT/NAME for one that another project shares; needed unless port is given."""
    subnet: Annotated[LentName | None, RefersTo("Subnet", lent=True)] = None
    """Where its address comes from, PROJECT/NAME if the network is another project's; default one address of each
    family that the network has."""
    address: Address | None = None
    """A fixed address; default a free one."""
    security_groups: Annotated[list[Annotated[Name, RefersTo("SecurityGroup")]], Field(max_length=16)] | None = None
    """What traffic is allowed; default the project's group "default"."""
    port: Annotated[Name | None, RefersTo("Port")] = None
    """An existing port to use instead of making one; the other fields then stay empty."""


class Placement(Model):
    """Where it may run."""

    zone: Name | None = None
    """Only hosts of this zone."""
    host_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Only hosts with these labels."""
    host: Annotated[Name | None, RefersTo("Host")] = None
    """Only this host."""


UserData = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class InstanceSpec(Spec):
    """What the virtual machine is to be."""

    flavor: Annotated[Name, RefersTo("Flavor"), Takes(Change.REBOOT)]
    """Its size."""
    image: Annotated[Name, RefersTo("Image"), Takes(Change.RECREATE)]
    """What its root disk begins from: an image of the project, else a public one."""
    power_state: PowerState = PowerState.RUNNING
    """Running, Stopped or Paused."""
    network_interfaces: Annotated[list[NetworkInterface], Field(max_length=16)] = Field(default_factory=list)
    """Its network cards."""
    ssh_keys: Annotated[list[Annotated[Name, RefersTo("SSHKey")]], Field(max_length=32), Takes(Change.RECREATE)] = (
        Field(default_factory=list)
    )
    """Keys that cloud-init puts in."""
    user_data: Annotated[UserData | None, Takes(Change.RECREATE)] = None
    """What cloud-init runs: a script beginning with #! or #cloud-config; at most 64 KiB. Who may read the instance
    sees it; with secrets in it, use userDataSecret."""
    user_data_secret: Annotated[SecretKey | None, Takes(Change.RECREATE)] = None
    """The same from a value of a Secret. It is read when the disk is made; what was changed in the secret since
    comes with the next one."""
    placement: Annotated[Placement, Takes(Change.IMMUTABLE)] = Field(default_factory=Placement)
    """Where it may run."""


class InterfaceAddress(Model):
    """An address of one of its interfaces."""

    interface: Observed
    """The interface."""
    address: Observed
    """The address."""
    mac: Observed
    """The interface's MAC address."""


class InstanceStatus(Status):
    """What was observed of the virtual machine."""

    host: Observed | None = None
    """The host it is bound to, chosen by the scheduler."""
    allocated: Capacity | None = None
    """What it claims on its host."""
    power_state: PowerState | None = None
    """As read from the hypervisor."""
    addresses: Annotated[list[InterfaceAddress], Field(max_length=256)] | None = None
    """The addresses that its ports hold."""
    started_at: Time | None = None
    """When the domain was last started."""


class Instance(Resource[InstanceSpec, InstanceStatus]):
    """A virtual machine. When it is deleted the plug is pulled: stop it first if its guest is to shut down."""

    KIND = "Instance"
    status: InstanceStatus = Field(default_factory=InstanceStatus)


def port_name_of(instance: Instance, interface: NetworkInterface) -> str:
    """Return the name of the interface's port: the one named, else one made from the uid (deterministic)."""
    return interface.port or f"{instance.uid}-{interface.name}"


def port_fits(port: Port, interface: NetworkInterface) -> bool:
    """Return whether the interface's port is what it asks for, in what cannot be changed on a port; else the port
    is of an earlier spec: it is unplugged, deleted and made anew, in this order."""
    wanted = (interface.network, interface.subnet, interface.address)
    return interface.port is not None or (port.spec.network, port.spec.subnet, port.spec.address) == wanted


def _check(new: Instance, old: Instance | None, referenced: Referenced) -> Sequence[Cause]:
    """Interfaces are named uniquely and complete; addresses fit their subnets; user data is not too long."""
    causes: list[Cause] = []

    def refuse(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    seen: set[str] = set()
    for i, nic in enumerate(new.spec.network_interfaces):
        path = f"spec.networkInterfaces[{i}]"
        if nic.name in seen:
            refuse(f"{path}.name", "Duplicate", f"{nic.name} occurs twice")
        seen.add(nic.name)
        if nic.port and (nic.network or nic.subnet or nic.address or nic.security_groups is not None):
            refuse(
                f"{path}.port",
                "FieldValueInvalid",
                "with port, leave network, subnet, address and securityGroups out",
            )
        if not nic.port and not nic.network:
            refuse(f"{path}.network", "FieldValueRequired", "name a network (or a port)")
        home = new.metadata.project
        causes += find_needless_project(nic.network, home, f"{path}.network")
        causes += find_needless_project(nic.subnet, home, f"{path}.subnet")
        subnet = referenced.get(Ref("Subnet", *split_lent(nic.subnet or "", home)))
        if isinstance(subnet, Subnet) and nic.network and network_of(subnet) != network_ref(nic.network, home):
            refuse(
                f"{path}.subnet",
                "FieldValueInvalid",
                f"{nic.subnet} belongs to network {subnet.spec.network}",
            )
        fault = nic.address and isinstance(subnet, Subnet) and find_address_fault(nic.address, subnet)
        if nic.address and nic.network and not nic.subnet:
            fault = find_stray_fault(nic.address, nic.network, referenced)
        if nic.address and not fault:
            fault = _find_holder(new, nic, referenced)
        if fault:
            refuse(f"{path}.address", "FieldValueInvalid", fault)
    if new.spec.user_data is not None and new.spec.user_data_secret is not None:
        refuse("spec.userDataSecret", "FieldValueInvalid", "leave it out, or userData")
    if len((new.spec.user_data or "").encode()) > USER_DATA_LIMIT:
        refuse("spec.userData", "FieldValueTooLong", f"at most {USER_DATA_LIMIT} bytes")
    return causes


def _find_holder(instance: Instance, nic: NetworkInterface, referenced: Referenced) -> str | None:
    """Return that another port holds the interface's address, or None.

    An early word for people: what decides is the claim in the transaction that makes the interface's port.
    """
    for port in referenced.values():
        if not isinstance(port, Port) or port.spec.network != nic.network:
            continue
        held = {port.spec.address, *(a.address for a in port.status.addresses or ())}
        if nic.address in held and not (instance.uid and port.metadata.name == port_name_of(instance, nic)):
            return f"{nic.address} is taken by port {port.metadata.name}; choose another one or leave it out"
    return None


def _neighbours(instance: Instance) -> Sequence[str]:
    """Return the kinds that are looked at when an interface asks for an address."""
    return ("Subnet", "Port") if any(nic.address for nic in instance.spec.network_interfaces) else ()


def _claims(instance: Instance) -> Sequence[Claim]:
    """Claim capacity on the host it is bound to, and its interfaces' named ports and fixed addresses."""
    claims: list[Claim] = []
    if instance.status.host and instance.status.allocated:
        value = instance.status.allocated.to_wire()
        pool, host = capacity_pool(instance.status.host), Ref(Host.KIND, None, instance.status.host)
        claims.append(Claim(pool=pool, key=instance.uid, field="status.host", value=value, on=host))
    for i, nic in enumerate(instance.spec.network_interfaces):
        if nic.port:
            field = f"spec.networkInterfaces[{i}].port"
            claims.append(Claim(pool=f"attachments/{instance.metadata.project}", key=nic.port, field=field))
    return claims


def _amounts(instance: Instance, referenced: Referenced) -> Mapping[str, int] | None:
    """Return what its flavor takes; None while that is missing."""
    flavor = referenced.get(Ref(Flavor.KIND, None, instance.spec.flavor))
    if not isinstance(flavor, Flavor):
        return None
    size = flavor.spec
    return {"vcpus": size.vcpus, "memoryMiB": size.memory_mib, "rootDiskGiB": size.root_disk_gib}


def _makes(instance: Instance) -> Mapping[str, int]:
    """Return the ports that are made for its interfaces."""
    return {"ports": sum(1 for nic in instance.spec.network_interfaces if nic.port is None)}


register(
    KindDefinition(
        model=Instance,
        plural="instances",
        uid_prefix="i",
        scope=Scope.PROJECT,
        short_names=("vm", "vms"),
        columns=(
            Column("POWER", "status.powerState", format="power"),
            Column("HOST", "status.host"),
            Column("ADDRESSES", "status.addresses[*].address"),
            Column("FLAVOR", "spec.flavor"),
            Column("IMAGE", "spec.image", wide=True),
            Column("STARTED", "status.startedAt", wide=True, format="age"),
        ),
        view=(
            ViewColumn("flavor", "spec.flavor"),
            ViewColumn("image", "spec.image"),
            ViewColumn("host", "status.host"),
            ViewColumn("power_state", "status.powerState"),
            ViewColumn("addresses", "status.addresses", "jsonb"),
            ViewColumn("started_at", "status.startedAt", "timestamptz"),
        ),
        ready_when=(SCHEDULED, IMAGE_READY, NETWORK_READY, DISKS_READY, RUNNING),
        finalizers=(FINALIZER, DOMAIN_FINALIZER),
        node_finalizer=DOMAIN_FINALIZER,
        node_path="status.host",
        claims=_claims,
        amounts=_amounts,
        amount_names=("vcpus", "memoryMiB", "rootDiskGiB"),
        amounts_path="spec.flavor",
        makes=_makes,
        check=_check,
        neighbours=_neighbours,
        apply_order=40,
        category="compute",
        example={
            "metadata": {"project": "demo", "name": "web-1"},
            "spec": {
                "flavor": "tiny",
                "image": "tiny",
                "networkInterfaces": [{"name": "eth0", "network": "web", "securityGroups": ["ssh"]}],
                "sshKeys": ["me"],
            },
            "status": {
                "host": "h1",
                "powerState": "Running",
                "addresses": [{"interface": "eth0", "address": "10.10.0.2", "mac": "02:00:00:00:00:01"}],
                "startedAt": "2026-11-23T09:00:00Z",
            },
        },
    )
)
