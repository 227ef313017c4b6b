"""Choosing what is free among many ports at once; the claims in the store have the last word.

Nothing here is a source of truth: it is rebuilt from the ports that the informer knows, plus what reconciles
under way have chosen but not yet written.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from vcstack.controllers.backends.allocation import iter_addresses
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.network import network_ref
from vcstack.specs.kinds.port import Port, PortAddress, find_address_fault, network_of
from vcstack.specs.kinds.subnet import Subnet
from vcstack.specs.macs import build_mac
from vcstack.specs.model import join_lent, split_lent
from vcstack.specs.resource import Ref

HELD = "addresses-held"
MACS = "macs-held"
MAC_ATTEMPTS = 64
"""With 32 random bits even the second is hardly ever needed."""
STARVED_SECONDS = 30.0

Key = tuple[str, ...]
"""A MAC, or project, network and address."""


@dataclass(slots=True)
class Choice:
    """What a port is to hold."""

    mac: str
    addresses: list[PortAddress]
    keys: set[Key] = field(default_factory=set)
    """What is reserved until the choice is written or given up."""
    refused: frozenset[Key] = frozenset()
    """What the store said is somebody else's."""


class AddressPool:
    """Chooses a MAC and one address of each family for ports, but for what they hold already."""

    def __init__(self, ports: Informer[Port], subnets: Informer[Subnet]) -> None:
        self._ports, self._subnets = ports, subnets
        self._reserved: set[Key] = set()
        self._lowest: dict[tuple[str, int], int] = {}
        ports.add_index(HELD, _addresses_held)
        ports.add_index(MACS, _macs_held)
        subnets.add_index("pool-network", lambda s: [network_of(s)])

    def subnets_of(self, port: Port) -> list[Subnet]:
        """Return the subnets of the port's network that are there to stay, the oldest first."""
        found = self._subnets.by_index("pool-network", network_ref_of(port))
        return sorted(
            (s for s in found if not s.deleting), key=lambda s: (str(s.metadata.creation_timestamp), s.metadata.name)
        )

    def release(self, old: Port | None, new: Port | None) -> None:
        """Take note of a port that is gone: its addresses may be the lowest free ones now (informer's handler)."""
        if old is None or new is not None:
            return
        for held in old.status.addresses or ():
            subnet = self._subnets.get(subnet_ref(old, held.subnet))
            version = (subnet.uid, subnet.metadata.generation) if subnet else ("", 0)
            if version in self._lowest:
                self._lowest[version] = min(self._lowest[version], int(ip_address(held.address)))

    def lacks_family(self, port: Port) -> bool:
        """Return whether there is a subnet for the port of a family that it holds no address of."""
        named = port.spec.subnet
        subnets = [s for s in self.subnets_of(port) if named in (None, name_in(port, s))]
        return not {ip_network(s.spec.cidr).version for s in subnets} <= _by_family(port).keys()

    @contextlib.contextmanager
    def chosen(self, port: Port, refused: frozenset[Key] = frozenset()) -> Iterator[Choice]:
        """Reserve a choice for as long as it is being written; refused: keys of earlier choices that were taken.

        Raises:
            WaitingFor: there is nothing to choose; the message says what to do.
        """
        choice = Choice("", [], refused=refused)
        try:
            self._choose_addresses(port, choice)
            choice.mac = port.status.mac or port.spec.mac or self._choose_mac(port, choice)
            yield choice
        finally:
            self._reserved -= choice.keys

    def _choose_mac(self, port: Port, choice: Choice) -> str:
        for attempt in range(MAC_ATTEMPTS):
            mac = build_mac(port.uid, attempt)
            if self._take((mac,), choice, self._ports.by_index(MACS, mac), port):
                return mac
        raise WaitingFor("NoMac", "No free MAC address was found; give one in spec.mac.")

    def _choose_addresses(self, port: Port, choice: Choice) -> None:
        subnets = self.subnets_of(port)
        if port.spec.subnet is not None:
            subnets = [s for s in subnets if name_in(port, s) == port.spec.subnet]
            if not subnets:
                raise WaitingFor("SubnetMissing", f"There is no subnet {port.spec.subnet}; create it.", STARVED_SECONDS)
        if not subnets:
            message = (
                f"Network {port.spec.network} has no subnet; create a Subnet with spec.network: {port.spec.network}."
            )
            raise WaitingFor("NoSubnet", message, STARVED_SECONDS)
        fixed = port.spec.address and self._choose_fixed(port.spec.address, subnets, port)
        held = _by_family(port)
        for version in (4, 6):
            family = [s for s in subnets if ip_network(s.spec.cidr).version == version]
            if version in held:
                choice.addresses.append(held[version])
            elif fixed and ip_address(fixed.address).version == version:
                choice.addresses.append(fixed)
            elif family and not (fixed and port.spec.subnet):
                choice.addresses.append(self._choose_free(family, port, choice))

    def _choose_fixed(self, address: str, subnets: list[Subnet], port: Port) -> PortAddress:
        """Return the address in the subnet that contains it; the port claims it since its creation."""
        version = ip_address(address).version
        around = [s for s in subnets if ip_network(s.spec.cidr).version == version]
        for subnet in around:
            if ip_address(address) in ip_network(subnet.spec.cidr):
                fault = find_address_fault(address, subnet)
                if fault:
                    raise WaitingFor("AddressUnusable", f"{fault}; recreate the port with another address.")
                return PortAddress(subnet=name_in(port, subnet), address=address)
        ranges = ", ".join(f"{s.metadata.name} ({s.spec.cidr})" for s in subnets)
        message = f"{address} lies in no subnet of network {port.spec.network}, which has {ranges}."
        raise WaitingFor("AddressOutside", f"{message} Recreate the port with an address of one of them.")

    def _choose_free(self, subnets: list[Subnet], port: Port, choice: Choice) -> PortAddress:
        for subnet in subnets:
            address = self._lowest_free(subnet, port, choice)
            if address is not None:
                return PortAddress(subnet=name_in(port, subnet), address=address)
        full = " and ".join(f"{s.metadata.name} ({s.spec.cidr})" for s in subnets)
        message = f"No free address in subnet {full}. Delete ports, widen allocationRanges or add a Subnet"
        raise WaitingFor("SubnetFull", f"{message} to network {port.spec.network}.", STARVED_SECONDS)

    def _lowest_free(self, subnet: Subnet, port: Port, choice: Choice) -> str | None:
        """Return and reserve the lowest free address.

        What lies below the lowest one seen free is not looked at again until a port there is gone.
        """
        version = (subnet.uid, subnet.metadata.generation)
        lowest = self._lowest.get(version, 0)
        for beginning in (lowest, 0) if lowest else (0,):
            for address in iter_addresses(subnet, beginning=beginning):
                key = _key_of(port, address)
                if self._take(key, choice, self._ports.by_index(HELD, key), port):
                    self._lowest[version] = int(ip_address(address))
                    return address
        return None

    def _take(self, key: Key, choice: Choice, holders: Sequence[Port], port: Port) -> bool:
        """Reserve the key if nobody but the port itself holds it."""
        if key in self._reserved or key in choice.refused or any(h.uid != port.uid for h in holders):
            return False
        self._reserved.add(key)
        choice.keys.add(key)
        return True


