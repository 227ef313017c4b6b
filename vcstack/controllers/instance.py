"""Instances, the manager's part: their ports, addresses and NetworkReady, and the order of their end.

The host's agent makes the domain. What passes between the two: the agent finds the instance's ports by
status.host, which is written here; RUNNING that is True for the present generation tells that it has
unplugged what is no longer wanted; it removes the domain finalizer when nothing is
left on the host, and only then the ports go. Of a host that is stated to be out of service no word is waited for:
what it told last counts as unknown, and the domain finalizer is removed here.
"""

from collections.abc import Iterator

from vcstack.controllers.interfaces import (
    INSTANCE_LABEL,
    PASSING_REASONS,
    PORT_REFUSED,
    QUOTA_EXCEEDED,
    build_addresses,
    build_network_ready,
    build_port,
)
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller, asked_of, states_of
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import AlreadyExists, Invalid, NotFound, QuotaExceeded
from vcstack.specs.kinds.host import OUT_OF_SERVICE, Host
from vcstack.specs.kinds.instance import (
    DOMAIN_FINALIZER,
    FINALIZER,
    NETWORK_READY,
    OBSERVED_ON_HOST,
    RUNNING,
    Instance,
    NetworkInterface,
    port_fits,
    port_name_of,
)
from vcstack.specs.kinds.port import ALLOCATED, REALIZED, UP, Port
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import Ref

PASSING_SECONDS = 5.0
"""A new instance's ports go through all their states within moments; only where one stays is written."""
REFUSED_SECONDS = 30.0
"""A port that was refused, as a quota left no room, is tried again: nothing tells when there is room."""

_OF_INSTANCE = "instance"
_NAMED_PORTS = "named-ports"
_ON_HOST = "on-host"


