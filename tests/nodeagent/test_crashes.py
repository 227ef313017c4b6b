"""The agent killed before and after each call to the outside, at every k: run again it always comes to the same end."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fakes.crash import Crasher, Killed, When
from tests.fakes.memory_etcd import MemoryEtcd
from tests.nodeagent.world import World
from vcstack.runtime.errors import ReconcileError
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER, RUNNING, UP_TO_DATE, NetworkInterface, PowerState
from vcstack.store.store import Store

Step = Callable[[World], Awaitable[None]]


async def create(world: World) -> None:
    await world.add_instance(nics=2)


async def change(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    cards = [NetworkInterface(name=f"eth{i}", network="web") for i in range(2)]
    await world.add_port(instance, cards[1])
    await world.update(network_interfaces=cards[1:], power_state=PowerState.PAUSED, flavor="small")


async def restart(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    tap = await world.tap_of(instance)
    world.hypervisor.stop_by_itself(instance.uid, "crashed")
    world.hypervisor.delete_tap(tap)
    world.switch.ports.clear()
    world.clock.skip(100)


async def recreate(world: World) -> None:
    instance = await world.add_instance()
    await world.settle()
    await (await world.parts()).storage.request_rebuild(instance, "task-1")


async def delete(world: World) -> None:
    instance = await world.add_instance(nics=2)
    await world.settle()
    await world.client.delete(instance.ref)


async def end_well(world: World) -> None:
    """Run on without crashes and check that all is as it should be, with nothing twice and nothing left."""
    world.clock.skip(200)
    for _ in range(4):
        await world.settle()
    instance = await world.get()
    if instance.deleting:
        assert DOMAIN_FINALIZER not in instance.metadata.finalizers
        world.assert_clean()
        return
    assert instance.is_true(RUNNING), instance.status.conditions
    assert list(world.hypervisor.machines) == [instance.uid]
    assert len(world.taps.taps) == len(world.switch.ports) == len(instance.spec.network_interfaces)
    assert all(t.held for t in world.taps.taps.values())
    assert sorted(world.taps.taps) == sorted(world.switch.ports)
    assert {p.name for p in world.layout.of_instance(instance.uid).folder.iterdir()} == {
        "made.json",
        "root.qcow2",
        "seed.iso",
    }
    condition = instance.find_condition(UP_TO_DATE)
    assert condition is not None
    assert condition.reason in ("UpToDate", "RebootRequired")


async def run_until_killed(world: World, crasher: Crasher) -> None:
    for _ in range(6):
        try:
            await world.reconcile(crasher=crasher)
        except Killed:
            return
        except ReconcileError:
            continue


@pytest.mark.parametrize("scenario", [create, change, restart, recreate, delete])
async def test_killed_at_every_call_it_still_comes_to_the_right_end(scenario: Step, tmp_path: Path) -> None:
    async def attempt(number: int, crasher: Crasher) -> None:
        async with Store(MemoryEtcd()) as store:
            folder = tmp_path / str(number)
            folder.mkdir()
            world = await World.create(store, folder)
            await scenario(world)
            await run_until_killed(world, crasher)
            await end_well(world)

    counter = Crasher()
    await attempt(0, counter)
    assert len(counter.calls) > 5
    number = 0
    for at in range(1, len(counter.calls) + 1):
        for when in When:
            number += 1
            await attempt(number, Crasher(at, when))
