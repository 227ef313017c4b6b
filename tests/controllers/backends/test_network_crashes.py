"""The network controllers killed before and after every call to the store and to OVN, and run again."""

import asyncio
import contextlib
from collections import Counter

import pytest

from tests.controllers.backends.network_world import World
from tests.fakes.crash import Crasher, When
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network import Fence
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.kinds.subnet import Subnet
from vcstack.store.store import Store

KILLS = 40
"""More than the calls that count; a kill that is never reached only lets the controllers finish."""


class Handed(FakeOvn):
    """Hands out the wrapped handle for every term, so that the crasher sees all calls."""

    handle: FakeOvn

    def fenced(self, fence: Fence | None) -> FakeOvn:
        return self.handle


async def run_until_killed(world: World, crasher: Crasher) -> None:
    """Run the controllers until the crasher strikes or nothing happens any more."""
    world.backend.handle = crasher.wrap(world.backend)
    with contextlib.suppress(BaseExceptionGroup):
        async with world.running(crasher.wrap(world.system)):
            dead = asyncio.create_task(crasher.dead.wait())
            settled = asyncio.create_task(world.settled())
            await asyncio.wait((dead, settled), return_when=asyncio.FIRST_COMPLETED)
            for task in (dead, settled):
                task.cancel()
    world.backend.handle = world.backend


def check_invariants(world: World, ports: list[Port]) -> None:
    held = Counter((a.subnet, a.address) for p in ports for a in p.status.addresses or ())
    macs = Counter(p.status.mac for p in ports if p.status.mac)
    assert max(held.values(), default=1) == 1
    assert max(macs.values(), default=1) == 1
    rows = world.backend.state.rows["Port"].values()
    switch_addresses = Counter(a for row in rows for a in row.addresses)
    assert max(switch_addresses.values(), default=1) == 1


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("at", range(1, KILLS, 2))
async def test_creating_and_deleting_survive_a_kill(at: int, when: When) -> None:
    async with Store(MemoryEtcd()) as store:
        world = World(store, Handed())
        await world.add_project()
        await world.add_network("web", "10.0.0.0/29", "fd00::/64")
        for name in ("a", "b"):
            await world.add_port(name)
        await run_until_killed(world, Crasher(at, when))
        check_invariants(world, list((await world.user.list(Port)).items))
        async with world.running():
            for name in ("a", "b"):
                await world.ready(Port, name)
            await world.ready(Network, "web")
        check_invariants(world, list((await world.user.list(Port)).items))
        for kind, name in ((Port, "a"), (Port, "b"), (Subnet, "web-0"), (Subnet, "web-1"), (Network, "web")):
            await world.delete(kind, name)
        await world.delete(SecurityGroup, "default")
        await run_until_killed(world, Crasher(at, when))
        async with world.running():
            await world.gone(Network, "web")
            await world.gone(SecurityGroup, "default")
        assert not any(world.backend.state.rows.values())
