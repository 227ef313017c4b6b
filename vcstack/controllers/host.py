"""Hosts: whether they are alive, what they offer and what is claimed of it.

Liveness comes from the leases that the hosts' agents hold. A lost lease makes the host Unknown, never
dead: its guests may well run on.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from vcstack.controllers.capacity import OVERCOMMIT_SETTINGS, add, build_allocatable, build_overcommit, read_standard
from vcstack.controllers.scheduler import SETTINGS
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import name_some, refuse_deletion
from vcstack.specs.kinds.host import AGENT_READY, ALIVE, FINALIZER, OUT_OF_SERVICE, Capacity, Host
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import Ref

COUNT_SECONDS = 1.0
"""What is claimed is written at most this often a host, so that many bindings are one write."""

_BY_HOST = "host"
_STATED = (
    "spec.outOfService states that the machine is off or lost: it is neither listened to nor waited for. What is bound "
    "to it and deleted goes without its word; the rest stays bound. If the machine comes back, set it to false."
)
_STATE_IT = "If the machine is off or lost for good, state it: spec.outOfService."


class Heartbeats(Protocol):
    """Where the leases of the hosts' agents are seen."""

    def live_hosts(self) -> AsyncIterator[frozenset[str]]:
        """Yield the names of all hosts whose lease is held: at once, and anew at each change."""


HEARTBEATS: BackendKey[Heartbeats] = BackendKey("heartbeats")


