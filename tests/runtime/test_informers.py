"""The program's informers: one a selection, started when asked for, shown every write."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.world import World
from vcstack.runtime.informers import Informers
from vcstack.runtime.observing import ObservingClient
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.resource import Ref


@pytest.fixture
async def informers(world: World) -> AsyncIterator[Informers]:
    informers = Informers(world.system, world.clock)
    running = asyncio.create_task(informers.run())
    await asyncio.sleep(0)
    yield informers
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_each_selection_has_one_informer(world: World) -> None:
    informers = world.informers
    assert informers.of(Flavor) is informers.of(Flavor)
    assert informers.of(Instance, fields="status.host=h1") is not informers.of(Instance)


def test_a_program_may_narrow_all_its_informers(world: World) -> None:
    informers = Informers(world.system, world.clock, fields_of=lambda kind: "status.host=h1")
    assert informers.of(Instance) is informers.of(Instance, fields="status.host=h1")
    assert informers.of(Instance, fields="") is not informers.of(Instance)


async def test_an_informer_asked_for_late_is_started(world: World, informers: Informers) -> None:
    await world.create_basics()
    late = informers.of(Flavor)
    async with asyncio.timeout(60):
        await informers.wait_synced()
    assert late.find("tiny") is not None
    assert informers.find(Ref("Flavor", None, "tiny")) is late.find("tiny")


async def test_changes_in_the_store_arrive(world: World, informers: Informers) -> None:
    flavors = informers.of(Flavor)
    async with asyncio.timeout(60):
        await flavors.wait_synced()
        await world.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
        while flavors.find("tiny") is None:
            await asyncio.sleep(0.005)
        await world.delete(await world.get(Flavor, "tiny"))
        await world.remove_finalizers(await world.get(Flavor, "tiny"))
        while flavors.find("tiny") is not None:
            await asyncio.sleep(0.005)


async def test_a_write_through_the_observing_client_is_seen_at_once(world: World) -> None:
    hosts, narrow = world.informers.of(Host), world.informers.of(Host, labels="zone=a")
    await world.informers.relist()
    client = ObservingClient(world.system, world.informers)
    made = await client.create(Host.new("h1", HostSpec()))
    assert hosts.find("h1") == made
    assert narrow.find("h1") is None, "whether it matches is the store's to say"
    condition = condition_of(made, "Alive", True, "Test", clock=world.clock)
    written = await write_status(client, made, conditions=[condition])
    assert hosts.find("h1") == written
    read = await client.get(Host, "h1")
    assert hosts.find("h1") == read
