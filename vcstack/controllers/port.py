"""Port → addresses that it claims, and an OVN logical switch port."""

import contextlib
from collections.abc import Iterable
from ipaddress import ip_address

from vcstack.controllers.backends.address_pool import AddressPool, Key, network_ref_of, subnet_ref
from vcstack.controllers.backends.network import LogicalSwitchPort, NetworkBackend, ObservedPort, Owner
from vcstack.controllers.backends.network_sources import OwnedRows, Wake, build_backend, ignore
from vcstack.controllers.backends.repairs import Repairs
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.errors import BackendConflict, BackendNotFound, WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, hold_shown, write_status
from vcstack.runtime.users import ensure_unused, find_users, watch_users
from vcstack.specs.errors import ClaimTaken
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import REALIZED as NETWORK_REALIZED
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import ALLOCATED, FINALIZER, REALIZED, UP, Port, security_groups_of
from vcstack.specs.kinds.securitygroup import REALIZED as GROUP_REALIZED
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.kinds.subnet import DHCP, Subnet
from vcstack.specs.meta import Condition
from vcstack.specs.resource import Ref

CLAIM_ATTEMPTS = 16
"""How often another address is tried in one reconcile when the store says that one is taken."""
OVN_SECONDS = 2.0
"""How soon a port looks again for rows in OVN that other controllers are to write."""


class PortReconciler:
    """Gives a port its addresses, one of each family and once, and keeps its logical switch port."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend, pool: AddressPool) -> None:
        self._context, self._backend, self._pool = context, backend, pool
        self._repairs = Repairs(context.events)
        self._networks = context.informer(Network)
        self._subnets = context.informer(Subnet)
        self._groups = context.informer(SecurityGroup)

    async def reconcile(self, resource: Port | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is None:
            return None
        if resource.deleting:
            await self._finalize(resource)
            return None
        port = await self._ensure_addresses(resource)
        await self._ensure_port(port)
        return None

    async def _finalize(self, port: Port) -> None:
        if FINALIZER not in port.metadata.finalizers:
            return
        if not _made_for_instance(port) or find_users(self._context.informers, port.ref):
            await ensure_unused(self._context, port)
        async with hold_shown(self._context.client, port, REALIZED, clock=self._context.clock):
            await self._backend.delete_port(port.uid)
        await self._context.client.remove_finalizer(port, FINALIZER)
        self._repairs.forget(port.uid)

    async def _ensure_addresses(self, port: Port) -> Port:
        """Choose and claim MAC and addresses, unless the port has them; return it as stored.

        A port that has one family and cannot get the other, of a subnet that came later, works as before.
        """
        client, clock = self._context.client, self._context.clock
        allocated = condition_of(port, ALLOCATED, True, "AddressesHeld", clock=clock)
        if port.status.mac and port.status.addresses:
            if self._pool.lacks_family(port):
                with contextlib.suppress(WaitingFor):
                    return await self._claim(port, allocated)
            return port if port.is_true(ALLOCATED) else await write_status(client, port, conditions=[allocated])
        async with hold_shown(client, port, ALLOCATED, clock=clock):
            if self._networks.get(network_ref_of(port)) is None:
                raise WaitingFor("NetworkMissing", f"There is no network {port.spec.network}; create it.")
            return await self._claim(port, allocated)

    async def _claim(self, port: Port, allocated: Condition) -> Port:
        """Write a choice; the store claims it in the same transaction, or another is tried."""
        refused: frozenset[Key] = frozenset()
        for _ in range(CLAIM_ATTEMPTS):
            with self._pool.chosen(port, refused) as choice:
                fields = {"mac": choice.mac, "addresses": choice.addresses}
                try:
                    return await write_status(self._context.client, port, fields=fields, conditions=[allocated])
                except ClaimTaken:
                    refused |= choice.keys
        raise WaitingFor("AddressesTaken", "All addresses tried were just taken by others; trying again.", OVN_SECONDS)

    async def _ensure_port(self, port: Port) -> None:
        client, clock = self._context.client, self._context.clock
        async with hold_shown(client, port, REALIZED, clock=clock):
            wanted = self._build_port(port)
            try:
                ensured = await self._backend.ensure_port(wanted)
            except BackendNotFound as error:
                raise WaitingFor("NotInOVNYet", f"Waiting in OVN: {error.message}.", OVN_SECONDS) from error
            if ensured.observed.port != wanted:
                raise BackendConflict("the logical switch port in OVN was changed meanwhile; it is looked at again")
        self._repairs.note(port, wanted, ensured.changed)
        realized = condition_of(port, REALIZED, True, "PortFound", clock=clock)
        await write_status(client, port, conditions=[realized, self._build_up(port, ensured.observed)])

    def _build_port(self, port: Port) -> LogicalSwitchPort:
        """Return what is wanted in OVN.

        Raises:
            WaitingFor: the network or a group is missing.
        """
        network = self._networks.get(network_ref_of(port))
        if network is None:
            raise WaitingFor("NetworkMissing", f"There is no network {port.spec.network}; create it.")
        groups = {name: self._groups.find(name, port.metadata.project) for name in security_groups_of(port.spec)}
        missing = sorted(name for name, group in groups.items() if group is None)
        if missing:
            raise WaitingFor("SecurityGroupMissing", f"There is no security group {', '.join(missing)}; create it.")
        held = port.status.addresses or []
        return LogicalSwitchPort(
            Owner.of(port),
            network.uid,
            port.status.mac or "",
            tuple(a.address for a in held),
            self._find_dhcp(port, 4),
            self._find_dhcp(port, 6),
            frozenset(group.uid for group in groups.values() if group is not None),
        )

    def _find_dhcp(self, port: Port, version: int) -> str | None:
        """Return the uid of the subnet whose DHCP options of that family the port gets, or None."""
        for held in port.status.addresses or ():
            subnet = self._subnets.get(subnet_ref(port, held.subnet))
            if subnet is not None and subnet.spec.dhcp is DHCP.ENABLED and ip_address(held.address).version == version:
                return subnet.uid
        return None

    def _build_up(self, port: Port, observed: ObservedPort) -> Condition:
        clock = self._context.clock
        if observed.up:
            return condition_of(port, UP, True, "FlowsInstalled", clock=clock)
        message = "No host has reported the port's flows: no instance is attached to it, or its host is not ready."
        return condition_of(port, UP, False, "FlowsMissing", message, clock=clock)


def _made_for_instance(port: Port) -> bool:
    """Return whether the port was made for an instance's interface, which then needs no name to refer to it."""
    return any(o.controller and o.kind == "Instance" for o in port.metadata.owner_references)


