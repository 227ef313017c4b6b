"""What hosts offer and instances ask for, as pure arithmetic."""

from typing import NamedTuple

from vcstack.specs.kinds.flavor import FlavorSpec
from vcstack.specs.kinds.host import Capacity, Host, Overcommit
from vcstack.specs.settings import HOSTS_MEMORY_OVERCOMMIT, HOSTS_VCPU_OVERCOMMIT, SettingReader

OVERCOMMIT_SETTINGS = frozenset({HOSTS_VCPU_OVERCOMMIT, HOSTS_MEMORY_OVERCOMMIT})


class Standard(NamedTuple):
    """The overcommit of hosts whose spec does not say it, in percent."""

    vcpu_percent: int
    memory_percent: int


def read_standard(settings: SettingReader) -> Standard:
    """Return it as it is set now."""
    return Standard(settings.number(HOSTS_VCPU_OVERCOMMIT), settings.number(HOSTS_MEMORY_OVERCOMMIT))


def build_overcommit(host: Host, standard: Standard) -> Overcommit:
    """Return what counts for the host."""
    own = host.spec.overcommit
    return Overcommit(
        vcpu_percent=own.vcpu_percent or standard.vcpu_percent,
        memory_percent=own.memory_percent or standard.memory_percent,
        disk_percent=own.disk_percent,
    )


def build_allocatable(host: Host, standard: Standard) -> Capacity | None:
    """Return what instances may claim of the host in sum; None while its capacity was not observed."""
    capacity, own = host.status.capacity, host.spec.overcommit
    if capacity is None:
        return None
    memory = max(capacity.memory_mib - host.spec.reserved_memory_mib, 0)
    return Capacity(
        vcpus=capacity.vcpus * (own.vcpu_percent or standard.vcpu_percent) // 100,
        memory_mib=memory * (own.memory_percent or standard.memory_percent) // 100,
        disk_gib=capacity.disk_gib * own.disk_percent // 100,
    )


def build_request(flavor: FlavorSpec) -> Capacity:
    """Return what an instance of the flavor claims."""
    return Capacity(vcpus=flavor.vcpus, memory_mib=flavor.memory_mib, disk_gib=flavor.root_disk_gib)


def add(one: Capacity, other: Capacity, *, times: int = 1) -> Capacity:
    """Return one + times · other."""
    return Capacity(
        vcpus=one.vcpus + times * other.vcpus,
        memory_mib=one.memory_mib + times * other.memory_mib,
        disk_gib=one.disk_gib + times * other.disk_gib,
    )


def largest(one: Capacity, other: Capacity) -> Capacity:
    """Return the larger of each amount."""
    return Capacity(
        vcpus=max(one.vcpus, other.vcpus),
        memory_mib=max(one.memory_mib, other.memory_mib),
        disk_gib=max(one.disk_gib, other.disk_gib),
    )


def find_shortage(request: Capacity, used: Capacity, allocatable: Capacity) -> str | None:
    """Return what there is too little of, as a sentence's part, or None when the request fits."""
    for asked, free, unit in (
        (request.vcpus, allocatable.vcpus - used.vcpus, "vCPUs"),
        (request.memory_mib, allocatable.memory_mib - used.memory_mib, "MiB of memory"),
        (request.disk_gib, allocatable.disk_gib - used.disk_gib, "GiB of disk"),
    ):
        if asked > free:
            return f"{asked} {unit} asked, {max(free, 0)} free"
    return None
