"""Connections to the SSH servers of this host's guests, each by its own network.

A network is entered when the first connection of one of its guests is asked for, and left with the last one.
"""

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from vcstack.nodeagent.backends.guestlink import PORT, GuestLink, GuestLinks, LinkWanted, Way
from vcstack.nodeagent.backends.hypervisor import Hypervisor, Power
from vcstack.nodeagent.backends.switch import ShellPort, Switch
from vcstack.nodeagent.locks import Locks
from vcstack.nodeagent.names import shell_device
from vcstack.nodeagent.references import References
from vcstack.runtime.errors import BackendConflict, BackendError, BackendUnavailable
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.instance import Instance, port_name_of
from vcstack.specs.kinds.network import Network, shell_mac_of, shell_port_of
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.subnet import find_shell_address

log = structlog.get_logger(__name__)

ROUNDS_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""How long each address is tried, again and again: flows may just be on their way to the bridge."""


@dataclass(frozen=True, slots=True)
class _Door:
    """An address of a guest, and the network that it is on."""

    network: Network
    mtu: int
    way: Way


@dataclass(slots=True)
class _Entered:
    """A network that was entered."""

    link: GuestLink
    users: int = 0


class Shells:
    """Finds the way to guests, and cleans up behind."""

    def __init__(
        self,
        links: GuestLinks,
        switch: Switch,
        hypervisor: Hypervisor,
        references: References,
        ports: Informer[Port],
    ) -> None:
        self._links, self._switch, self._hypervisor = links, switch, hypervisor
        self._references, self._ports = references, ports
        self._entered: dict[str, _Entered] = {}
        self._locks = Locks()

    @contextlib.asynccontextmanager
    async def connect(self, instance: Instance) -> AsyncIterator[socket.socket]:
        """Yield a connection to port 22 of the instance's first address that answers.

        Raises:
            BackendConflict: there is nothing to connect with; the message says what to do.
            BackendUnavailable: nobody answers, or the host's parts do not.
        """
        name = instance.metadata.name
        domain = await self._hypervisor.find_domain(instance.uid)
        if domain is None or domain.power is not Power.RUNNING:
            state = "is paused; let it run first" if domain and domain.power is Power.PAUSED else "does not run"
            raise BackendConflict(f"{name} {state}")
        doors = await self._find_doors(instance)
        if not doors:
            raise BackendConflict(f"{name} has no address that could be reached; see its network interfaces")
        async with contextlib.AsyncExitStack() as stack:
            links = [await stack.enter_async_context(self._open(door)) for door in doors]
            connection = await _connect_first(list(zip(links, doors, strict=True)))
            with connection:
                yield connection

    async def sweep(self) -> list[str]:
        """Take from the bridge what an agent that was killed left there; return the devices' names."""
        left = []
        for port in await self._switch.list_shells():
            async with self._locks.of(port.network):
                if port.network not in self._entered:
                    await self._switch.unplug(port.device)
                    left.append(port.device)
        return left

    async def _find_doors(self, instance: Instance) -> list[_Door]:
        """Return the addresses that can be reached, in the order of the interfaces."""
        doors, project = [], instance.metadata.project
        for card in instance.spec.network_interfaces:
            port = self._ports.find(port_name_of(instance, card), project)
            if port is None or port.deleting or not port.status.mac:
                continue
            for held in port.status.addresses or ():
                subnet = await self._references.read_subnet(project, held.subnet)
                source = find_shell_address(subnet)
                if source is not None:
                    network = await self._references.get_network(project, port.spec.network)
                    mtu = await self._references.get_mtu(project, port.spec.network)
                    doors.append(_Door(network, mtu, Way(held.address, port.status.mac, source)))
        return doors

    @contextlib.asynccontextmanager
    async def _open(self, door: _Door) -> AsyncIterator[GuestLink]:
        """Yield the way into the door's network, with the door's address on it."""
        uid = door.network.uid
        async with self._locks.of(uid):
            entered = self._entered.get(uid)
            if entered is None:
                entered = self._entered[uid] = _Entered(await self._enter(door))
            entered.users += 1
        try:
            await entered.link.add(door.way)
            try:
                yield entered.link
            finally:
                with contextlib.suppress(BackendError):
                    await entered.link.remove(door.way)
        finally:
            async with self._locks.of(uid):
                entered.users -= 1
                if not entered.users:
                    del self._entered[uid]
                    await self._leave(door, entered.link)

    async def _enter(self, door: _Door) -> GuestLink:
        uid = door.network.uid
        device, mac = shell_device(uid), shell_mac_of(uid)
        if any(p.device == device for p in await self._switch.list_shells()):
            await self._switch.unplug(device)  # it does not take to a new device of an old one's name
        link = await self._links.open(LinkWanted(device, mac, door.mtu))
        try:
            await self._switch.plug_shell(ShellPort(device, shell_port_of(uid), mac, uid))
        except BaseException:
            await link.close()
            raise
        return link

    async def _leave(self, door: _Door, link: GuestLink) -> None:
        """What cannot be taken away now, the sweep or the agent's end does."""
        try:
            await self._switch.unplug(shell_device(door.network.uid))
        except BackendError as error:
            log.warning("shell.unplug_put_off", network=door.network.uid, error=str(error))
        with contextlib.suppress(BackendError):
            await link.close()


async def _connect_first(doors: list[tuple[GuestLink, _Door]]) -> socket.socket:
    """Return a connection to the first address that answers."""
    refused: list[str] = []
    for seconds in ROUNDS_SECONDS:
        for link, door in doors:
            if door.way.address in refused:
                continue
            try:
                return await link.connect(door.way, seconds)
            except ConnectionRefusedError:
                refused.append(door.way.address)
            except (TimeoutError, OSError) as error:
                log.debug("shell.no_answer", address=door.way.address, error=str(error))
        if len(refused) == len(doors):
            break
    if refused:
        raise BackendConflict(f"nothing listens on port {PORT} of {' and '.join(refused)}; does its SSH server run?")
    addresses = " nor ".join(door.way.address for _, door in doors)
    raise BackendUnavailable(f"port {PORT} of {addresses} does not answer; is the guest up, and its own firewall open?")
