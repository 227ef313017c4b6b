"""The host's image cache: fetched once, and gone when nobody needs it, but never under a disk."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.nodeagent.world import DIGEST, HOST, World
from vcstack.clock import SystemClock
from vcstack.nodeagent.backends.images import PARTIAL_KEPT_SECONDS, ImageCache
from vcstack.nodeagent.realizers.imagecache import HOUR_SECONDS, ImageKeeper
from vcstack.nodeagent.settings import ImageCacheSettings
from vcstack.runtime.errors import BackendRefused
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec, ImageStatus
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.meta import ObjectMeta

OTHERS = ["sha256:" + f"{n}" * 64 for n in range(4)]
LONG_AGO = 30 * HOUR_SECONDS


class Site:
    """The agent's world with a cache in which some contents lie that nobody asked for."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add(self, digest: str, *, hours: float = 30.0, size: int = 1000) -> Path:
        """Put a content into the cache that was last needed so long ago."""
        path = self.world.layout.images / digest.removeprefix("sha256:")
        path.write_bytes(b"x" * size)
        age(path, hours)
        return path

    async def prune(self, **settings: int) -> list[str]:
        """Prune as an agent that was just started."""
        parts = await self.world.parts()
        keeper = ImageKeeper(
            HOST, self.world.client, parts.references, self.world.layout, self.world.disks, self.world.images,
            SystemClock(), ImageCacheSettings(**{"max_gib": 0, "keep_hours": 24, **settings}),
        )  # fmt: skip
        return await keeper.run_once()


def age(path: Path, hours: float = 30.0) -> None:
    at = time.time() - hours * HOUR_SECONDS
    os.utime(path, (at, at))


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


async def test_what_nobody_needs_goes_after_its_time_and_the_rest_stays(site: Site, world: World) -> None:
    await world.add_instance()
    await world.settle()
    base = world.images.find(DIGEST)
    assert base is not None
    age(base)
    old, fresh = site.add(OTHERS[0]), site.add(OTHERS[1], hours=23)
    assert await site.prune() == [OTHERS[0]]
    assert not old.exists()
    assert fresh.exists()
    assert world.images.list_digests() == sorted([DIGEST, OTHERS[1]])
    assert await site.prune() == []


async def test_nothing_goes_while_there_is_room(site: Site) -> None:
    site.add(OTHERS[0])
    assert await site.prune(max_gib=1) == []


async def test_the_longest_unneeded_goes_first_and_no_more_than_has_to(world: World) -> None:
    site = Site(world)
    for n, hours in enumerate((40, 60, 50)):
        site.add(OTHERS[n], hours=hours)
    now = time.time()
    assert await world.images.prune(set(), max_bytes=2500, keep_seconds=HOUR_SECONDS, now=now) == [OTHERS[1]]
    assert await world.images.prune(set(), max_bytes=1, keep_seconds=HOUR_SECONDS, now=now) == [OTHERS[2], OTHERS[0]]


async def test_a_base_stays_under_a_disk_of_which_the_api_knows_nothing(site: Site, world: World) -> None:
    """The overlay's own header counts, for its record may be lost and its instance forgotten."""
    base = site.add(OTHERS[0])
    files = world.layout.of_instance("i-0123456789ab")
    files.folder.mkdir()
    await world.disks.make_overlay(files.root_disk, base=base, base_format=ImageFormat.QCOW2, size_gib=1)
    assert await site.prune() == []
    files.root_disk.unlink()
    age(base)
    assert await site.prune() == [OTHERS[0]]


