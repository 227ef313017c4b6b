"""The manager's controllers on a real store with an etcd in memory, run step by step.

``settle`` gives every object to every reconciler until nothing is written any more, as the controllers
would; between two calls the test plays the other parts of the cloud. ``restart`` forgets all that a
process remembers. A user's and the other parts' writes go through ``admin`` and ``system``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tests.fakes.crash import Crasher, Killed, every_kill
from tests.fakes.manual_clock import ManualClock
from tests.fakes.master_keys import credentials_on
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.controllers.certificate import CERTIFICATE_RECORDS
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.context import Build, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import BackendError, ReconcileError
from vcstack.runtime.events import EventRecorder
from vcstack.runtime.informers import Informers
from vcstack.runtime.observing import ObservingClient
from vcstack.runtime.status import condition_of
from vcstack.specs.errors import ApiError, NotFound
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import AGENT_READY, ALIVE, Capacity, Host, HostSpec
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import Instance, InstanceSpec, NetworkInterface
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import ALLOCATED, REALIZED, UP, Port, PortAddress
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.subnet import Subnet, SubnetSpec
from vcstack.specs.registry import definition_of, load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.authorities import CertificateRecords
from vcstack.store.quotausage import QuotaUse
from vcstack.store.store import Store

R = TypeVar("R", bound=AnyResource)
PROJECT = "demo"
ROUNDS = 40


class FakeHeartbeats:
    """The hosts that are alive, as the test says."""

    def __init__(self, *hosts: str) -> None:
        self.live = frozenset(hosts)

    async def live_hosts(self) -> AsyncIterator[frozenset[str]]:
        yield self.live


async def sweep(scenario: "Callable[[World], Awaitable[None]]") -> int:
    """Live through the scenario once for each call that a controller makes in it, killed before or after it.

    The scenario plays the rest of the cloud, calls ``settle`` and asserts what has to hold in the end.

    Returns:
        How many calls there are.
    """

    async def live(crasher: Crasher) -> None:
        etcd = MemoryEtcd()
        async with Store(etcd, credentials=credentials_on(etcd)) as store:
            await scenario(World(store, etcd, crasher))

    counting = Crasher()
    await live(counting)
    for crasher in every_kill(len(counting.calls)):
        await live(crasher)
    return len(counting.calls)


class World:
    """A store and what controllers need on it."""

    def __init__(self, store: Store, etcd: MemoryEtcd, crasher: Crasher | None = None) -> None:
        self.store, self.etcd, self.crasher = store, etcd, crasher
        self.clock = ManualClock()
        self.admin: ResourceClient = store.bound(Actor("admin", "vcctl"))
        self.system: ResourceClient = store.bound(Actor("system:test", "test"))
        self.heartbeats = FakeHeartbeats()
        self.backends: dict[str, Any] = {"heartbeats": self.heartbeats, "settings": store.cache.setting_book}
        self.backends["quotause"] = QuotaUse(store.cache)
        self.backends[CERTIFICATE_RECORDS.name] = CertificateRecords(credentials_on(etcd, clock=self.clock))
        self.client: ResourceClient = store.bound(Actor("system:controller:test", "controllers"))
        self.held: dict[Ref, Exception] = {}
        self.restart()

    def restart(self) -> None:
        """Forget what a process remembers."""
        self.controllers: dict[str, Controller] = {}
        self.informers = Informers(self.client, self.clock)
        client = self.client if self.crasher is None else self.crasher.wrap(self.client)
        self.events = EventRecorder(self.client, "vc-management", self.clock)
        self._context = ControllerContext(
            ObservingClient(client, self.informers),
            self.informers,
            self.events,
            self.clock,
            backends=self.backends,
        )

    @property
    def context(self) -> ControllerContext:
        return self._context

    def controller(self, build: Build) -> Controller:
        """Return the controller, built once until restart."""
        name = build.__module__
        if name not in self.controllers:
            made = self.controllers[name] = build(self._context)
            for informer, listener in made.listeners:
                informer.add_handler(listener, replay=True)
        return self.controllers[name]

    async def settle(self, *builds: Build, rounds: int = ROUNDS) -> None:
        """Reconcile all that the controllers are for until nothing is written.

        Killed on the way, the process is started again and goes on.
        """
        try:
            await self._settle([self.controller(build) for build in builds], rounds)
        except Killed:
            self.crasher = None
            self.restart()
            await self._settle([self.controller(build) for build in builds], rounds)

    async def _settle(self, controllers: Sequence[Controller], rounds: int) -> None:
        for _ in range(rounds):
            before = self.etcd.writes
            for controller in controllers:
                await self._reconcile_all(controller)
            if self.etcd.writes == before:
                return
        raise AssertionError(f"not settled after {rounds} rounds")

    async def _reconcile_all(self, controller: Controller) -> None:
        known = {r.ref for i in controller.informers.values() for r in i.list()}
        await self.informers.relist()
        refs = known | {r.ref for i in controller.informers.values() for r in i.list()}
        for ref in sorted(refs, key=str):
            self.held.pop(ref, None)
            try:
                await controller.reconciler.reconcile(controller.informers[ref.kind].get(ref), ref)
            except (ReconcileError, ApiError, BackendError) as error:
                self.held[ref] = error

    async def writes_of(self, *builds: Build) -> int:
        """Return how many writes a fresh process makes that finds all as it should be."""
        self.restart()
        before = self.etcd.writes
        await self.settle(*builds)
        return self.etcd.writes - before

    # What users and the other parts of the cloud do.

    async def create(self, resource: R) -> R:
        return await self.admin.create(resource)

    async def create_freely(self, resource: AnyResource) -> None:
        """Create as GitOps does: references may be missing."""
        wire = resource.to_wire()
        del wire["status"]
        await self.store.create(
            definition_of(resource), wire, actor=Actor("admin", "gitops"), allow_missing_references=True
        )

    async def get(self, kind: type[R], name: str, project: str | None = PROJECT) -> R:
        project = None if load_kinds()[kind.KIND].scope == "Global" else project
        return await self.admin.get(kind, name, project)

    async def find(self, kind: type[R], name: str, project: str | None = PROJECT) -> R | None:
        try:
            return await self.get(kind, name, project)
        except NotFound:
            return None

    async def delete(self, resource: AnyResource, **options: Any) -> None:
        await self.admin.delete(resource.ref, **options)

    async def event_reasons(self) -> list[str]:
        await self.events.flush()
        return [e.spec.reason for e in (await self.admin.list(Event)).items]

    async def create_basics(self) -> None:
        """A project with a flavor, an image and a network to make instances from."""
        await self.create(Project.new(PROJECT, Project.model_fields["spec"].get_default()))
        await self.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
        await self.create(Image.new("tiny", ImageSpec(format=ImageFormat.QCOW2)))
        await self.create(Network.new("web", Network.model_fields["spec"].get_default(), project=PROJECT))
        await self.create(Subnet.new("web-v4", SubnetSpec(network="web", cidr="10.10.0.0/24"), project=PROJECT))

    async def create_instance(self, name: str, **spec: Any) -> Instance:
        spec.setdefault("network_interfaces", [NetworkInterface(name="eth0", network="web")])
        wanted = InstanceSpec(**{"flavor": "tiny", "image": "tiny", **spec})
        return await self.create(Instance.new(name, wanted, project=PROJECT))

    async def create_host(self, name: str, *, vcpus: int = 4, memory: int = 4608, **spec: Any) -> Host:
        host = await self.create(Host.new(name, HostSpec(**spec)))
        fields = {
            "capacity": Capacity(vcpus=vcpus, memory_mib=memory, disk_gib=100).to_wire(),
            "virtType": "qemu",
        }
        await self.set_status(host, AGENT_READY, **fields)
        return await self.set_status(host, ALIVE)

    async def set_status(self, resource: R, *true: str, false: Sequence[str] = (), **fields: Any) -> R:
        """Write conditions (True or False) and wire fields of status, as the part responsible would."""
        resource = await self.get(type(resource), resource.metadata.name, resource.metadata.project)
        conditions = [condition_of(resource, t, t in true, "Test", clock=self.clock).to_wire() for t in (*true, *false)]
        patch = {**fields, "conditions": conditions} if conditions else fields
        return await self.system.patch_status(resource, patch)

    async def bind(self, instance: Instance, host: str) -> Instance:
        """Do as the scheduler, onto a host that is made if there is none."""
        if await self.find(Host, host) is None:
            await self.create(Host.new(host, HostSpec()))
        amount = Capacity(vcpus=1, memory_mib=128, disk_gib=1).to_wire()
        return await self.set_status(instance, "Scheduled", host=host, allocated=amount)

    async def realize_ports(self, *true: str) -> list[Port]:
        """Give every port its MAC, an address and the conditions, as the port controller does."""
        ports = []
        for n, port in enumerate(sorted((await self.admin.list(Port)).items, key=lambda p: p.ref), start=10):
            held = [PortAddress(subnet="web-v4", address=f"10.10.0.{n}").to_wire()]
            mac = f"52:54:00:00:00:{n:02x}"
            ports.append(await self.set_status(port, *(true or (ALLOCATED, REALIZED, UP)), mac=mac, addresses=held))
        return ports

    async def remove_finalizers(self, resource: AnyResource) -> None:
        """Do as the part that cleans up after the object."""
        await self.system.remove_finalizer(resource, *resource.metadata.finalizers)
