"""Subnet → OVN DHCP options, and the count of its addresses."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from vcstack.controllers.backends.address_pool import subnet_ref
from vcstack.controllers.backends.allocation import count_free
from vcstack.controllers.backends.network import DhcpOptions, NetworkBackend, Owner
from vcstack.controllers.backends.network_sources import OwnedRows, Throttle, Wake, build_backend, ignore
from vcstack.controllers.backends.repairs import Repairs
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import BackendConflict, WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, hold_shown, write_status
from vcstack.runtime.users import ensure_unused, name_some, refuse_deletion, watch_users
from vcstack.specs.kinds.network import DEFAULT_MTU_BYTES, Network
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.subnet import DHCP, FINALIZER, GATEWAY_TAKEN, REALIZED, Subnet, find_router, gateway_of
from vcstack.specs.macs import SERVER_MAC_PREFIX, build_mac
from vcstack.specs.meta import Condition
from vcstack.specs.model import join_lent
from vcstack.specs.resource import Ref

LEASE_SECONDS = 3600
"""Guests ask again after half of it and so learn changed options; OVN answers also while we are away."""
COUNT_SECONDS = 2.0
"""The number of addresses is written at most this often; ports that come and go meanwhile are gathered."""

HOLDERS = "subnets-held"


def build_dhcp_options(subnet: Subnet, mtu_bytes: int, router: str | None = None) -> DhcpOptions:
    """Return what is wanted in OVN: ovn-nb(5), DHCP Options. Without router guests are told no default route."""
    spec, gateway = subnet.spec, gateway_of(subnet.spec)
    mac = build_mac(subnet.uid, prefix=SERVER_MAC_PREFIX)
    if ip_network(spec.cidr).version == 6:
        options = {"server_id": mac}
    else:
        options = {
            "server_id": gateway,  # an address that no port ever has
            "server_mac": mac,
            "lease_time": str(LEASE_SECONDS),
            "mtu": str(mtu_bytes),
        }
        if router:
            options["router"] = router
    if spec.dns_servers:
        options["dns_server"] = "{" + ", ".join(spec.dns_servers) + "}"
    if spec.host_routes:  # RFC 3442: whoever takes this option ignores router, so it has the default route too
        routes = [f"{r.destination},{r.next_hop}" for r in spec.host_routes]
        if router and not any(r.destination == "0.0.0.0/0" for r in spec.host_routes):
            routes.append(f"0.0.0.0/0,{router}")
        options["classless_static_route"] = "{" + ", ".join(routes) + "}"
    return DhcpOptions(Owner.of(subnet), spec.cidr, options)


def subnets_held(port: Port) -> set[Ref]:
    """Return the subnets that the port holds addresses of."""
    return {subnet_ref(port, a.subnet) for a in port.status.addresses or ()}


class SubnetReconciler:
    """Keeps one row of DHCP options a subnet, or none, and counts addresses."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend) -> None:
        self._context = context
        self._backend = backend
        self._repairs = Repairs(context.events)
        self._networks = context.informer(Network)
        self._ports = context.informer(Port)
        self._ports.add_index(HOLDERS, subnets_held)
        self._counting = Throttle(context.clock, COUNT_SECONDS)

    async def reconcile(self, resource: Subnet | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is None:
            return None
        if resource.deleting:
            await self._finalize(resource)
            return None
        async with hold_shown(self._context.client, resource, REALIZED, clock=self._context.clock):
            realized = await self._ensure_options(resource)
        return await self._report(resource, realized)

    async def _finalize(self, subnet: Subnet) -> None:
        if FINALIZER not in subnet.metadata.finalizers:
            return
        await ensure_unused(self._context, subnet)
        project = subnet.metadata.project
        lent = f"spec.network={join_lent(project, subnet.spec.network, None)}"
        pages = [
            await self._context.client.list(Port, project=project),
            await self._context.client.list(Port, fields=lent),
        ]
        holders = sorted({p.ref for page in pages for p in page.items if subnet.ref in subnets_held(p)})
        if holders:
            message = f"{name_some(holders, home=project)} hold addresses of it; delete them first."
            await refuse_deletion(self._context, subnet, "InUse", message)
        async with hold_shown(self._context.client, subnet, REALIZED, clock=self._context.clock):
            await self._backend.delete_dhcp_options(subnet.uid)
        await self._context.client.remove_finalizer(subnet, FINALIZER)
        self._counting.forget(subnet.uid)
        self._repairs.forget(subnet.uid)

    async def _ensure_options(self, subnet: Subnet) -> Condition:
        clock = self._context.clock
        network = self._networks.find(subnet.spec.network, subnet.metadata.project)
        if network is None:
            message = f"There is no network {subnet.spec.network} in the project; create it."
            raise WaitingFor("NetworkMissing", message)
        if subnet.spec.dhcp is DHCP.DISABLED:
            await self._backend.delete_dhcp_options(subnet.uid)
            self._repairs.forget(subnet.uid)
            return condition_of(subnet, REALIZED, True, "DHCPDisabled", "DHCP is disabled.", clock=clock)
        mtu = network.spec.mtu_bytes or DEFAULT_MTU_BYTES
        wanted = build_dhcp_options(subnet, mtu, find_router(subnet))
        ensured = await self._backend.ensure_dhcp_options(wanted)
        if ensured.observed != wanted:
            raise BackendConflict("the DHCP options in OVN were changed meanwhile; they are looked at again")
        self._repairs.note(subnet, wanted, ensured.changed)
        return condition_of(subnet, REALIZED, True, "OptionsFound", clock=clock)

    async def _report(self, subnet: Subnet, realized: Condition) -> Result | None:
        """Write status once: the condition, the gateway and, when they are due, the counts of addresses."""
        gateway = gateway_of(subnet.spec)
        holders = self._ports.by_index(HOLDERS, subnet.ref)
        used = {
            a.address: p for p in holders for a in p.status.addresses or () if subnet_ref(p, a.subnet) == subnet.ref
        }
        if gateway in used:
            holder = name_some([used[gateway].ref], home=subnet.metadata.project)
            message = f"{holder} holds the gateway's address {gateway}; choose another gateway."
            realized = condition_of(subnet, REALIZED, False, GATEWAY_TAKEN, message, clock=self._context.clock)
        fields: dict[str, Any] = {"gateway": gateway}
        wait = self._counting.remaining(subnet.uid)
        if not wait:
            fields |= {"usedAddresses": len(used), "freeAddresses": count_free(subnet, set(used))}
            if fields["usedAddresses"] != subnet.status.used_addresses:
                self._counting.note(subnet.uid)
        await write_status(self._context.client, subnet, fields=fields, conditions=[realized])
        return Result(requeue_after=wait) if wait else None


def build(context: ControllerContext) -> Controller:
    """Return the controller of subnets."""
    backend = build_backend(context, "subnet")
    rows = OwnedRows(context, backend, Subnet, backend.delete_dhcp_options)
    subnets, ports, networks = context.informer(Subnet), context.informer(Port), context.informer(Network)
    counted, told = Wake(context.clock, COUNT_SECONDS / 2), Wake(context.clock)

    def recounted(old: Port | None, new: Port | None) -> Iterable[Ref]:
        before, after = (p.status.addresses or [] if p else [] for p in (old, new))
        return () if before == after else {*(subnets_held(old) if old else ()), *(subnets_held(new) if new else ())}

    def of_network(old: Network | None, new: Network | None) -> Iterable[Ref]:
        if new is None or (old is not None and old.spec == new.spec):
            return ()
        return [s.ref for s in subnets.by_index("network", new.ref)]

    subnets.add_index("network", lambda s: [Ref("Network", s.metadata.project, s.spec.network)])
    return context.controller(
        SubnetReconciler(context, backend),
        Subnet,
        watches={Network: ignore, Port: ignore, **watch_users(context, Subnet)},
        sources=(*rows.sources, counted.stream, told.stream),
        listeners=((ports, counted.on(recounted)), (networks, told.on(of_network))),
    )
