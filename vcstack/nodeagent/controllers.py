"""The host's controllers: realizers with their informers and event sources, made from backends of any kind."""

from dataclasses import dataclass

from vcstack.clock import Clock
from vcstack.nodeagent.backends.disks import Disks
from vcstack.nodeagent.backends.guestlink import GuestLinks
from vcstack.nodeagent.backends.hypervisor import Hypervisor
from vcstack.nodeagent.backends.images import Images
from vcstack.nodeagent.backends.switch import Switch
from vcstack.nodeagent.backends.tap import Taps
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.locks import Locks
from vcstack.nodeagent.realizers.disk_watch import DiskWatch
from vcstack.nodeagent.realizers.imagecache import ImageKeeper
from vcstack.nodeagent.realizers.instance import HostFacts, InstanceParts, InstanceRealizer
from vcstack.nodeagent.realizers.interfaces import Interfaces
from vcstack.nodeagent.realizers.power import PowerKeeper
from vcstack.nodeagent.realizers.storage import Storage
from vcstack.nodeagent.realizers.sweep import Sweep
from vcstack.nodeagent.realizers.task import TaskParts, TaskRealizer
from vcstack.nodeagent.references import References, SecretValues
from vcstack.nodeagent.settings import Settings
from vcstack.nodeagent.shells import Shells
from vcstack.nodeagent.wakeups import Wakeups, index_by_uid, source_of
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.informer import Informer
from vcstack.runtime.manager import Manager
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.specs.kinds.event import actor_of
from vcstack.specs.kinds.host import OUT_OF_SERVICE
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.task import Task
from vcstack.specs.resource import Ref

DRAIN_SECONDS = 2.0
"""How long a stop waits for reconciles under way; they are safe to kill."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The outside systems of a host."""

    hypervisor: Hypervisor
    taps: Taps
    switch: Switch
    disks: Disks
    images: Images
    links: GuestLinks


@dataclass(frozen=True, slots=True)
class HostParts:
    """What runs on a host."""

    manager: Manager
    sweep: Sweep
    instances: Informer[Instance]
    image_keeper: ImageKeeper
    shells: Shells


def build_host(
    settings: Settings,
    facts: HostFacts,
    backends: Backends,
    *,
    layout: Layout,
    api: ResourceClient,
    client: ResourceClient,
    secrets: SecretValues,
    clock: Clock,
    metrics: RuntimeMetrics | None = None,
) -> HostParts:
    """Return the host's controllers.

    Args:
        settings: The agent's.
        facts: What was found out about the host.
        backends: The outside systems.
        layout: The state folder.
        api: Reads the API itself.
        client: Reads the API or what was last known of it.
        secrets: Reads the values of secrets, which are not kept on the host.
        clock: The clock.
        metrics: Counts.
    """
    wakeups, locks = Wakeups(), Locks()
    manager = Manager(
        {
            "instance": lambda context: _instances(_parts(context), backends, wakeups, context, settings),
            "task": lambda context: _tasks(_parts(context), wakeups, backends, context, settings),
        },
        client,
        clock=clock,
        actor=actor_of(facts.name),
        metrics=metrics,
        fields_of=lambda kind: f"status.host={facts.name}",
    )
    references = References(client, clock, secrets)
    power = PowerKeeper(backends.hypervisor, clock, grace_seconds=settings.shutdown_grace_seconds)
    storage = Storage(layout, backends.disks, backends.images, references)
    ports = manager.informers.of(Port)
    interfaces = Interfaces(
        backends.taps,
        backends.switch,
        backends.hypervisor,
        references,
        ports,
        userspace_datapath=facts.userspace_datapath,
    )

    def _parts(context: ControllerContext | None) -> InstanceParts:
        return InstanceParts(
            host=facts,
            client=context.client if context is not None else client,
            hypervisor=backends.hypervisor,
            storage=storage,
            interfaces=interfaces,
            power=power,
            references=references,
            ports=ports,
            locks=locks,
            clock=clock,
            events=manager.events,
        )

    instances = manager.informers.of(Instance)
    index_by_uid(instances)
    keeper = ImageKeeper(
        facts.name, api, references, layout, backends.disks, backends.images, clock, settings.image_cache
    )
    shells = Shells(backends.links, backends.switch, backends.hypervisor, references, ports)
    sweep = Sweep(_parts(None), api, clock, layout.root / "host-uid")
    return HostParts(manager, sweep, instances, keeper, shells)


def _instances(
    parts: InstanceParts, backends: Backends, wakeups: Wakeups, context: ControllerContext, settings: Settings
) -> Controller:
    instances = context.informer(Instance)

    def attached(port: Port) -> list[Ref]:
        name = port.status.instance
        return [Ref(Instance.KIND, port.metadata.project, name)] if name else []

    disks = DiskWatch(parts.storage, instances, parts.clock)
    events = (backends.hypervisor.events, backends.taps.events, backends.switch.events, disks.events)
    return context.controller(
        InstanceRealizer(parts),
        Instance,
        name="instance",
        watches={Port: attached},
        matters={Instance: _read_of_instance, Port: _read_of_port},
        sources=(wakeups.refs, *(source_of(e, instances) for e in events)),
        workers=settings.workers,
        resync_seconds=settings.resync_seconds,
        drain_seconds=DRAIN_SECONDS,
    )


def _read_of_instance(instance: Instance) -> tuple[object, ...]:
    status = instance.status
    # The manager has taken back what this host told last; once the host may talk again, it tells it anew.
    unknown = any(condition.reason == OUT_OF_SERVICE for condition in status.conditions)
    return (*asked_of(instance), status.host, status.allocated, unknown)


def _read_of_port(port: Port) -> tuple[object, ...]:
    return (*asked_of(port), port.status.instance, port.status.mac, port.status.addresses)


def _tasks(
    parts: InstanceParts, wakeups: Wakeups, backends: Backends, context: ControllerContext, settings: Settings
) -> Controller:
    instances, tasks = context.informer(Instance), context.informer(Task)

    def aimed_at(instance: Instance) -> list[Ref]:
        name = instance.metadata.name
        return [
            t.ref
            for t in tasks.list()
            if t.metadata.project == instance.metadata.project and t.spec.target.name == name
        ]

    return context.controller(
        TaskRealizer(TaskParts(parts, instances, wakeups), tasks),
        Task,
        name="task",
        watches={Instance: aimed_at},
        resync_seconds=settings.resync_seconds,
        drain_seconds=DRAIN_SECONDS,
    )