class InstanceReconciler:
    """Keeps an instance's ports as its interfaces ask."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._instances = context.informer(Instance)
        self._hosts = context.informer(Host)
        self._ports = context.informer(Port)
        self._ports.add_index(_OF_INSTANCE, _instance_names)
        self._passing_since: dict[Ref, float] = {}

    async def reconcile(self, instance: Instance | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if instance is None:
            self._passing_since.pop(ref, None)
            return None
        unreachable = await self._is_out_of_service(instance.status.host)
        if unreachable:
            instance = await self._mark_unknown(instance)
        if instance.deleting:
            await self._finalize(instance, unreachable=unreachable)
            return None
        found, refused = [], {}
        for nic in instance.spec.network_interfaces:
            try:
                found.append((nic, await self._ensure_port(instance, nic)))
            except QuotaExceeded as error:
                found.append((nic, None))
                refused[nic.name] = (
                    QUOTA_EXCEEDED,
                    f"{error.message}; ask for a larger quota or remove what is not needed",
                )
            except Invalid as error:
                # Nothing tells when what another project shares can be used (again).
                found.append((nic, None))
                refused[nic.name] = PORT_REFUSED, error.message
        if _agent_has_seen(instance):
            await self._release_others(instance, keep={p.metadata.name for _, p in found if p})
        condition = build_network_ready(instance, found, clock=self._context.clock, refused=refused)
        wait = self._find_wait(instance, condition)
        if wait > 0:
            return Result(requeue_after=wait)
        fields = {"addresses": build_addresses(found)}
        await write_status(self._client, instance, fields=fields, conditions=[condition])
        return Result(requeue_after=REFUSED_SECONDS) if refused else None

    async def _is_out_of_service(self, host: str | None) -> bool:
        """Return whether the host is; then read consistently, for its word is not waited for."""
        known = self._hosts.find(host) if host else None
        if known is None or not known.spec.out_of_service:
            return False
        try:
            return (await self._client.get(Host, known.metadata.name)).spec.out_of_service
        except NotFound:
            return False

    async def _mark_unknown(self, instance: Instance) -> Instance:
        """Take back what the agent told last: nobody sees any more whether it is so."""
        host, unknown, clock = instance.status.host, ConditionStatus.UNKNOWN, self._context.clock
        message = f"Host {host} was stated to be out of service, off or lost; nothing was observed there since."
        conditions = [
            condition_of(instance, type_, unknown, OUT_OF_SERVICE, message, clock=clock) for type_ in OBSERVED_ON_HOST
        ]
        # Exact: the host may be in service again, and its agent have told it.
        return await write_status(
            self._client, instance, fields={"powerState": None}, conditions=conditions, exact_version=True
        )

    def _find_wait(self, instance: Instance, condition: Condition) -> float:
        """Return the seconds until the condition may be written: what passes by itself is not shown at once."""
        before = instance.find_condition(NETWORK_READY)
        is_news = before is not None and before.reason not in PASSING_REASONS
        if is_news or condition.reason not in PASSING_REASONS:
            self._passing_since.pop(instance.ref, None)
            return 0.0
        now = self._context.clock.monotonic()
        wait = self._passing_since.setdefault(instance.ref, now) + PASSING_SECONDS - now
        if wait <= 0:
            del self._passing_since[instance.ref]
        return wait

    async def _ensure_port(self, instance: Instance, nic: NetworkInterface) -> Port | None:
        """Return the interface's port, made, up to date and attached; None while it cannot be used."""
        port = self._ports.find(port_name_of(instance, nic), instance.metadata.project)
        if nic.port is None:
            port = await self._ensure_own_port(instance, nic, port)
        if port is None or port.deleting:
            return None
        return await self._ensure_attached(instance, port)

    async def _ensure_own_port(self, instance: Instance, nic: NetworkInterface, port: Port | None) -> Port | None:
        wanted = build_port(instance, nic)
        if port is None:
            try:
                return await self._client.create(wanted)
            except AlreadyExists:
                port = await self._client.get(Port, wanted.metadata.name, instance.metadata.project)
        if not _owns(instance, port) or port.deleting:
            return None
        if not port_fits(port, nic):
            if _agent_has_seen(instance) or instance.status.started_at is None:
                await self._client.delete(port.ref, uid=port.uid)  # made anew when it is gone
            return None
        if port.spec.security_groups != wanted.spec.security_groups:
            spec = port.spec.model_copy(update={"security_groups": wanted.spec.security_groups})
            return await self._client.update(port.model_copy(update={"spec": spec}))
        return port

    async def _ensure_attached(self, instance: Instance, port: Port) -> Port | None:
        """Tell the port its instance and host once it is bound; None while another instance still has it.

        Two never contend: the interface's claim on the port is exclusive. But the last one may not have let
        go yet.
        """
        host, name, holder = instance.status.host, instance.metadata.name, port.status.instance
        if holder not in (None, name) and self._instances.find(holder or "", instance.metadata.project):
            return None
        if host is None:
            return port
        return await write_status(self._client, port, fields={"instance": name, "host": host})

    async def _release_others(self, instance: Instance, keep: set[str]) -> list[Ref]:
        """Delete its own ports and detach named ones that it no longer uses; return what is left of the former."""
        left = []
        key = (instance.metadata.project, instance.metadata.name)
        for port in self._ports.by_index(_OF_INSTANCE, key):
            if port.metadata.name in keep or _wants(instance, port):
                continue
            if _owns(instance, port):
                left.append(port.ref)
                if not port.deleting:
                    await self._client.delete(port.ref, uid=port.uid)
            elif port.status.instance == instance.metadata.name:
                await write_status(self._client, port, fields={"instance": None, "host": None})
        return left

    async def _finalize(self, instance: Instance, *, unreachable: bool) -> None:
        """See the end through: first the domain on the host, then the ports, then the object.

        ``unreachable``: the host is out of service. What is left there is removed when it comes back, as anything
        that carries the mark of an instance that is not there.
        """
        finalizers = instance.metadata.finalizers
        if DOMAIN_FINALIZER in finalizers and instance.status.host is None:
            # Exact: were it bound in between, its host would have to clean up.
            await self._client.remove_finalizer(instance, DOMAIN_FINALIZER, exact_version=True)
        elif DOMAIN_FINALIZER in finalizers and unreachable:
            message = f"Host {instance.status.host} is out of service; the instance goes without its word."
            self._context.events.warning(instance, "LetGo", message)
            await self._client.remove_finalizer(instance, DOMAIN_FINALIZER)
        elif DOMAIN_FINALIZER in finalizers:
            message = f"Waiting for host {instance.status.host} to remove the domain, its disks and taps."
            raise WaitingFor("DomainPresent", message, 300.0)
        bare = instance.model_copy(update={"spec": instance.spec.model_copy(update={"network_interfaces": []})})
        left = await self._release_others(bare, keep=set()) or await self._read_own_ports(instance)
        if left:
            names = ", ".join(str(r) for r in left)
            raise WaitingFor("PortsPresent", f"Waiting for {names} to be gone.", 10.0)
        await self._client.remove_finalizer(instance, FINALIZER)

    async def _read_own_ports(self, instance: Instance) -> list[Ref]:
        """Return its own ports, consistently read; the informer may not know the latest yet."""
        labels = f"{INSTANCE_LABEL}={instance.metadata.name}"
        page = await self._client.list(Port, project=instance.metadata.project, labels=labels)
        return [p.ref for p in page.items if _owns(instance, p)]