class HostReconciler:
    """Writes Alive, allocatable, overcommit, allocated and instanceCount; lets a host go when it has no instances."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._heartbeats = context.backend(HEARTBEATS)
        self._settings = context.backend(SETTINGS)
        self._instances = context.informer(Instance)
        self._instances.add_index(_BY_HOST, lambda i: (i.status.host or "",))
        self._live: frozenset[str] | None = None
        self._counted_at: dict[str, float] = {}

    async def reconcile(self, host: Host | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if host is None:
            self._counted_at.pop(ref.name, None)
            return None
        result = await self._observe(host)
        if host.deleting:
            await self._finalize(host)
        return result

    async def follow_heartbeats(self) -> AsyncIterator[Ref]:
        """Yield the hosts whose liveness changed."""
        async for live in self._heartbeats.live_hosts():
            before, self._live = self._live, live
            hosts = {h.metadata.name for h in self._context.informer(Host).list()} if before is None else before ^ live
            for name in sorted(hosts):
                yield Ref(Host.KIND, None, name)

    async def _observe(self, host: Host) -> Result | None:
        standard = read_standard(self._settings)
        fields = {"allocatable": build_allocatable(host, standard), "overcommit": build_overcommit(host, standard)}
        counted, wait = self._count(host)
        conditions = [*self._build_alive(host), *self._build_agent_ready(host)]
        for condition in conditions:
            self._tell(host, condition)
        # Of what the agent tells exactly: it may have told it meanwhile.
        exact = any(condition.type == AGENT_READY for condition in conditions)
        observed = {**fields, **counted}
        await write_status(self._context.client, host, fields=observed, conditions=conditions, exact_version=exact)
        return Result(requeue_after=wait) if wait else None

    def _count(self, host: Host) -> tuple[dict[str, Capacity | int], float | None]:
        """Return what is claimed if it may be written now, else the seconds until then."""
        instances = self._instances.by_index(_BY_HOST, host.metadata.name)
        allocated = Capacity()
        for instance in instances:
            allocated = add(allocated, instance.status.allocated or Capacity())
        if (allocated, len(instances)) == (host.status.allocated, host.status.instance_count):
            return {}, None
        now, name = self._context.clock.monotonic(), host.metadata.name
        wait = self._counted_at.get(name, now - COUNT_SECONDS) + COUNT_SECONDS - now
        if wait > 0:
            return {}, wait
        self._counted_at[name] = now
        return {"allocated": allocated, "instanceCount": len(instances)}, None

    def _build_alive(self, host: Host) -> list[Condition]:
        """Return Alive, or nothing before the leases were seen for the first time."""
        if host.spec.out_of_service:
            return [self._build_unknown(host, ALIVE, OUT_OF_SERVICE, _STATED)]
        if self._live is None:
            return []
        if host.metadata.name in self._live:
            return [condition_of(host, ALIVE, True, "LeaseHeld", clock=self._context.clock)]
        message = (
            "The agent's lease ran out: the host is down or cut off. Its guests may run on; nothing is started "
            f"elsewhere without proof. Look after vc-compute and the network of the host. {_STATE_IT}"
        )
        return [self._build_unknown(host, ALIVE, "LeaseLost", message)]

    def _build_agent_ready(self, host: Host) -> list[Condition]:
        """Return AgentReady while the agent may not tell it, and until it does again."""
        if host.spec.out_of_service:
            return [self._build_unknown(host, AGENT_READY, OUT_OF_SERVICE, _STATED)]
        if not _is_unobserved(host, AGENT_READY):
            return []
        message = "The agent has not reported since the host is in service again. Look after vc-compute on the host."
        return [self._build_unknown(host, AGENT_READY, "NotReported", message)]

    def _build_unknown(self, host: Host, type_: str, reason: str, message: str) -> Condition:
        return condition_of(host, type_, ConditionStatus.UNKNOWN, reason, message, clock=self._context.clock)

    def _tell(self, host: Host, condition: Condition) -> None:
        before = host.find_condition(condition.type)
        if condition.type != ALIVE or before is None or _kind_of(before) == _kind_of(condition):
            return
        if condition.reason == OUT_OF_SERVICE:
            self._context.events.warning(host, OUT_OF_SERVICE, "The machine is stated to be off or lost.")
        elif condition.status is ConditionStatus.TRUE:
            self._context.events.normal(host, "HostAlive", "The agent holds its lease.")
        else:
            self._context.events.warning(host, "HostLost", "The agent's lease ran out.")

    async def _finalize(self, host: Host) -> None:
        name = host.metadata.name
        bound = [i.ref for i in self._instances.by_index(_BY_HOST, name)]
        if not bound:
            bound = [i.ref for i in (await self._context.client.list(Instance, fields=f"status.host={name}")).items]
        if bound:
            message = f"{name_some(sorted(bound))} still bound to it; delete them first."
            if not host.spec.out_of_service and not host.is_true(ALIVE):
                message += f" That waits for its agent, which is not seen. {_STATE_IT}"
            await refuse_deletion(self._context, host, "InstancesBound", message)
        await self._context.client.remove_finalizer(host, FINALIZER)


def _kind_of(condition: Condition) -> tuple[ConditionStatus, bool]:
    """Return what makes it news: to be lost and to be stated to be lost are both Unknown."""
    return condition.status, condition.reason == OUT_OF_SERVICE


def _is_told_too_late(host: Host) -> bool:
    """Return whether something stands there that the agent had on its way when the host went out of service."""
    return host.spec.out_of_service and not _is_unobserved(host, AGENT_READY)


def _is_unobserved(host: Host, type_: str) -> bool:
    condition = host.find_condition(type_)
    return condition is not None and condition.reason == OUT_OF_SERVICE


def build(context: ControllerContext) -> Controller:
    """Return the controller of hosts."""
    reconciler = HostReconciler(context)

    def bound_to(instance: Instance) -> Iterator[Ref]:
        if instance.status.host:
            yield Ref(Host.KIND, None, instance.status.host)

    def all_hosts(setting: Setting) -> Iterator[Ref]:
        if setting.spec.setting in OVERCOMMIT_SETTINGS:
            yield from (host.ref for host in context.informer(Host).list())

    return context.controller(
        reconciler,
        Host,
        watches={Instance: bound_to, Setting: all_hosts},
        sources=(reconciler.follow_heartbeats,),
        matters={
            Host: lambda host: (*asked_of(host), host.status.capacity, _is_told_too_late(host)),
            Instance: lambda instance: (instance.status.host, instance.status.allocated),
        },
    )
