"""The health of Git sources: what is said of how many objects, for what it is written, and who wakes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import make_account, make_project
from vcstack.clock import SystemClock
from vcstack.controllers import gitsource_health
from vcstack.controllers.gitsource_health import NAMED, PACE_SECONDS
from vcstack.runtime.manager import Manager
from vcstack.specs.kinds.gitsource import APPLIED, FETCHED, HEALTHY, GitSource, GitSourceSpec
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.meta import APPLY_SET_LABEL, Condition, ConditionStatus
from vcstack.store.actor import Actor

REALIZED = "Realized"
PATIENCE = 60.0


class Source:
    """A source that has applied some networks, and who plays what makes them."""

    def __init__(self, world: World, source: GitSource) -> None:
        self.world, self.source = world, source

    async def add(self, *names: str, source: GitSource | None = None) -> None:
        by = source or self.source
        for name in names:
            await self.world.store.bound(Actor("tests", by.manager)).create(labelled(name, by))

    async def applied(self, objects: int, *, well: bool = True) -> None:
        """Do as the controller that applies."""
        true, false = (FETCHED, *([APPLIED] if well else [])), () if well else (APPLIED,)
        await self.world.set_status(self.source, *true, false=false, objects=objects)

    async def make(self, *names: str, well: bool = True) -> None:
        """Do as the controller of networks."""
        for name in names:
            network = await self.world.get(Network, name)
            await self.world.set_status(network, *([REALIZED] if well else []), false=() if well else [REALIZED])

    async def look(self) -> tuple[str, str, str]:
        """Let the time pass until it is looked at again, and return what is said."""
        self.world.clock.skip(PACE_SECONDS)
        return await self.look_now()

    async def look_now(self) -> tuple[str, str, str]:
        await self.world.settle(gitsource_health.build)
        healthy = await self.healthy()
        return healthy.status.value, healthy.reason, healthy.message

    async def healthy(self) -> Condition:
        found = (await self.get()).find_condition(HEALTHY)
        assert found is not None
        return found

    async def get(self) -> GitSource:
        return await self.world.get(GitSource, self.source.metadata.name)

    async def suspend(self) -> None:
        found = await self.get()
        found.spec.suspend = True
        await self.world.admin.update(found)


def labelled(name: str, source: GitSource, project: str = PROJECT) -> Network:
    network = Network.new(name, NetworkSpec(), project=project)
    network.metadata.labels[APPLY_SET_LABEL] = source.set_name
    return network


async def make_source(world: World, name: str = "shop") -> GitSource:
    spec = GitSourceSpec(url="https://git.example.com/shop.git", service_account="deployer")
    return await world.create(GitSource.new(name, spec, project=PROJECT))


@pytest.fixture
async def source(world: World) -> Source:
    await make_project(world)
    await make_account(world, "deployer")
    return Source(world, await make_source(world))


async def test_nothing_is_said_before_something_was_to_be_applied(source: Source) -> None:
    await source.world.settle(gitsource_health.build)
    assert (await source.get()).find_condition(HEALTHY) is None
    await source.world.set_status(source.source, FETCHED, false=[APPLIED])
    assert await source.look() == ("Unknown", "NothingApplied", "Nothing has been applied yet; Applied says why.")


async def test_it_is_healthy_when_all_that_it_applied_is_ready(source: Source) -> None:
    await source.add("a", "b")
    await source.applied(2)
    told = "2 of 2 objects are not known to be ready: Network demo/a (NotObserved), Network demo/b (NotObserved)."
    assert await source.look() == ("Unknown", "Progressing", told)
    await source.make("a")
    told = "1 of 2 objects is not known to be ready: Network demo/b (NotObserved)."
    assert await source.look() == ("Unknown", "Progressing", told)
    await source.make("b")
    assert await source.look() == ("True", "AllReady", "2 objects are ready.")
    assert await source.world.writes_of(gitsource_health.build) == 0


async def test_what_fails_is_named_with_its_reason_and_the_rest_is_counted(source: Source) -> None:
    names = [f"n{i}" for i in range(NAMED + 3)]
    await source.add(*names, "well")
    await source.make(*names, well=False)
    await source.make("well")
    await source.applied(NAMED + 4)
    listed = ", ".join(f"Network demo/{name} (Test)" for name in names[:NAMED])
    assert await source.look() == ("False", "NotReady", f"8 of 9 objects are not ready: {listed} and 3 more.")
    # What is on its way beside it does not hide it, and Ready says what it said.
    await source.add("new")
    await source.applied(NAMED + 5)
    assert (await source.look())[:2] == ("False", "NotReady")
    assert (await source.get()).is_true("Ready")


async def test_objects_whose_last_change_was_not_observed_or_that_are_going_are_not_known_to_be_ready(
    source: Source,
) -> None:
    await source.add("a", "b")
    await source.make("a", "b")
    await source.applied(2)
    assert (await source.look())[0] == "True"
    network = await source.world.get(Network, "a")
    network.spec.mtu_bytes = 1300
    await source.world.admin.update(network)
    await source.world.delete(await source.world.get(Network, "b"))
    told = "2 of 2 objects are not known to be ready: Network demo/a (NewGeneration), Network demo/b (Deleting)."
    assert await source.look() == ("Unknown", "Progressing", told)


async def test_an_object_that_is_not_there_is_missed_and_for_good_where_nobody_makes_it(source: Source) -> None:
    await source.add("a")
    await source.make("a")
    await source.applied(3, well=False)
    told = "2 of 3 objects are not there; Applied says why if that lasts."
    assert await source.look() == ("Unknown", "Missing", told)
    await source.suspend()
    told = "2 of 3 objects are not there, and a suspended source makes nothing."
    assert await source.look() == ("False", "Missing", told)


async def test_a_suspended_source_says_how_its_objects_are(source: Source) -> None:
    await source.add("a")
    await source.make("a")
    await source.applied(1)
    await source.suspend()
    await source.applied(1)
    assert await source.look() == ("True", "AllReady", "1 object is ready.")
    await source.make("a", well=False)
    told = "1 of 1 object is not ready: Network demo/a (Test)."
    assert await source.look() == ("False", "NotReady", told)


async def test_it_is_of_the_generation_that_was_applied(source: Source) -> None:
    await source.add("a")
    await source.make("a")
    await source.applied(1)
    await source.look()
    found = await source.get()
    found.spec.path = "elsewhere"
    await source.world.admin.update(found)
    assert (await source.look())[0] == "True"
    assert not (await source.get()).is_true(HEALTHY), "nobody has applied what is asked for now"
    await source.applied(1)
    await source.look()
    assert (await source.get()).is_true(HEALTHY)


async def test_a_source_that_applies_itself_does_not_wait_for_itself(source: Source) -> None:
    found = await source.get()
    found.metadata.labels[APPLY_SET_LABEL] = found.set_name
    await source.world.store.bound(Actor("tests", found.manager)).update(found)
    await source.applied(1, well=False)
    assert await source.look() == ("True", "AllReady", "1 object is ready.")


async def test_others_objects_do_not_count(source: Source) -> None:
    other = await make_source(source.world, "other")
    await source.add("a")
    await source.add("b", source=other)
    await source.world.create(Network.new("mine", NetworkSpec(), project=PROJECT))
    await make_project(source.world, "theirs")
    await source.world.create(labelled("theirs", source.source, "theirs"))
    await source.make("a")
    await source.make("b", well=False)
    await source.applied(1)
    await source.world.set_status(other, FETCHED, APPLIED, objects=1)
    assert (await source.look())[0] == "True"
    assert (await Source(source.world, other).healthy()).status is ConditionStatus.FALSE


async def test_objects_that_come_and_go_cost_one_look_in_a_while(source: Source) -> None:
    names = [f"n{i}" for i in range(8)]
    await source.add(*names)
    await source.make(*names)
    await source.applied(8)
    await source.look()
    version = (await source.get()).metadata.resource_version
    for name in names:
        await source.make(name, well=False)
        await source.look_now()
    assert (await source.get()).metadata.resource_version == version
    assert (await source.look())[0] == "False"
    # Whoever is back before anybody looked was never away.
    version = (await source.get()).metadata.resource_version
    for name in names:
        await source.make(name)
        await source.make(name, well=False)
    await source.look()
    assert (await source.get()).metadata.resource_version == version


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    """Run the controller as the manager does, whose next look at everything is minutes away."""
    builds = {"gitsource_health": gitsource_health.build}
    manager = Manager(builds, world.client, clock=SystemClock(), actor="tests", backends=world.backends)
    stop = asyncio.Event()
    task = asyncio.create_task(manager.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(check: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await check():
            await asyncio.sleep(0.02)


async def test_any_change_of_an_object_wakes_its_source(source: Source) -> None:
    await source.add("a", "b")
    await source.make("a", "b")
    await source.applied(2)

    async def said(status: ConditionStatus, reason: str) -> bool:
        found = (await source.get()).find_condition(HEALTHY)
        return found is not None and (found.status, found.reason) == (status, reason)

    async with running(source.world):
        await until(lambda: said(ConditionStatus.TRUE, "AllReady"))
        await source.make("a", well=False)
        await until(lambda: said(ConditionStatus.FALSE, "NotReady"))
        await source.make("a")
        await until(lambda: said(ConditionStatus.TRUE, "AllReady"))
        gone = await source.world.get(Network, "b")
        await source.world.delete(gone)
        await until(lambda: said(ConditionStatus.UNKNOWN, "Progressing"))
        await source.world.remove_finalizers(gone)
        await until(lambda: said(ConditionStatus.UNKNOWN, "Missing"))
        await source.applied(1)
        await until(lambda: said(ConditionStatus.TRUE, "AllReady"))
        # What was said of the commit before is taken back by whoever applies the next one.
        await source.world.set_status(source.source, false=[HEALTHY])
        await until(lambda: said(ConditionStatus.TRUE, "AllReady"))
