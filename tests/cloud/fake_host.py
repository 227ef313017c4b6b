"""A host's outside world in memory: hypervisor, taps, integration bridge and disks. It outlives every agent."""

import copy
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.hypervisor import MemoryDisks, MemoryHypervisor, MemorySwitch, MemoryTaps
from vcstack.clock import Clock
from vcstack.nodeagent.backends.hypervisor import HypervisorFacts, LiveInterface, Power
from vcstack.nodeagent.backends.switch import SwitchPort
from vcstack.nodeagent.backends.tap import Tap
from vcstack.nodeagent.domain_read import read_interfaces

VCPUS, MEMORY_MIB = 16, 65536


@dataclass(frozen=True)
class HostState:
    """What is on a host, as plain data."""

    machines: dict[str, Any] = field(default_factory=dict)
    taps: dict[str, Tap] = field(default_factory=dict)
    ports: dict[str, SwitchPort] = field(default_factory=dict)


class FakeHost:
    """One host."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.taps, self.switch, self.disks = MemoryTaps(), MemorySwitch(), MemoryDisks()
        self.hypervisor = _Hypervisor(self.taps, clock)

    @property
    def definitions(self) -> set[str]:
        """Return the names of the domains that are defined or run."""
        return set(self.hypervisor.machines)

    def find_power(self, domain: str) -> Power | None:
        """Return what a machine does, None when there is none."""
        machine = self.hypervisor.machines.get(domain)
        return machine.power if machine is not None and machine.live is not None else None

    def find_cards(self, domain: str) -> tuple[LiveInterface, ...]:
        """Return the cards of a running machine."""
        machine = self.hypervisor.machines.get(domain)
        return read_interfaces(machine.live) if machine is not None and machine.live is not None else ()

    def save(self) -> HostState:
        """Return a copy of what is there."""
        return HostState(copy.deepcopy(self.hypervisor.machines), dict(self.taps.taps), dict(self.switch.ports))

    def load(self, state: HostState) -> None:
        """Make it so."""
        self.hypervisor.machines = copy.deepcopy(state.machines)
        self.hypervisor.skip_numbers(state)
        self.taps.taps, self.switch.ports = dict(state.taps), dict(state.ports)


class _Hypervisor(MemoryHypervisor):
    """The shared fake, on a machine with room."""

    async def get_facts(self) -> HypervisorFacts:
        facts = await super().get_facts()
        return HypervisorFacts(facts.architecture, VCPUS, MEMORY_MIB, facts.libvirt_version, facts.qemu_version)

    def skip_numbers(self, state: HostState) -> None:
        """Never number a machine as one that ran before."""
        while next(self._numbers) < max((m.number for m in state.machines.values()), default=0):
            pass