def _watch_dependencies(context: ControllerContext, ports_waking: Wake) -> tuple[tuple[object, object], ...]:
    """Return the informers and handlers that wake ports when what they depend on appears or changes."""
    ports = context.informer(Port)
    ports.add_index("port-network", lambda p: [network_ref_of(p)])
    ports.add_index(
        "port-groups", lambda p: [Ref("SecurityGroup", p.metadata.project, g) for g in security_groups_of(p.spec)]
    )

    def of_network(old: Network | None, new: Network | None) -> Iterable[Ref]:
        return _refs(ports.by_index("port-network", new.ref)) if new and _differs(old, new, NETWORK_REALIZED) else ()

    def of_subnet(old: Subnet | None, new: Subnet | None) -> Iterable[Ref]:
        if new is None or not _differs(old, new, "Realized"):
            return ()
        return _refs(ports.by_index("port-network", Ref("Network", new.metadata.project, new.spec.network)))

    def of_group(old: SecurityGroup | None, new: SecurityGroup | None) -> Iterable[Ref]:
        return _refs(ports.by_index("port-groups", new.ref)) if new and _differs(old, new, GROUP_REALIZED) else ()

    def of_port(old: Port | None, new: Port | None) -> Iterable[Ref]:
        """A port that is gone leaves addresses to those that have none."""
        if old is None or new is not None:
            return ()
        return _refs(p for p in ports.by_index("port-network", network_ref_of(old)) if not p.status.addresses)

    return (
        (context.informer(Network), ports_waking.on(of_network)),
        (context.informer(Subnet), ports_waking.on(of_subnet)),
        (context.informer(SecurityGroup), ports_waking.on(of_group)),
        (ports, ports_waking.on(of_port)),
    )


def _differs(old: Network | Subnet | SecurityGroup | None, new: Network | Subnet | SecurityGroup, type_: str) -> bool:
    """Return whether a port has to look: the object is new, its spec changed or it came about in OVN."""
    return old is None or old.spec != new.spec or (new.is_true(type_) and not old.is_true(type_))


def _refs(ports: Iterable[Port]) -> list[Ref]:
    return [p.ref for p in ports]


def _read_of_port(port: Port) -> tuple[object, ...]:
    return (*asked_of(port), port.status.mac, port.status.addresses, port.is_true(ALLOCATED))


def build(context: ControllerContext) -> Controller:
    """Return the controller of ports."""
    backend = build_backend(context, "port")
    rows = OwnedRows(context, backend, Port, backend.delete_port)
    ports = context.informer(Port)
    pool, woken = AddressPool(ports, context.informer(Subnet)), Wake(context.clock)
    return context.controller(
        PortReconciler(context, backend, pool),
        Port,
        watches={Network: ignore, Subnet: ignore, SecurityGroup: ignore, **watch_users(context, Port)},
        sources=(*rows.sources, woken.stream),
        listeners=(*_watch_dependencies(context, woken), (ports, pool.release)),
        # What it has written itself wakes it not: what OVN says of the port comes from OVN.
        matters={Port: _read_of_port, Instance: asked_of},
    )
