"""What the realizers need of a hypervisor. ``libvirt.py`` does it for real, the tests' fake in memory."""

import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from vcstack.apiclient.instancemessages import InstanceMetrics

NAMESPACE = "https://vcstack.io/xmlns/domain/1.0"
"""The XML namespace of our metadata element."""
MARK_TAG = "instance"
"""Our metadata element."""


class Power(StrEnum):
    """What a domain is observed doing."""

    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPED = "Stopped"
    CRASHED = "Crashed"


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose a domain is and what it was built from; kept in the domain's metadata."""

    uid: str
    project: str
    name: str
    generation: int = 0
    """Of the instance, when it was built."""
    wanted: str = ""
    """Digest of the definition as we wrote it."""
    reboot_fields: Mapping[str, str] = field(default_factory=dict)
    """Digests of those spec fields that come into force at a start."""


@dataclass(frozen=True, slots=True)
class LiveInterface:
    """A network card that a running domain has."""

    mac: str
    tap: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class Domain:
    """What was observed of a domain."""

    name: str
    power: Power
    why: str
    """The hypervisor's word for how it came to that state, e.g. shutdown, crashed, user."""
    persistent: bool
    config: Mark | None
    """What the definition says it was built from; None: not ours or lost."""
    edited: bool
    """Whether the definition is no longer as we wrote it."""
    running_from: Mark | None
    """What the running machine was built from."""
    started_at: datetime | None
    """When the process of the running machine began."""
    machine: str | None
    """Identifies the running machine among all that ever ran; another one after each start."""
    interfaces: tuple[LiveInterface, ...] = ()
    """Of the running machine."""
    serial_device: str | None = None
    """The terminal of its serial line while it runs."""

    @property
    def active(self) -> bool:
        """Return whether a machine exists, running or paused."""
        return self.power in (Power.RUNNING, Power.PAUSED)


@dataclass(frozen=True, slots=True)
class Owned:
    """A domain with our mark."""

    domain: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class HypervisorFacts:
    """What a hypervisor says of its machine and itself."""

    architecture: str
    vcpus: int
    memory_mib: int
    libvirt_version: str
    qemu_version: str


class Views(Protocol):
    """Looks at machines that run.

    Methods raise BackendConflict when the machine does not run or has no screen, BackendNotFound when there is none,
    BackendUnavailable when the hypervisor does not answer.
    """

    async def open_screen(self, name: str) -> socket.socket:
        """Return a connection with the machine's RFB server, which listens nowhere."""

    async def take_screenshot(self, name: str) -> bytes:
        """Return what is on the first screen as PNG."""

    async def measure(self, name: str) -> InstanceMetrics:
        """Return what the machine has used."""


class Hypervisor(Protocol):
    """Runs domains.

    Methods raise BackendUnavailable when it does not answer, BackendNotFound when there is no such
    domain, BackendConflict when the domain is in another state than asked for, BackendRefused otherwise.
    """

    async def find_domain(self, name: str) -> Domain | None:
        """Return what the domain is like now, or None."""

    async def list_owned(self) -> list[Owned]:
        """Return the domains with our mark, whatever their state."""

    async def define(self, xml: str) -> None:
        """Make the definition so; a running machine goes on as it is."""

    async def undefine(self, name: str) -> None:
        """Remove the definition. Absent is success."""

    async def start(self, name: str, *, paused: bool = False) -> None:
        """Start the machine. Running already is success."""

    async def shut_down(self, name: str) -> None:
        """Press the power button; returns at once. Not running is success."""

    async def destroy(self, name: str) -> None:
        """Pull the plug. Not running or absent is success."""

    async def pause(self, name: str) -> None:
        """Stop the CPUs. Paused already is success."""

    async def resume(self, name: str) -> None:
        """Let the CPUs run. Running already is success."""

    async def attach_interface(self, name: str, xml: str) -> None:
        """Plug a card into the running machine. Not running is success: it starts with those of its definition."""

    async def detach_interface(self, name: str, mac: str) -> None:
        """Ask the guest to let go of a card, which is gone when it is no longer observed. Not running is success."""

    async def get_facts(self) -> HypervisorFacts:
        """Return versions and size of the machine."""

    def events(self) -> AsyncIterator[str | None]:
        """Yield the names of domains to which something happened; None: anything may have happened."""
