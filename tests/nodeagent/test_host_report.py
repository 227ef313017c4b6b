"""The host's own report: as soon as somebody changes its object, not at the next minute."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.nodeagent.world import HOST, World
from vcstack.nodeagent.realizers.host import HostReporter
from vcstack.specs.kinds.host import AGENT_READY, CACHED_IMAGES_LIMIT, Host, HostSpec, Scheduling
from vcstack.store.store import Store


@pytest.fixture
async def world(memory_store: Store, tmp_path: Path) -> World:
    return await World.create(memory_store, tmp_path)


@contextlib.asynccontextmanager
async def reporting(world: World, tmp_path: Path) -> AsyncIterator[HostReporter]:
    made = HostReporter(
        HOST, world.client, world.hypervisor, world.switch, world.images, world.clock,
        state_dir=tmp_path, virt_type="qemu", expires_at=lambda: world.clock.now() + timedelta(days=1),
        trust=lambda: ("", ()), is_late=lambda: False,
    )  # fmt: skip
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def reporter(world: World, tmp_path: Path) -> AsyncIterator[HostReporter]:
    async with reporting(world, tmp_path) as made:
        yield made


async def reported(world: World, generation: int) -> Host:
    async with asyncio.timeout(30):
        while True:
            host = await world.client.get(Host, HOST)
            condition = host.find_condition(AGENT_READY)
            if condition is not None and condition.observed_generation == generation:
                return host
            await asyncio.sleep(0.01)


async def test_a_change_that_a_heartbeat_tells_of_is_reported_at_once(world: World, reporter: HostReporter) -> None:
    host = await reported(world, 1)
    reporter.expect(1)
    reporter.expect(None)
    await world.client.update(host.model_copy(update={"spec": HostSpec(scheduling=Scheduling.DISABLED)}))
    reporter.expect(2)
    assert (await reported(world, 2)).is_true(AGENT_READY)


async def test_more_images_than_a_status_holds_keep_no_host_from_its_report(world: World, tmp_path: Path) -> None:
    for number in range(CACHED_IMAGES_LIMIT + 1):
        (world.layout.images / f"{number:064x}").touch()
    async with reporting(world, tmp_path):
        told = (await reported(world, 1)).status.cached_images
    assert told == world.images.list_digests()[:CACHED_IMAGES_LIMIT]
