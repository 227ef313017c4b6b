"""Network → OVN logical switch, and with whom it is shared."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vcstack.clock import Clock
from vcstack.controllers.backends.network import LogicalSwitch, NetworkBackend, Owner
from vcstack.controllers.backends.network_sources import OwnedRows, Wake, build_backend, ignore
from vcstack.controllers.backends.repairs import Repairs
from vcstack.controllers.sharing import Lending, Lendings, borrowed_by
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import BackendConflict
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, hold_shown, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.network import DEFAULT_MTU_BYTES, FINALIZER, REALIZED, SHARED, Network, target_of
from vcstack.specs.kinds.port import Port, network_of
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.subnet import Subnet, find_shell_address
from vcstack.specs.meta import Condition
from vcstack.specs.resource import Ref

SUBNETS = "switch-subnets"


def build_switch(network: Network, subnets: Iterable[Subnet] = ()) -> LogicalSwitch:
    """Return what is wanted in OVN."""
    addresses = sorted(a for a in map(find_shell_address, subnets) if a is not None)
    return LogicalSwitch(Owner.of(network), network.spec.mtu_bytes or DEFAULT_MTU_BYTES, tuple(addresses))


class NetworkReconciler:
    """Keeps one logical switch a network; deletes it when no subnet and no port is left."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend) -> None:
        self._context = context
        self._backend = backend
        self._repairs = Repairs(context.events)
        self._lendings = Lendings(context)
        self._subnets = context.informer(Subnet)
        self._subnets.add_index(SUBNETS, lambda s: [network_of(s)])

    async def reconcile(self, resource: Network | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is None:
            return None
        if resource.deleting:
            await self._finalize(resource)
            return None
        await self._ensure_switch(resource)
        return None

    async def _finalize(self, network: Network) -> None:
        if FINALIZER not in network.metadata.finalizers:
            return
        await ensure_unused(self._context, network)
        async with hold_shown(self._context.client, network, REALIZED, clock=self._context.clock):
            await self._backend.delete_switch(network.uid)
        await self._context.client.remove_finalizer(network, FINALIZER)
        self._repairs.forget(network.uid)

    async def _ensure_switch(self, network: Network) -> None:
        client, clock = self._context.client, self._context.clock
        wanted = build_switch(network, self._subnets.by_index(SUBNETS, network.ref))
        async with hold_shown(client, network, REALIZED, clock=clock):
            ensured = await self._backend.ensure_switch(wanted)
            if ensured.observed != wanted:
                raise BackendConflict("the logical switch in OVN was changed meanwhile; it is looked at again")
        self._repairs.note(network, wanted, ensured.changed)
        lending = self._lendings.find(network)
        conditions = [condition_of(network, REALIZED, True, "SwitchFound", clock=clock)]
        if lending.shared or lending.gone or network.find_condition(SHARED) is not None:
            conditions.append(build_shared(network, lending, clock=clock))
        fields = {"mtuBytes": ensured.observed.mtu_bytes, "sharedWith": lending.shared or None}
        await write_status(client, network, fields=fields, conditions=conditions)


def build_shared(network: Network, lending: Lending, *, clock: Clock) -> Condition:
    """Return Shared: whether what spec says of sharing is so, and what people have to see to."""
    faults = [
        f"{kind} {name} is gone, and whoever takes that name gets nothing: take it out of sharedWith (to share with "
        "a new one of that name, put it in again afterwards)"
        for kind, name in lending.gone
    ]
    reason = "TargetGone" if faults else "StillInUse"
    faults += [
        f"not shared with {kind} {name} any more, but {count} port{'s' if count > 1 else ''} of it "
        f"{'are' if count > 1 else 'is'} on the network until deleted there"
        for (kind, name), count in lending.leaving
    ]
    if faults:
        return condition_of(network, SHARED, False, reason, f"{'; '.join(faults)}.", clock=clock)
    reason = "Shared" if lending.shared else "NotShared"
    return condition_of(network, SHARED, True, reason, clock=clock)


def build(context: ControllerContext) -> Controller:
    """Return the controller of networks."""
    backend = build_backend(context, "network")
    rows = OwnedRows(context, backend, Network, backend.delete_switch)
    reconciler = NetworkReconciler(context, backend)
    networks, woken = context.informer(Network), Wake(context.clock)
    networks.add_index("shared-with", lambda n: [target_of(s) for s in n.spec.shared_with])

    def of_port(old: Port | None, new: Port | None) -> Iterator[Ref]:
        """A port came or went."""
        if old is None or new is None:
            yield from borrowed_by(new or old)  # type: ignore[arg-type]  # one of them is there

    def of_subnet(old: Subnet | None, new: Subnet | None) -> Iterator[Ref]:
        """A gateway's address came or went."""
        before, after = (s and find_shell_address(s) for s in (old, new))
        if before != after:
            yield network_of(new or old)  # type: ignore[arg-type]  # one of them is there

    def of_target(kind: str) -> Callable[[Any, Any], Iterator[Ref]]:
        def changed(old: Any, new: Any) -> Iterator[Ref]:
            if old is None or new is None or old.uid != new.uid:
                yield from (n.ref for n in networks.by_index("shared-with", (kind, (new or old).metadata.name)))

        return changed

    return context.controller(
        reconciler,
        Network,
        watches={Port: ignore, Subnet: ignore, Project: ignore, Domain: ignore, **watch_users(context, Network)},
        sources=(*rows.sources, woken.stream),
        listeners=(
            (context.informer(Port), woken.on(of_port)),
            (context.informer(Subnet), woken.on(of_subnet)),
            (context.informer(Project), woken.on(of_target("project"))),
            (context.informer(Domain), woken.on(of_target("domain"))),
        ),
    )
