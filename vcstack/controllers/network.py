"""Network → OVN logical switch."""

from vcstack.controllers.backends.network import LogicalSwitch, NetworkBackend, Owner
from vcstack.controllers.backends.network_sources import OwnedRows, build_backend
from vcstack.controllers.backends.repairs import Repairs
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import BackendConflict
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, hold_shown, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.network import DEFAULT_MTU_BYTES, FINALIZER, REALIZED, Network
from vcstack.specs.resource import Ref


def build_switch(network: Network) -> LogicalSwitch:
    """Return what is wanted in OVN."""
    return LogicalSwitch(Owner.of(network), network.spec.mtu_bytes or DEFAULT_MTU_BYTES)


class NetworkReconciler:
    """Keeps one logical switch a network; deletes it when no subnet and no port is left."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend) -> None:
        self._context = context
        self._backend = backend
        self._repairs = Repairs(context.events)

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
        client, clock, wanted = self._context.client, self._context.clock, build_switch(network)
        async with hold_shown(client, network, REALIZED, clock=clock):
            ensured = await self._backend.ensure_switch(wanted)
            if ensured.observed != wanted:
                raise BackendConflict("the logical switch in OVN was changed meanwhile; it is looked at again")
        self._repairs.note(network, wanted, ensured.changed)
        done = condition_of(network, REALIZED, True, "SwitchFound", clock=clock)
        await write_status(client, network, fields={"mtuBytes": ensured.observed.mtu_bytes}, conditions=[done])


def build(context: ControllerContext) -> Controller:
    """Return the controller of networks."""
    backend = build_backend(context, "network")
    rows = OwnedRows(context, backend, Network, backend.delete_switch)
    reconciler = NetworkReconciler(context, backend)
    return context.controller(reconciler, Network, watches=watch_users(context, Network), sources=rows.sources)