async def test_a_base_stays_that_only_the_record_of_a_lost_disk_names(site: Site, world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    world.layout.of_instance(instance.uid).root_disk.unlink()
    await world.client.patch_status(await world.get(), {"host": "h2"})
    base = world.images.find(DIGEST)
    assert base is not None
    age(base)
    assert await site.prune() == []


async def test_a_base_stays_that_an_instance_waits_for(site: Site, world: World) -> None:
    await world.add_instance(image="other")
    site.add("sha256:" + "cd" * 32)
    assert await site.prune() == []


async def test_an_image_without_content_holds_nothing_back(site: Site, world: World) -> None:
    await world.add_instance()
    image = await world.client.get(Image, "tiny")
    await world.client.patch_status(image, {"digest": None})
    site.add(OTHERS[0])
    assert await site.prune() == [OTHERS[0]]


async def test_nothing_goes_when_a_disk_cannot_be_read(site: Site, world: World) -> None:
    class Unreadable:
        async def find_base(self, path: Path) -> Path | None:
            raise BackendRefused(f"{path} is no qcow2 image")

    await world.add_instance()
    await world.settle()
    site.add(OTHERS[0])
    world.disks = Unreadable()  # type: ignore[assignment]
    with pytest.raises(BackendRefused):
        await site.prune()
    assert world.images.find(OTHERS[0]) is not None


async def test_nothing_goes_when_the_api_is_away(site: Site, world: World) -> None:
    class Away:
        async def list(self, kind: type[Instance], **_: str) -> object:
            raise Unavailable("cut off")

    site.add(OTHERS[0])
    parts = await world.parts()
    keeper = ImageKeeper(
        HOST, Away(), parts.references, world.layout, world.disks, world.images,  # type: ignore[arg-type]
        SystemClock(), ImageCacheSettings(max_gib=0),
    )  # fmt: skip
    with pytest.raises(Unavailable):
        await keeper.run_once()
    assert world.images.find(OTHERS[0]) is not None


async def test_what_was_just_given_out_is_not_taken_away_before_a_disk_lies_on_it(site: Site, world: World) -> None:
    """An instance that was bound after the list of instances was read has the grace period to make its disk."""
    site.add(DIGEST)
    image = await world.client.get(Image, "tiny")
    path = await world.images.ensure(image)
    assert await site.prune() == []
    assert path.exists()
    assert world.fetched == []


async def test_a_broken_off_download_goes_when_nobody_came_back_for_it(site: Site, world: World) -> None:
    left, new = (world.layout.images / f"{d.removeprefix('sha256:')}.part" for d in OTHERS[:2])
    for partial in (left, new):
        partial.write_bytes(b"half")
    age(left, PARTIAL_KEPT_SECONDS / HOUR_SECONDS + 1)
    assert await site.prune() == []
    assert [p.name for p in world.layout.images.iterdir()] == [new.name]


async def test_a_download_under_way_is_left_alone_however_old_its_file(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def download(image: Image, path: Path) -> None:
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(b"half")
        age(partial)
        begun.set()
        await go_on.wait()
        partial.rename(path)

    cache = ImageCache(tmp_path, download)
    image = Image(
        metadata=ObjectMeta(name="x"), spec=ImageSpec(format=ImageFormat.QCOW2), status=ImageStatus(digest=OTHERS[0])
    )
    fetching = asyncio.create_task(cache.ensure(image))
    await begun.wait()
    pruning = asyncio.create_task(cache.prune(set(), max_bytes=0, keep_seconds=LONG_AGO, now=time.time()))
    await asyncio.sleep(0)
    go_on.set()
    assert (await fetching).read_bytes() == b"half"
    assert await pruning == []
    assert cache.list_digests() == [OTHERS[0]]


async def test_whoever_listens_is_told_when_a_content_comes_and_when_it_goes(tmp_path: Path) -> None:
    async def download(image: Image, path: Path) -> None:
        await asyncio.to_thread(path.write_bytes, b"content")

    told: list[list[str]] = []
    cache = ImageCache(tmp_path, download)
    cache.subscribe(lambda: told.append(cache.list_digests()))
    image = Image(
        metadata=ObjectMeta(name="x"), spec=ImageSpec(format=ImageFormat.QCOW2), status=ImageStatus(digest=OTHERS[0])
    )
    await cache.ensure(image)
    await cache.ensure(image)
    await cache.prune(set(), max_bytes=0, keep_seconds=0, now=time.time() + 1)
    assert told == [[OTHERS[0]], []]
