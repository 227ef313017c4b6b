"""What the realizers need of Open vSwitch. ``ovs.py`` does it for real, the tests' fake in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

BRIDGE = "br-int"
"""OVN's integration bridge."""
USERSPACE = "netdev"
"""The datapath type of an Open vSwitch without a kernel module."""


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """A port of the integration bridge that ties a tap to a logical switch port."""

    tap: str
    port_uid: str
    """OVN's iface-id: the name of the logical switch port."""
    mac: str
    instance: str
    """The uid of the instance that it is for."""
    project: str
    name: str
    """Of the Port, for people."""


@dataclass(frozen=True, slots=True)
class ShellPort:
    """A port of the integration bridge by which shells reach the guests of a network."""

    device: str
    port: str
    """OVN's iface-id: the name of the network's localport."""
    mac: str
    network: str
    """The network's uid."""


@dataclass(frozen=True, slots=True)
class ChassisSettings:
    """How ovn-controller finds the southbound database; it reads this from Open vSwitch's own."""

    system_id: str
    remote: str
    """e.g. ssl:10.98.0.1:6642"""
    encap_ip: str = ""
    private_key: str = ""
    certificate: str = ""
    ca_certificate: str = ""


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """What Open vSwitch says of itself."""

    version: str
    datapath: str
    """system (kernel) or netdev (userspace)."""
    encap_ip: str | None


class Switch(Protocol):
    """The integration bridge of this host. Methods raise BackendUnavailable when ovsdb does not answer."""

    async def list_ports(self) -> dict[str, SwitchPort]:
        """Return the ports with our mark, by tap."""

    async def plug(self, port: SwitchPort) -> None:
        """Make the port so."""

    async def unplug(self, tap: str) -> None:
        """Remove the port. Absent is success."""

    async def list_shells(self) -> list[ShellPort]:
        """Return the ports for shells."""

    async def plug_shell(self, port: ShellPort) -> None:
        """Make the port so; ``unplug`` removes it."""

    async def get_facts(self) -> SwitchFacts:
        """Return version, datapath and tunnel address."""

    async def configure_chassis(self, settings: ChassisSettings) -> None:
        """Tell ovn-controller where to connect; what is so already is not written."""

    def events(self) -> AsyncIterator[str | None]:
        """Yield the uids of instances whose ports changed; None: anything may have happened."""
