"""An instance's interfaces and their ports, as pure functions."""

from collections.abc import Mapping, Sequence

from vcstack.clock import Clock
from vcstack.runtime.status import condition_of
from vcstack.specs.kinds.instance import (
    NETWORK_READY,
    Instance,
    InterfaceAddress,
    NetworkInterface,
    PowerState,
    port_name_of,
)
from vcstack.specs.kinds.port import ALLOCATED, REALIZED, UP, Port, PortSpec
from vcstack.specs.meta import Condition, ConditionStatus

INSTANCE_LABEL = "vcstack.io/instance"
"""On ports made for an instance: its name."""

PASSING_REASONS = frozenset({"PortPending", f"{ALLOCATED}Pending", f"{REALIZED}Pending", "PortNotUp"})
"""Of NetworkReady: nothing is wrong, the next step has only not been seen yet."""

PORT_REFUSED = "PortRefused"
"""Of NetworkReady: a port cannot be made, for instance as its network is not shared with the project any more."""

QUOTA_EXCEEDED = "QuotaExceeded"
"""Of NetworkReady: a quota leaves no room for a port."""

Interfaces = Sequence[tuple[NetworkInterface, Port | None]]


def build_port(instance: Instance, nic: NetworkInterface) -> Port:
    """Return the port that the interface asks for."""
    given = {"subnet": nic.subnet, "address": nic.address, "security_groups": nic.security_groups}
    spec = PortSpec(network=nic.network or "", **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    labels = {INSTANCE_LABEL: instance.metadata.name}
    name, project = port_name_of(instance, nic), instance.metadata.project
    port = Port.new(name, spec, project=project, labels=labels, owners=(instance,))
    for owner in port.metadata.owner_references:
        owner.block_owner_deletion = True
    return port


def build_addresses(found: Interfaces) -> list[InterfaceAddress]:
    """Return the addresses that the ports hold, in the order of the interfaces."""
    return [
        InterfaceAddress(interface=nic.name, address=held.address, mac=port.status.mac)
        for nic, port in found
        if port is not None and port.status.mac
        for held in port.status.addresses or ()
    ]


def build_network_ready(
    instance: Instance, found: Interfaces, *, clock: Clock, refused: Mapping[str, tuple[str, str]] | None = None
) -> Condition:
    """Return NetworkReady: what holds up the first interface that is not ready.

    Args:
        instance: the instance.
        found: its interfaces with their ports.
        clock: tells the time.
        refused: by interface, why its port is not made: reason and message.
    """
    for nic, port in found:
        fault = _find_fault(instance, nic, port)
        if fault is not None and refused and nic.name in refused:
            fault = ConditionStatus.FALSE, *refused[nic.name]
        if fault is not None:
            status, reason, message = fault
            message = f"{nic.name}: {message}"
            return condition_of(instance, NETWORK_READY, status, reason, message, clock=clock)
    return condition_of(instance, NETWORK_READY, True, "AllReady", clock=clock)


def _find_fault(
    instance: Instance, nic: NetworkInterface, port: Port | None
) -> tuple[ConditionStatus, str, str] | None:
    false = ConditionStatus.FALSE
    name = port_name_of(instance, nic)
    if port is None:
        if nic.port is None:
            return false, "PortPending", f"port {name} is being made"
        return false, "PortNotUsable", f"port {name} does not exist, is being deleted or is another instance's"
    for type_ in (ALLOCATED, REALIZED):
        if not port.is_true(type_):
            condition = port.find_condition(type_)
            if condition is None or condition.status is ConditionStatus.TRUE:
                return false, f"{type_}Pending", f"port {name}: {type_} has not been observed yet"
            return condition.status, condition.reason or type_, f"port {name}: {condition.message or type_}"
    up = port.find_condition(UP)
    wanted_up = instance.spec.power_state is not PowerState.STOPPED
    if wanted_up and (up is None or up.status is not ConditionStatus.TRUE):
        missing = (
            "its flows are not installed on the host yet" if instance.status.host else "there is no host for it yet"
        )
        return false, "PortNotUp", f"port {name} is not up: {missing}"
    return None
