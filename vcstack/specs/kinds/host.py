"""Host: a machine that runs instances."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from vcstack.specs.meta import Time
from vcstack.specs.model import Model, Name, Observed
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/host"

ALIVE = "Alive"
"""True while the host's lease is held; Unknown when it ran out. Written by the host controller."""
AGENT_READY = "AgentReady"
"""True when the agent reached libvirt and OVS. Written by the agent."""
CERTIFICATE_EXPIRING = "CertificateExpiring"
"""True when the host's certificate ends soon and has not been renewed. Written by the agent."""
OUT_OF_SERVICE = "OutOfService"
"""Why a condition of a host, or of what is bound to it, is Unknown: spec.outOfService."""


class Scheduling(StrEnum):
    """Whether new instances may come."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Overcommit(Model):
    """How much more than the physical capacity may be claimed, in percent of it."""

    vcpu_percent: Annotated[int | None, Field(ge=10, le=10_000)] = None
    """400: four virtual CPUs a physical one. Default: what the setting hosts.vcpuOvercommitPercent says."""
    memory_percent: Annotated[int | None, Field(ge=10, le=1_000)] = None
    """100: no overcommit. Default: what the setting hosts.memoryOvercommitPercent says."""
    disk_percent: Annotated[int, Field(ge=10, le=10_000)] = 100
    """100: no overcommit."""


class HostSpec(Spec):
    """What an operator wants of the host."""

    scheduling: Scheduling = Scheduling.ENABLED
    """Disabled: cordoned, nothing new is placed here."""
    zone: Name | None = None
    """The failure domain; instances ask for it in placement.zone."""
    overcommit: Overcommit = Field(default_factory=Overcommit)
    """How much more than the physical capacity may be claimed."""
    reserved_memory_mib: Annotated[int, Field(ge=0, alias="reservedMemoryMiB")] = 512
    """Memory kept for the host itself, in MiB."""
    out_of_service: bool = False
    """States that the machine is off or lost for good. Its certificate is refused from then on, nothing new is placed
    here, and instances that are deleted go without the word of its agent. Never state it of a machine that runs: its
    guests run on unseen, even those of deleted instances, until it is false again and the agent removes them. That of
    a stolen machine stays true until the host is deleted."""


class Capacity(Model):
    """An amount of each resource that instances claim."""

    vcpus: int = 0
    """CPUs."""
    memory_mib: Annotated[int, Field(alias="memoryMiB")] = 0
    """Memory in MiB."""
    disk_gib: Annotated[int, Field(alias="diskGiB")] = 0
    """Disk in GiB."""


CACHED_IMAGES_LIMIT = 1024
"""How many images a host tells of; that one has an image counts when a host is chosen, and for nothing else."""
PHYSICAL_LIMIT = 2**31 - 1
"""Of each amount of a physical capacity: so large that no host has it, and what is worked out of it fits 64 bits."""


def check_physical(capacity: Capacity) -> Capacity:
    """Return the capacity if a host can have it, else raise ValueError."""
    for name, amount in capacity.to_wire().items():
        if not 0 <= amount <= PHYSICAL_LIMIT:
            raise ValueError(f"{name} must be 0 to {PHYSICAL_LIMIT}, not {amount}")
    return capacity


class HostStatus(Status):
    """What the host's agent observed of it."""

    capacity: Annotated[Capacity, AfterValidator(check_physical)] | None = None
    """Physical capacity."""
    allocatable: Capacity | None = None
    """What instances may claim in sum: capacity less the reserve, times overcommit. By the host controller."""
    overcommit: Overcommit | None = None
    """What allocatable was worked out with: what the host's spec says, else the settings. By the host controller."""
    allocated: Capacity | None = None
    """What instances claim now. By the host controller."""
    instance_count: int | None = None
    """How many instances are bound here. By the host controller."""
    architecture: Observed | None = None
    """x86_64, aarch64."""
    virt_type: Observed | None = None
    """kvm or qemu (TCG), found out by really starting a guest CPU."""
    datapath: Observed | None = None
    """system (kernel) or netdev (userspace) Open vSwitch datapath."""
    address: Observed | None = None
    """The tunnel endpoint."""
    agent_version: Observed | None = None
    """Version of vc-compute."""
    libvirt_version: Observed | None = None
    """Version of libvirt."""
    qemu_version: Observed | None = None
    """Version of QEMU."""
    certificate_expires_at: Time | None = None
    """When the host's certificate runs out."""
    certificate_authority: Observed | None = None
    """The fingerprint of the authority that signed it."""
    trusted_authorities: Annotated[list[Observed], Field(max_length=64)] | None = None
    """The fingerprints of the authorities that the host trusts."""
    cached_images: Annotated[list[Observed], Field(max_length=CACHED_IMAGES_LIMIT)] | None = None
    """Digests of the images in the host's cache, of more than 1024 the first ones."""
    joined_at: Time | None = None
    """When the agent registered."""


