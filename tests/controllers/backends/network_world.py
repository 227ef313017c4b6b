"""A small cloud for tests of the network controllers: a real store in memory, a network backend, the manager."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from vcstack.clock import SystemClock
from vcstack.controllers import network, port, security_group, subnet
from vcstack.controllers.backends.network import NetworkBackend
from vcstack.controllers.backends.network_sources import NETWORK
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.manager import Manager
from vcstack.specs.errors import Conflict, NotFound
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupRule, SecurityGroupSpec
from vcstack.specs.kinds.subnet import Subnet, SubnetSpec
from vcstack.specs.meta import Condition
from vcstack.specs.resource import AnyResource
from vcstack.store.actor import Actor
from vcstack.store.store import Store

R = TypeVar("R", bound=AnyResource)
DEMO = "demo"
BUILDS = {
    "network": network.build,
    "subnet": subnet.build,
    "port": port.build,
    "security_group": security_group.build,
}


class QuickClock(SystemClock):
    """Time that runs faster, but for the wall clock."""

    def monotonic(self) -> float:
        return super().monotonic() * 20

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


class World:
    """What tests need to act as users and to look."""

    def __init__(self, store: Store, backend: Any) -> None:
        self.store, self.backend = store, backend
        self.user: ResourceClient = store.bound(Actor("admin", "tests"))
        self.system: ResourceClient = store.bound(Actor("system:controllers", "controllers"))

    @contextlib.asynccontextmanager
    async def running(
        self, client: ResourceClient | None = None, backend: NetworkBackend | None = None
    ) -> AsyncIterator[None]:
        """Run the four controllers."""
        manager = Manager(
            BUILDS,
            client or self.system,
            clock=QuickClock(),
            actor="tests",
            backends={NETWORK.name: backend or self.backend},
        )
        stop = asyncio.Event()
        task = asyncio.create_task(manager.run(stop))
        try:
            yield
        finally:
            stop.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def add_project(self) -> None:
        await self.user.create(Project.new(DEMO, ProjectSpec()))
        egress = SecurityGroupRule.from_wire({"name": "out", "direction": "Egress"})
        await self.add(SecurityGroup, "default", SecurityGroupSpec(rules=[egress]))

    async def add(self, kind: type[R], name: str, spec: Any) -> R:
        return await self.user.create(kind.new(name, spec, project=DEMO))

    async def add_network(self, name: str = "web", *cidrs: str, **subnet: Any) -> Network:
        made = await self.add(Network, name, NetworkSpec())
        for i, cidr in enumerate(cidrs):
            await self.add(Subnet, f"{name}-{i}", SubnetSpec(network=name, cidr=cidr, **subnet))
        return made

    async def add_port(self, name: str = "p", **spec: Any) -> Port:
        return await self.add(Port, name, PortSpec(**{"network": "web", **spec}))

    async def get(self, kind: type[R], name: str) -> R:
        return await self.user.get(kind, name, DEMO)

    async def change(self, resource: R, spec: Any) -> R:
        """Give the object this spec, on its newest version: controllers may write status meanwhile."""
        while True:
            known = await self.get(type(resource), resource.metadata.name)
            known.spec = spec
            with contextlib.suppress(Conflict):
                return await self.user.update(known)

    async def delete(self, kind: type[AnyResource], name: str) -> None:
        await self.user.delete((await self.get(kind, name)).ref)

    async def revision(self) -> str:
        return (await self.user.list(Port)).resource_version

    async def until(self, check: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
        """Wait until the check gives something true, and return that."""
        last: Any = None
        try:
            async with asyncio.timeout(seconds):
                while not last:
                    last = await check()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"in vain: {check}; objects: {await self.describe()}") from None
        return last

    async def describe(self) -> list[str]:
        found = []
        for kind in (Network, Subnet, Port, SecurityGroup):
            for r in (await self.user.list(kind)).items:
                found.append(f"{r.ref} {[(c.type, str(c.status), c.reason) for c in r.status.conditions]}")
        return found

    async def ready(self, kind: type[R], name: str) -> R:
        async def check() -> R | None:
            found = await self.get(kind, name)
            return found if found.is_true("Ready") else None

        return await self.until(check)  # type: ignore[no-any-return]

    async def condition(self, kind: type[AnyResource], name: str, type_: str, reason: str) -> Condition:
        async def check() -> Condition | None:
            found = (await self.get(kind, name)).find_condition(type_)
            return found if found is not None and found.reason == reason else None

        return await self.until(check)  # type: ignore[no-any-return]

    async def gone(self, kind: type[AnyResource], name: str) -> None:
        async def check() -> bool:
            try:
                await self.get(kind, name)
            except NotFound:
                return True
            return False

        await self.until(check)

    async def settled(self) -> tuple[str, int]:
        """Wait until nothing happens any more; return the store's revision and the count of transactions."""
        before: Any = None
        quiet = 0
        while quiet < 40:  # many looks and not one long pause: others run as often, also when all of us stood still
            now = (await self.revision(), self.backend.counters.transactions)
            quiet = quiet + 1 if now == before else 0
            before = now
            await asyncio.sleep(0.01)
        return before  # type: ignore[no-any-return]