def _agent_has_seen(instance: Instance) -> bool:
    """Return whether nothing of an earlier spec can still be plugged on a host."""
    return instance.status.host is None or instance.is_true(RUNNING)


def _owns(instance: Instance, port: Port) -> bool:
    return any(o.uid == instance.uid for o in port.metadata.owner_references)


def _wants(instance: Instance, port: Port) -> bool:
    return any(port_name_of(instance, nic) == port.metadata.name for nic in instance.spec.network_interfaces)


def _instance_names(port: Port) -> Iterator[tuple[str | None, str]]:
    """Yield the instances that the port may belong to, as (project, name)."""
    for name in {port.status.instance, port.metadata.labels.get(INSTANCE_LABEL)}:
        if name:
            yield (port.metadata.project, name)


def _named_ports(instance: Instance) -> Iterator[tuple[str | None, str]]:
    for nic in instance.spec.network_interfaces:
        if nic.port:
            yield (instance.metadata.project, nic.port)


def build(context: ControllerContext) -> Controller:
    """Return the controller of instances."""
    instances = context.informer(Instance)
    instances.add_index(_NAMED_PORTS, _named_ports)
    instances.add_index(_ON_HOST, lambda instance: (instance.status.host,) if instance.status.host else ())

    def concerned(port: Port) -> Iterator[Ref]:
        for project, name in _instance_names(port):
            yield Ref(Instance.KIND, project, name)
        for instance in instances.by_index(_NAMED_PORTS, (port.metadata.project, port.metadata.name)):
            yield instance.ref

    def bound_to(host: Host) -> Iterator[Ref]:
        yield from (instance.ref for instance in instances.by_index(_ON_HOST, host.metadata.name))

    return context.controller(
        InstanceReconciler(context),
        Instance,
        watches={Port: concerned, Host: bound_to},
        matters={
            Instance: _read_of_instance,
            Port: _read_of_port,
            Host: lambda host: host.spec.out_of_service,
        },
        workers=8,
    )


def _read_of_instance(instance: Instance) -> tuple[object, ...]:
    status = instance.status
    # What an agent had on its way when its host went out of service is to be taken back, too.
    unknown = sum(condition.reason == OUT_OF_SERVICE for condition in status.conditions)
    return (*asked_of(instance), status.host, status.started_at is None, instance.is_true(RUNNING), unknown)


def _read_of_port(port: Port) -> tuple[object, ...]:
    held = (port.status.mac, port.status.addresses, port.status.instance, port.status.host)
    return (*asked_of(port), *held, *states_of(port, ALLOCATED, REALIZED, UP))
