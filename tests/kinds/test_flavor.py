"""Flavors: accepted, immutable, and kept while used."""

import pytest

from tests.fakes.world import World
from vcstack.controllers import flavor
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec


async def test_a_flavor_becomes_ready(world: World) -> None:
    made = await world.create(Flavor.new("big", FlavorSpec(vcpus=4, memory_mib=8192, root_disk_gib=40)))
    assert not made.is_true("Ready")
    await world.settle(flavor.build)
    assert (await world.get(Flavor, "big")).is_true("Ready")


async def test_a_second_run_writes_nothing(world: World) -> None:
    await world.create_basics()
    await world.settle(flavor.build)
    assert await world.writes_of(flavor.build) == 0


async def test_a_lost_condition_is_written_again(world: World) -> None:
    await world.create_basics()
    await world.settle(flavor.build)
    await world.set_status(await world.get(Flavor, "tiny"), false=["Accepted"])
    await world.settle(flavor.build)
    assert (await world.get(Flavor, "tiny")).is_true("Ready")


async def test_its_size_cannot_be_changed(world: World) -> None:
    await world.create_basics()
    tiny = await world.get(Flavor, "tiny")
    tiny.spec.vcpus = 2
    with pytest.raises(Invalid) as refused:
        await world.admin.update(tiny)
    assert refused.value.causes[0].field == "spec.vcpus"


async def test_an_unused_flavor_goes_at_once(world: World) -> None:
    await world.create_basics()
    await world.delete(await world.get(Flavor, "tiny"))
    await world.settle(flavor.build)
    assert await world.find(Flavor, "tiny") is None


async def test_a_used_flavor_stays_and_names_its_users_until_they_are_gone(world: World) -> None:
    await world.create_basics()
    instance = await world.create_instance("web-1")
    tiny = await world.get(Flavor, "tiny")
    await world.delete(tiny)
    await world.settle(flavor.build)
    held = (await world.get(Flavor, "tiny")).find_condition(DELETABLE)
    assert held is not None
    assert held.reason == "InUse"
    assert "Instance demo/web-1" in held.message
    assert isinstance(world.held[tiny.ref], WaitingFor)
    assert await world.writes_of(flavor.build) == 0

    await world.delete(instance)
    await world.remove_finalizers(await world.get(type(instance), "web-1"))
    await world.settle(flavor.build)
    assert await world.find(Flavor, "tiny") is None


async def test_a_deletion_seen_twice_is_harmless(world: World) -> None:
    await world.create_basics()
    tiny = await world.get(Flavor, "tiny")
    await world.delete(tiny)
    tiny = await world.get(Flavor, "tiny")
    reconciler = world.controller(flavor.build).reconciler
    await reconciler.reconcile(tiny, tiny.ref)
    await reconciler.reconcile(tiny, tiny.ref)
    assert await world.find(Flavor, "tiny") is None
