"""Files deleted by hand are noticed without waiting for the resync."""

import pytest

from tests.nodeagent.world import DIGEST, World
from vcstack.nodeagent.realizers.disk_watch import LOOK_SECONDS, DiskWatch
from vcstack.runtime.errors import ReconcileError
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import DISKS_READY, IMAGE_READY, Instance
from vcstack.specs.meta import ConditionStatus


class Watched:
    """A world whose instances' files are watched."""

    def __init__(self, world: World, watch: DiskWatch, instances: Informer[Instance]) -> None:
        self.world, self.watch, self.instances = world, watch, instances

    async def look(self) -> list[str]:
        for instance in (await self.world.client.list(Instance)).items:
            self.instances.observe(instance)
        return await self.watch.look()


@pytest.fixture
async def watched(world: World) -> Watched:
    instances = Informer(world.client, Instance, clock=world.clock)
    return Watched(world, DiskWatch((await world.parts()).storage, instances, world.clock), instances)


@pytest.mark.parametrize("what", ["root_disk", "seed", "base"])
async def test_a_lost_file_is_told_once(watched: Watched, world: World, what: str) -> None:
    instance = await world.add_instance()
    await world.add_instance("other")
    await world.settle()
    await world.settle("other")
    assert await watched.look() == []
    base, files = world.images.find(DIGEST), world.layout.of_instance(instance.uid)
    assert base is not None
    (base if what == "base" else getattr(files, what)).unlink()
    told = await watched.look()
    assert instance.uid in told
    assert len(told) == (2 if what == "base" else 1)
    assert await watched.look() == []


async def test_making_an_instance_wakes_nobody(watched: Watched, world: World) -> None:
    await world.add_instance()
    assert await watched.look() == []
    await world.settle()
    assert await watched.look() == []


async def test_a_file_that_was_put_back_is_told(watched: Watched, world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await watched.look()
    disk = world.layout.of_instance(instance.uid).root_disk
    aside = disk.rename(disk.with_name("aside"))
    assert await watched.look() == [instance.uid]
    await world.settle()
    assert (await world.condition(DISKS_READY)).reason == "DiskLost"
    aside.rename(disk)
    assert await watched.look() == [instance.uid]
    await world.settle()
    assert (await world.condition(DISKS_READY)).status is ConditionStatus.TRUE


async def test_it_looks_again_and_again(watched: Watched, world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await watched.look()
    world.layout.of_instance(instance.uid).root_disk.unlink()
    events = watched.watch.events()
    assert await anext(events) == instance.uid
    assert LOOK_SECONDS < 10


async def test_a_lost_base_is_fetched_again(world: World) -> None:
    await world.add_instance()
    await world.settle()
    base = world.images.find(DIGEST)
    assert base is not None
    base.unlink()
    await world.settle()
    assert world.fetched == [DIGEST, DIGEST]
    assert (await world.condition(DISKS_READY)).status is ConditionStatus.TRUE


async def test_a_base_that_is_lost_for_good_is_reported_though_the_guest_still_runs(world: World) -> None:
    await world.add_instance()
    await world.settle()
    image = await world.client.get(Image, "tiny")
    await world.client.patch_status(image, {"digest": "sha256:" + "ef" * 32})
    base = world.images.find(DIGEST)
    assert base is not None
    base.unlink()
    with pytest.raises(ReconcileError):
        await world.reconcile()
    for type_ in (DISKS_READY, IMAGE_READY):
        condition = await world.condition(type_)
        assert condition.reason == "ImageLost"
        assert condition.status is ConditionStatus.FALSE
        assert DIGEST in condition.message
    assert not (await world.get()).is_true("Ready")