def _by_family(port: Port) -> dict[int, PortAddress]:
    """Return what the port holds by version of IP."""
    return {ip_address(held.address).version: held for held in port.status.addresses or ()}


def _addresses_held(port: Port) -> set[tuple[str, str, str]]:
    """Return the addresses that the port claims: those it was given and the one it asks for."""
    addresses = {a.address for a in port.status.addresses or ()} | ({port.spec.address} if port.spec.address else set())
    return {_key_of(port, address) for address in addresses}


def _macs_held(port: Port) -> set[str]:
    """Return the MAC addresses that the port claims."""
    return {mac for mac in (port.status.mac, port.spec.mac) if mac}


def _key_of(port: Port, address: str) -> tuple[str, str, str]:
    network = network_ref_of(port)
    return (network.project or "", network.name, address)


def network_ref_of(port: Port) -> Ref:
    """Return the port's network."""
    return network_ref(port.spec.network, port.metadata.project)


def subnet_ref(port: Port, name: str) -> Ref:
    """Return the subnet that the port names so."""
    return Ref("Subnet", *split_lent(name, port.metadata.project))


def name_in(port: Port, subnet: Subnet) -> str:
    """Return how the port names the subnet."""
    return join_lent(subnet.metadata.project, subnet.metadata.name, port.metadata.project)
