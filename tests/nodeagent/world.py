"""A cloud with one host, seen from its agent: the real store in memory and a host in memory."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Self

from tests.fakes.crash import Crasher
from tests.fakes.hypervisor import MemoryDisks, MemoryHypervisor, MemorySwitch, MemoryTaps
from tests.fakes.manual_clock import ManualClock
from tests.fakes.secrets import StoredSecrets
from vcstack.nodeagent.backends.images import ImageCache
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.locks import Locks
from vcstack.nodeagent.names import tap_name
from vcstack.nodeagent.realizers.instance import HostFacts, InstanceParts, InstanceRealizer
from vcstack.nodeagent.realizers.interfaces import Interfaces
from vcstack.nodeagent.realizers.power import PowerKeeper
from vcstack.nodeagent.realizers.storage import Storage
from vcstack.nodeagent.references import References
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.informer import Informer
from vcstack.runtime.reconciler import Result
from vcstack.specs.errors import Conflict, NotFound
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import Instance, InstanceSpec, NetworkInterface, port_name_of
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.sshkey import SSHKey, SSHKeySpec
from vcstack.specs.kinds.subnet import Subnet, SubnetSpec
from vcstack.specs.meta import Condition
from vcstack.store.actor import Actor
from vcstack.store.store import Store

HOST, PROJECT = "h1", "demo"
DIGEST = "sha256:" + "ab" * 32
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/YpEzXz0nX2NFsHlQXw8oVsfZdRQCF8YDM9gYqj0Lr me"


class World:
    """Make with ``await World.create``; each ``agent()`` is a freshly started agent."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.client: ResourceClient = store.bound(Actor("system:test", "test"))
        self.secrets = StoredSecrets(store)
        self.clock = ManualClock()
        self.clock.skip(1000)
        self.layout = Layout(folder / "state")
        self.layout.create()
        self.taps, self.switch, self.disks = MemoryTaps(), MemorySwitch(), MemoryDisks()
        self.hypervisor = MemoryHypervisor(self.taps, self.clock)
        self.fetched: list[str] = []
        self.images = ImageCache(self.layout.images, self._download)
        self.power = PowerKeeper(self.hypervisor, self.clock)

    @classmethod
    async def create(cls, store: Store, folder: Path) -> Self:
        world = cls(store, folder)
        await world.client.create(Host.new(HOST, HostSpec()))
        await world.client.create(Project.new(PROJECT, ProjectSpec()))
        await world.client.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
        await world.client.create(Flavor.new("small", FlavorSpec(vcpus=2, memory_mib=256, root_disk_gib=2)))
        for name, digest in (("tiny", DIGEST), ("other", "sha256:" + "cd" * 32)):
            image = await world.client.create(Image.new(name, ImageSpec(format=ImageFormat.QCOW2)))
            status = {"digest": digest, "sizeBytes": 10, "virtualSizeBytes": 50 * 1024 * 1024}
            await world.client.patch_status(image, status)
        await world.client.create(SSHKey.new("me", SSHKeySpec(public_key=KEY), project=PROJECT))
        await world.client.create(Network.new("web", NetworkSpec(), project=PROJECT))
        spec = SubnetSpec(network="web", cidr="10.10.0.0/24")
        subnet = await world.client.create(Subnet.new("web-v4", spec, project=PROJECT))
        await world.client.patch_status(subnet, {"gateway": "10.10.0.1"})
        return world

    async def add_instance(self, name: str = "web-1", *, nics: int = 1, **spec: Any) -> Instance:
        """Create an instance that is bound to the host, with its ports."""
        cards = [NetworkInterface(name=f"eth{i}", network="web") for i in range(nics)]
        spec = {"flavor": "tiny", "image": "tiny", "network_interfaces": cards, "ssh_keys": ["me"], **spec}
        instance = await self.client.create(Instance.new(name, InstanceSpec(**spec), project=PROJECT))
        instance = await self.client.patch_status(instance, {"host": HOST})
        for card in cards:
            await self.add_port(instance, card)
        return instance

    async def add_port(self, instance: Instance, card: NetworkInterface) -> Port:
        spec = PortSpec(network=card.network or "web")
        port = await self.client.create(Port.new(port_name_of(instance, card), spec, project=PROJECT))
        number = len((await self.client.list(Port)).items)
        addresses = [{"subnet": "web-v4", "address": f"10.10.0.{number + 1}"}]
        status = {"mac": f"52:54:00:00:00:{number:02x}", "addresses": addresses}
        return await self.client.patch_status(port, status | {"host": HOST, "instance": instance.metadata.name})

    async def _download(self, image: Image, path: Path) -> None:
        self.fetched.append(image.status.digest or "")
        await asyncio.to_thread(path.write_text, "content")

    async def get(self, name: str = "web-1") -> Instance:
        return await self.client.get(Instance, name, PROJECT)

    async def update(self, name: str = "web-1", **spec: Any) -> Instance:
        """Change fields of the spec as a user does, on the newest version: the agent may write status meanwhile."""
        while True:
            known = await self.get(name)
            wanted = known.model_copy(update={"spec": known.spec.model_copy(update=spec)})
            with contextlib.suppress(Conflict):
                return await self.client.update(wanted)

    async def parts(self, crasher: Crasher | None = None) -> InstanceParts:
        """Return a freshly started agent's parts; with a crasher all that is outside is behind it."""

        def outside(target: Any) -> Any:
            return crasher.wrap(target) if crasher is not None else target

        client, hypervisor = outside(self.client), outside(self.hypervisor)
        references = References(client, self.clock, outside(self.secrets))
        ports = Informer(self.client, Port, clock=self.clock)
        for port in (await self.client.list(Port, fields=f"status.host={HOST}")).items:
            ports.observe(port)
        interfaces = Interfaces(
            outside(self.taps), outside(self.switch), hypervisor, references, ports, userspace_datapath=True
        )
        return InstanceParts(
            host=HostFacts(HOST, "qemu", True),
            client=client,
            hypervisor=hypervisor,
            storage=Storage(self.layout, outside(self.disks), outside(self.images), references),
            interfaces=interfaces,
            power=self.power if crasher is None else PowerKeeper(hypervisor, self.clock),
            references=references,
            ports=ports,
            locks=Locks(),
            clock=self.clock,
        )

    async def reconcile(self, name: str = "web-1", crasher: Crasher | None = None) -> Result | None:
        """Reconcile once, by a fresh agent."""
        realizer = InstanceRealizer(await self.parts(crasher))
        try:
            instance = await self.get(name)
        except NotFound:
            return None
        return await realizer.reconcile(instance, instance.ref)

    async def settle(self, name: str = "web-1") -> Instance:
        """Reconcile until nothing is asked for at once."""
        for _ in range(10):
            result = await self.reconcile(name)
            if result is None or result.requeue_after is None or result.requeue_after > 0:
                break
        return await self.get(name)

    async def condition(self, type_: str, name: str = "web-1") -> Condition:
        found = (await self.get(name)).find_condition(type_)
        assert found is not None, f"{type_} was never reported"
        return found

    async def tap_of(self, instance: Instance, card: int = 0) -> str:
        name = port_name_of(instance, instance.spec.network_interfaces[card])
        return tap_name(await self.client.get(Port, name, PROJECT))

    def snapshot(self) -> Any:
        """Return all that is outside, to see whether anything changed."""
        files = {p: p.stat().st_mtime_ns for p in self.layout.instances.rglob("*")}
        machines = {n: (m.config, m.power, m.number) for n, m in self.hypervisor.machines.items()}
        return files, machines, dict(self.taps.taps), dict(self.switch.ports)

    def assert_clean(self) -> None:
        """Nothing of ours is left."""
        assert not self.hypervisor.machines
        assert not self.taps.taps
        assert not self.switch.ports
        assert not list(self.layout.instances.iterdir())
