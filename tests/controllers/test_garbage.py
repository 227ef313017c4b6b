"""Garbage collection along owner references: background, foreground, orphan."""

import pytest

from tests.fakes.world import PROJECT, World, sweep
from vcstack.controllers import garbage
from vcstack.controllers.garbage import FOREGROUND_FINALIZER, ORPHAN_FINALIZER, collected_kinds
from vcstack.runtime.errors import WaitingFor
from vcstack.specs.access import Propagation
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.meta import OwnerReference
from vcstack.specs.resource import AnyResource


async def create_owned(world: World, *owners: AnyResource, name: str = "p1", blocks: bool = True) -> Port:
    port = Port.new(name, PortSpec(network="web"), project=PROJECT, owners=owners)
    for reference in port.metadata.owner_references:
        reference.block_owner_deletion = blocks
    return await world.create(port)


async def remove(world: World, resource: AnyResource, *, keep: tuple[str, ...] = ()) -> None:
    """Let the kind's own finalizers go, as its controllers do."""
    found = await world.find(type(resource), resource.metadata.name, resource.metadata.project)
    if found is not None:
        own = [f for f in found.metadata.finalizers if f not in keep]
        await world.system.remove_finalizer(found, *own)


async def test_what_has_a_living_owner_stays_and_nothing_is_written(world: World) -> None:
    await world.create_basics()
    await create_owned(world, await world.create_instance("web-1"))
    await world.settle(garbage.build)
    assert await world.writes_of(garbage.build) == 0
    assert not (await world.get(Port, "p1")).deleting


async def test_what_lost_its_owner_is_deleted(world: World) -> None:
    await world.create_basics()
    owner = await world.create_instance("web-1")
    await create_owned(world, owner)
    await world.settle(garbage.build)
    await world.delete(owner)
    await remove(world, owner)
    await world.settle(garbage.build)
    assert (await world.get(Port, "p1")).deleting


async def test_an_object_of_the_owners_name_is_not_the_owner(world: World) -> None:
    await world.create_basics()
    owner = await world.create_instance("web-1")
    await create_owned(world, owner)
    await world.delete(owner)
    await remove(world, owner)
    await world.create_instance("web-1")
    await world.settle(garbage.build)
    assert (await world.get(Port, "p1")).deleting


async def test_of_two_owners_the_lost_one_is_struck(world: World) -> None:
    await world.create_basics()
    one, other = await world.create_instance("web-1"), await world.create_instance("web-2")
    await create_owned(world, one, other)
    await world.delete(one)
    await remove(world, one)
    await world.settle(garbage.build)
    left = await world.get(Port, "p1")
    assert not left.deleting
    assert [o.uid for o in left.metadata.owner_references] == [other.uid]


async def test_a_global_owner_of_an_object_in_a_project_counts(world: World) -> None:
    await world.create_basics()
    flavor = await world.get(Flavor, "tiny")
    await create_owned(world, flavor)
    await world.settle(garbage.build)
    assert not (await world.get(Port, "p1")).deleting
    await world.delete(flavor)
    await remove(world, flavor)
    await world.settle(garbage.build)
    assert (await world.get(Port, "p1")).deleting


async def test_an_owner_of_an_unknown_kind_keeps_its_dependents(world: World) -> None:
    await world.create_basics()
    port = Port.new("p1", PortSpec(network="web"), project=PROJECT)
    port.metadata.owner_references = [OwnerReference(kind="Stranger", name="x", uid="x-1")]
    await world.create(port)
    await world.settle(garbage.build)
    assert not (await world.get(Port, "p1")).deleting


async def test_foreground_deletion_waits_for_dependents_that_block(world: World) -> None:
    await world.create_basics()
    owner = await world.create_instance("web-1")
    await create_owned(world, owner, name="blocks")
    await create_owned(world, owner, name="loose", blocks=False)
    await world.delete(owner, propagation=Propagation.FOREGROUND)
    await remove(world, owner, keep=(FOREGROUND_FINALIZER,))
    await world.settle(garbage.build)
    assert (await world.get(Port, "blocks")).deleting
    assert (await world.get(Port, "loose")).deleting
    assert isinstance(world.held[owner.ref], WaitingFor)
    await remove(world, await world.get(Port, "blocks"), keep=(FOREGROUND_FINALIZER,))
    await world.settle(garbage.build)
    assert await world.find(Port, "blocks") is None
    assert await world.find(Instance, "web-1") is None, "the loose one is not waited for"
    assert (await world.get(Port, "loose")).deleting


async def test_orphaned_dependents_are_let_go_and_stay(world: World) -> None:
    await world.create_basics()
    owner = await world.create_instance("web-1")
    await create_owned(world, owner)
    await world.delete(owner, propagation=Propagation.ORPHAN)
    await world.settle(garbage.build)
    found = await world.get(Instance, "web-1")
    assert ORPHAN_FINALIZER not in found.metadata.finalizers
    await remove(world, owner)
    await world.settle(garbage.build)
    left = await world.get(Port, "p1")
    assert (left.deleting, left.metadata.owner_references) == (False, [])


def test_kinds_that_vanish_by_themselves_take_no_part() -> None:
    kinds = {k.KIND for k in collected_kinds()}
    assert "Event" not in kinds
    assert {"Instance", "Port", "Host", "Project"} <= kinds


@pytest.mark.parametrize("propagation", list(Propagation))
async def test_killed_anywhere_the_end_is_the_same(propagation: Propagation) -> None:
    async def scenario(world: World) -> None:
        await world.create_basics()
        owner = await world.create_instance("web-1")
        await create_owned(world, owner)
        await world.delete(owner, propagation=propagation)
        for _ in range(3):
            await world.settle(garbage.build)
            await remove(world, owner, keep=(FOREGROUND_FINALIZER, ORPHAN_FINALIZER))
            port = await world.find(Port, "p1")
            if port is not None and port.deleting:
                await remove(world, port, keep=(FOREGROUND_FINALIZER, ORPHAN_FINALIZER))
        await world.settle(garbage.build)
        assert await world.find(Instance, "web-1") is None
        assert (await world.find(Port, "p1") is not None) == (propagation is Propagation.ORPHAN)

    await sweep(scenario)
