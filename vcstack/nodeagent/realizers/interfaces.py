"""An instance's network cards on its host: a tap, a port of the integration bridge, a card in the machine.

A card follows its Port: the tap is named after the port's uid, so a card that moves to another port is
another card. Taps and bridge ports stay while a machine is stopped; only the card comes and goes with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vcstack.nodeagent.backends.hypervisor import Domain, Hypervisor, LiveInterface, Power
from vcstack.nodeagent.backends.switch import Switch, SwitchPort
from vcstack.nodeagent.backends.tap import Tap, Taps
from vcstack.nodeagent.domain_xml import InterfaceWanted, build_interface
from vcstack.nodeagent.names import tap_name
from vcstack.nodeagent.realizers.together import together
from vcstack.nodeagent.references import References
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.instance import Instance, port_fits, port_name_of
from vcstack.specs.kinds.port import Port


@dataclass(frozen=True, slots=True)
class Plug:
    """One card that an instance should have."""

    interface: str
    """The name in spec.networkInterfaces."""
    port: Port
    card: InterfaceWanted


@dataclass(frozen=True, slots=True)
class Network:
    """What an instance should have and what the host was seen to have."""

    plugs: tuple[Plug, ...]
    missing: tuple[str, ...]
    """Names of ports that do not exist or hold no address yet."""
    leaving: tuple[str, ...]
    """Names of ports of an earlier spec: what is plugged of them goes, and then they are made anew."""
    taps: Mapping[str, Tap]
    """The instance's, observed before anything was changed."""
    ports: Mapping[str, SwitchPort]

    @property
    def cards(self) -> tuple[InterfaceWanted, ...]:
        """Return the cards in the order of the spec."""
        return tuple(p.card for p in self.plugs)


class Interfaces:
    """Plugs and unplugs."""

    def __init__(
        self,
        taps: Taps,
        switch: Switch,
        hypervisor: Hypervisor,
        references: References,
        ports: Informer[Port],
        *,
        userspace_datapath: bool,
    ) -> None:
        self._taps, self._switch, self._hypervisor = taps, switch, hypervisor
        self._references, self._ports = references, ports
        self._userspace_datapath = userspace_datapath

    async def observe(self, instance: Instance) -> Network:
        """Return what should be and what is."""
        plugs, missing, leaving = [], [], []
        for interface in instance.spec.network_interfaces:
            name = port_name_of(instance, interface)
            port = self._ports.find(name, instance.metadata.project)
            if port is not None and not port_fits(port, interface):
                leaving.append(name)
                continue
            if port is None or port.deleting or not port.status.mac or port.status.addresses is None:
                missing.append(name)
                continue
            mtu = await self._references.get_mtu(port.metadata.project, port.spec.network)
            plugs.append(Plug(interface.name, port, InterfaceWanted(port.status.mac, tap_name(port), mtu)))
        taps, ports = await together(self._taps.list_taps(), self._switch.list_ports())
        return Network(
            plugs=tuple(plugs),
            missing=tuple(missing),
            leaving=tuple(leaving),
            taps={n: t for n, t in taps.items() if t.instance == instance.uid},
            ports={n: p for n, p in ports.items() if p.instance == instance.uid},
        )

    async def ensure(self, instance: Instance, network: Network) -> None:
        """Have a tap and a bridge port for each card."""
        await together(*(self._ensure_plug(instance, plug, network) for plug in network.plugs))

    async def ensure_cards(self, domain: Domain, network: Network) -> list[str]:
        """Make the running machine's cards those that it should have; return what the guest has to let go of.

        A card whose tap nobody holds is dead: QEMU keeps the file of a device that was deleted. It is
        taken out first and put in again once the guest has let go of it.
        """
        wanted = {c.mac: c for c in network.cards}
        live = {i.mac: i for i in domain.interfaces}
        released = [mac for mac, card in live.items() if not self._is_good(card, wanted.get(mac), network)]
        if domain.power is Power.RUNNING:  # a paused guest lets go of nothing
            for mac in released:
                await self._hypervisor.detach_interface(domain.name, mac)
        for mac, card in wanted.items():
            if mac not in live:
                xml = build_interface(card, userspace_datapath=self._userspace_datapath)
                await self._hypervisor.attach_interface(domain.name, xml)
        return released

    async def remove_leftovers(self, domain: Domain | None, network: Network) -> None:
        """Remove taps and bridge ports that no card needs any more."""
        needed = {c.tap for c in network.cards} | {i.tap for i in (domain.interfaces if domain else ())}
        unneeded = {t for t in {*network.taps, *network.ports} - needed if not self._may_be_missing(t, network)}
        await self._remove(unneeded & set(network.taps), unneeded & set(network.ports))

    def _is_good(self, card: LiveInterface, wanted: InterfaceWanted | None, network: Network) -> bool:
        if wanted is None:
            return self._may_be_missing(card.tap, network)
        tap = network.taps.get(card.tap)
        return wanted.tap == card.tap and tap is not None and tap.held

    def _may_be_missing(self, tap: str, network: Network) -> bool:
        """Return whether the tap may be the one of a port that is wanted but not known at the moment."""
        port = network.ports.get(tap)
        return bool(network.missing) and (port is None or port.name in network.missing)

    async def delete(self, instance_uid: str, ports: list[Port]) -> None:
        """Remove all taps and bridge ports of an instance. Absent is success."""
        observed_taps, observed_ports = await together(self._taps.list_taps(), self._switch.list_ports())
        # A tap is without its mark for a moment after it was made.
        unmarked = {tap_name(p) for p in ports} & {n for n, t in observed_taps.items() if t.instance is None}
        taps = {n for n, t in observed_taps.items() if t.instance == instance_uid} | unmarked
        await self._remove(taps, {n for n, p in observed_ports.items() if p.instance == instance_uid})

    async def list_owners(self) -> set[str]:
        """Return the uids of all instances that have taps or bridge ports here."""
        taps, ports = await together(self._taps.list_taps(), self._switch.list_ports())
        return {t.instance for t in taps.values() if t.instance} | {p.instance for p in ports.values()}

    async def _ensure_plug(self, instance: Instance, plug: Plug, network: Network) -> None:
        card = plug.card
        tap = network.taps.get(card.tap)
        present = network.ports.get(card.tap)
        if tap is None and present is not None:
            # The switch still has the deleted device open and does not take to a new one of that name.
            await self._switch.unplug(card.tap)
            present = None
        if tap is None or not tap.up or tap.mtu != card.mtu:
            await self._taps.ensure_tap(card.tap, instance.uid, card.mtu)
        port = SwitchPort(
            tap=card.tap,
            port_uid=plug.port.uid,
            mac=card.mac,
            instance=instance.uid,
            project=plug.port.metadata.project or "",
            name=plug.port.metadata.name,
        )
        if present != port:
            await self._switch.plug(port)

    async def _remove(self, taps: set[str], ports: set[str]) -> None:
        for name in sorted(ports):
            await self._switch.unplug(name)
        for name in sorted(taps):
            await self._taps.delete_tap(name)
