"""The sweep of orphans, and what a host still knows while the API is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodeagent.world import HOST, PROJECT, World
from vcstack.nodeagent.lastknown import LastKnownClient
from vcstack.nodeagent.realizers.sweep import CONFIRM_SECONDS, Sweep
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.instance import Instance


async def sweep(world: World, tmp_path: Path) -> list[str]:
    run = asyncio.create_task(Sweep(await world.parts(), world.client, world.clock, tmp_path / "uid").run_once())
    while not run.done():
        await world.clock.advance(CONFIRM_SECONDS)
    return await run


async def orphan(world: World) -> str:
    """Make an instance and have another host own it, behind the agent's back."""
    instance = await world.add_instance()
    await world.settle()
    await world.client.patch_status(instance, {"host": "h2"})
    return instance.uid


async def test_orphans_are_removed_and_what_is_foreign_stays(world: World, tmp_path: Path) -> None:
    uid = await orphan(world)
    await world.add_instance("kept")
    kept = await world.settle("kept")
    world.hypervisor.add_foreign("theirs")
    assert await sweep(world, tmp_path) == [uid]
    assert sorted(world.hypervisor.machines) == sorted([kept.uid, "theirs"])
    assert world.layout.of_instance(kept.uid).root_disk.exists()
    assert not world.layout.of_instance(uid).folder.exists()
    assert await sweep(world, tmp_path) == []


async def test_nothing_is_swept_when_the_store_is_another_one(world: World, tmp_path: Path) -> None:
    await orphan(world)
    (tmp_path / "uid").write_text("h-000000000000")
    assert await sweep(world, tmp_path) == []
    assert world.hypervisor.machines


class Away:
    """A client that can be cut off."""

    def __init__(self, client: Any) -> None:
        self._client, self.away = client, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await self._client.get(*args, **kwargs)

    async def list(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await self._client.list(*args, **kwargs)

    async def watch(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self._check()
        async for event in self._client.watch(*args, **kwargs):
            yield event

    def _check(self) -> None:
        if self.away:
            raise Unavailable("cut off")


async def test_a_restarted_agent_knows_what_was_last_read_while_the_api_is_away(world: World, tmp_path: Path) -> None:
    instance = await world.add_instance()
    api = Away(world.client)
    before = LastKnownClient(api, tmp_path / "cache")
    listed = await before.list(Instance, fields=f"status.host={HOST}")
    await before.get(Flavor, "tiny")
    api.away = True
    after = LastKnownClient(api, tmp_path / "cache")
    page = await after.list(Instance, fields=f"status.host={HOST}")
    assert [i.uid for i in page.items] == [instance.uid]
    assert page.resource_version == listed.resource_version
    assert (await after.get(Flavor, "tiny")).spec.vcpus == 1
    with pytest.raises(Unavailable):
        await after.get(Flavor, "small")


async def test_what_a_watch_brings_is_known_too(world: World, tmp_path: Path) -> None:
    api = Away(world.client)
    client = LastKnownClient(api, tmp_path / "cache")
    page = await client.list(Instance)
    instance = await world.add_instance()
    async for event in client.watch(Instance, since=page.resource_version):
        if event.object is not None and event.object.status.host == HOST:
            break
    api.away = True
    found = await LastKnownClient(api, tmp_path / "cache").list(Instance)
    assert [i.uid for i in found.items] == [instance.uid]


async def test_after_a_real_list_the_old_one_is_never_served(world: World, tmp_path: Path) -> None:
    api = Away(world.client)
    client = LastKnownClient(api, tmp_path / "cache")
    await client.list(Instance)
    api.away = True
    with pytest.raises(Unavailable):
        await client.list(Instance)


async def test_an_object_that_is_gone_is_forgotten(world: World, tmp_path: Path) -> None:
    api = Away(world.client)
    client = LastKnownClient(api, tmp_path / "cache")
    with pytest.raises(NotFound):
        await client.get(Instance, "none", PROJECT)
    api.away = True
    with pytest.raises(Unavailable):
        await client.get(Instance, "none", PROJECT)