def _warn(new: "Host", old: "Host | None") -> Sequence[str]:
    """Warn of what follows when it is stated of a machine that runs, and whose certificate is good again after that."""
    name, was = new.metadata.name, old is not None and old.spec.out_of_service
    if new.spec.out_of_service and not was:
        return (
            f"spec.outOfService: state it only when the machine of host {name} is off or lost for good. If it runs, "
            "its guests run on unseen, even those whose instances are deleted now and made again elsewhere.",
        )
    if was and not new.spec.out_of_service:
        return (
            f"spec.outOfService: whoever has the machine of host {name} may talk with its certificate again; if it was "
            "stolen, delete the host instead.",
        )
    return ()


def capacity_pool(host: str) -> str:
    """Return the pool of what instances claim of the host."""
    return f"capacity/{host}"


class Host(Resource[HostSpec, HostStatus]):
    """A machine that runs instances."""

    KIND = "Host"
    spec: HostSpec = Field(default_factory=HostSpec)
    status: HostStatus = Field(default_factory=HostStatus)


register(
    KindDefinition(
        model=Host,
        plural="hosts",
        uid_prefix="h",
        scope=Scope.GLOBAL,
        columns=(
            Column("ALIVE", "status.conditions[Alive].status"),
            Column("SCHEDULING", "spec.scheduling", default=Scheduling.ENABLED.value),
            Column("INSTANCES", "status.instanceCount"),
            Column("VCPUS", "status.allocated.vcpus"),
            Column("OF", "status.allocatable.vcpus"),
            Column("MEMORY_MIB", "status.allocated.memoryMiB"),
            Column("OF_MIB", "status.allocatable.memoryMiB"),
            Column("ZONE", "spec.zone"),
            Column("ADDRESS", "status.address", wide=True),
            Column("VIRT", "status.virtType", wide=True),
            Column("DATAPATH", "status.datapath", wide=True),
            Column("AGENT", "status.agentVersion", wide=True),
        ),
        view=(
            ViewColumn("scheduling", "spec.scheduling"),
            ViewColumn("zone", "spec.zone"),
            ViewColumn("vcpus", "status.capacity.vcpus", "bigint"),
            ViewColumn("memory_mib", "status.capacity.memoryMiB", "bigint"),
            ViewColumn("allocated_vcpus", "status.allocated.vcpus", "bigint"),
            ViewColumn("allocated_memory_mib", "status.allocated.memoryMiB", "bigint"),
        ),
        ready_when=(AGENT_READY, ALIVE),
        finalizers=(FINALIZER,),
        claimed_by=capacity_pool,
        warns=_warn,
        node_path="metadata.name",
        apply_order=10,
        category="compute",
        example={
            "metadata": {"name": "h9"},
            "spec": {},
            "status": {
                "architecture": "x86_64",
                "virtType": "kvm",
                "address": "10.98.0.11",
                "instanceCount": 3,
                "joinedAt": "2026-11-23T09:00:00Z",
            },
        },
    )
)
