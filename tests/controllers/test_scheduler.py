"""The scheduler: binds once, within the limits, and says why not."""

import asyncio

import pytest

from tests.fakes.world import PROJECT, World, sweep
from vcstack.controllers import scheduler
from vcstack.controllers.scheduler import Wakers
from vcstack.runtime.errors import WaitingFor
from vcstack.specs.errors import ClaimTaken, Unavailable
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import Capacity, Host, HostSpec, Overcommit, Scheduling
from vcstack.specs.kinds.instance import SCHEDULED, UP_TO_DATE, Instance, InstanceSpec, Placement
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.meta import Condition
from vcstack.specs.settings import HOSTS_MEMORY_OVERCOMMIT, SCHEDULER_STRATEGY


async def scheduled(world: World, name: str) -> tuple[str | None, Condition]:
    found = await world.get(Instance, name)
    condition = found.find_condition(SCHEDULED)
    assert condition is not None
    return found.status.host, condition


async def test_an_instance_is_bound_with_its_claim(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    made = await world.get(Instance, "web-1")
    assert made.status.host == "h1"
    assert made.status.allocated == Capacity(vcpus=1, memory_mib=128, disk_gib=1)
    assert made.is_true(SCHEDULED)
    assert "Scheduled" in await world.event_reasons()


async def test_it_takes_one_write_and_a_second_run_none(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.create_instance("web-1")
    before = world.etcd.writes
    await world.settle(scheduler.build)
    assert world.etcd.writes - before == 1
    assert await world.writes_of(scheduler.build) == 0


async def test_the_reason_for_every_rejected_host_is_kept(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1", scheduling=Scheduling.DISABLED)
    await world.create_host("h2", zone="b")
    await world.create(Host.new("h3", HostSpec(zone="a")))
    instance = await world.create_instance("web-1", placement=Placement(zone="a"))
    await world.settle(scheduler.build)
    host, condition = await scheduled(world, "web-1")
    assert host is None
    assert condition.reason == "Unschedulable"
    assert condition.message == (
        "None of 3 hosts fits: h1: its zone is not set, not a; h2: its zone is b, not a; "
        "h3: it is not Alive (not observed yet)."
    )
    assert isinstance(world.held[instance.ref], WaitingFor)
    assert await world.writes_of(scheduler.build) == 0

    await world.create_host("h4", zone="a")
    await world.settle(scheduler.build)
    host, condition = await scheduled(world, "web-1")
    assert host == "h4"
    assert "h3: it is not Alive" in condition.message


async def test_no_hosts_at_all_and_a_named_host_that_is_missing_are_said(world: World) -> None:
    await world.create_basics()
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    assert "no hosts" in (await scheduled(world, "web-1"))[1].message
    await world.create_host("h1")
    named = InstanceSpec(flavor="tiny", image="tiny", placement=Placement(host="h9"))
    await world.create_freely(Instance.new("web-2", named, project=PROJECT))
    await world.settle(scheduler.build)
    assert "Host h9" in (await scheduled(world, "web-2"))[1].message


async def test_a_missing_flavor_is_a_condition_until_it_is_there(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.create_freely(Instance.new("web-1", InstanceSpec(flavor="big", image="tiny"), project=PROJECT))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[1].reason == "FlavorNotFound"
    await world.create(Flavor.new("big", FlavorSpec(vcpus=2, memory_mib=256, root_disk_gib=1)))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[0] == "h1"


async def test_capacity_is_never_exceeded_when_many_are_bound_at_once(world: World) -> None:
    await world.create_basics()
    for n in range(3):
        await world.create_host(f"h{n}", memory=512 + 6 * 128)
    refs = [(await world.create_instance(f"web-{n}")).ref for n in range(20)]
    reconciler = world.controller(scheduler.build).reconciler
    await world.informers.relist()
    instances = [world.informers.of(Instance).get(ref) for ref in refs]
    tasks = [reconciler.reconcile(i, r) for i, r in zip(instances, refs, strict=True)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    bound: dict[str, int] = {}
    for found in (await world.admin.list(Instance)).items:
        if found.status.host:
            bound[found.status.host] = bound.get(found.status.host, 0) + 1
    assert bound == {"h0": 6, "h1": 6, "h2": 6}, "full, and all at the first attempt"
    assert sum(isinstance(r, WaitingFor) for r in results) == 2


async def test_the_store_refuses_what_a_second_scheduler_would_overbook(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1", memory=512 + 128)
    first, second = await world.create_instance("web-1"), await world.create_instance("web-2")
    await world.informers.relist()
    stale = World(world.store, world.etcd)
    ours, theirs = world.controller(scheduler.build), stale.controller(scheduler.build)
    for each in (world, stale):
        await each.informers.relist()
    await ours.reconciler.reconcile(await world.get(Instance, "web-1"), first.ref)
    with pytest.raises(ClaimTaken, match="memoryMiB"):
        await theirs.reconciler.reconcile(await world.get(Instance, "web-2"), second.ref)
    await stale.settle(scheduler.build)
    assert (await scheduled(world, "web-2"))[1].reason == "Unschedulable"


async def test_a_status_written_meanwhile_does_not_cost_a_retry(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    instance = await world.create_instance("web-1")
    controller = world.controller(scheduler.build)
    await world.informers.relist()
    await world.set_status(instance, false=["NetworkReady"])
    await controller.reconciler.reconcile(instance, instance.ref)
    assert (await scheduled(world, "web-1"))[0] == "h1"


async def test_a_bound_instance_is_never_bound_anew(world: World) -> None:
    await world.create_basics()
    lost = await world.create_host("h1")
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    await world.set_status(lost, false=["Alive"])
    await world.create_host("h2")
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[0] == "h1"


async def test_a_deleted_instance_is_not_bound(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    instance = await world.create_instance("web-1")
    await world.delete(instance)
    await world.settle(scheduler.build)
    assert (await world.get(Instance, "web-1")).status.host is None


async def test_room_given_back_is_used(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1", memory=512 + 128)
    first = await world.create_instance("a")
    await world.settle(scheduler.build)
    await world.create_instance("b")
    await world.settle(scheduler.build)
    assert (await scheduled(world, "b"))[0] is None
    await world.delete(first)
    await world.remove_finalizers(await world.get(Instance, "a"))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "b"))[0] == "h1"


async def test_spread_is_a_setting(world: World) -> None:
    spread = SettingSpec(setting=SCHEDULER_STRATEGY, value="Spread")
    await world.create_basics()
    await world.admin.create(Setting.new("spread", spread, project=PROJECT))
    for name in ("h1", "h2"):
        await world.create_host(name)
    for name in ("a", "b"):
        await world.create_instance(name)
    await world.settle(scheduler.build)
    assert {(await scheduled(world, "a"))[0], (await scheduled(world, "b"))[0]} == {"h1", "h2"}


async def test_more_overcommit_makes_room_for_those_that_wait(world: World) -> None:
    await world.create_basics()
    host = await world.create_host("h1")
    host.spec.overcommit = Overcommit(vcpu_percent=10_000)
    await world.admin.update(host)
    assert host.status.capacity is not None
    flavor = FlavorSpec(vcpus=1, memory_mib=host.status.capacity.memory_mib + 1, root_disk_gib=1)
    await world.create_freely(Flavor.new("large", flavor))
    wanted = InstanceSpec(flavor="large", image="tiny")
    await world.create_freely(Instance.new("web-1", wanted, project=PROJECT))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[1].reason == "Unschedulable"
    more = await world.admin.create(Setting.new("more", SettingSpec(setting=HOSTS_MEMORY_OVERCOMMIT, value=400)))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[0] == "h1"
    await world.admin.delete(more.ref)
    await world.create_freely(Instance.new("web-2", wanted, project=PROJECT))
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[0] == "h1", "what runs stays"
    assert (await scheduled(world, "web-2"))[1].reason == "Unschedulable"


async def test_a_new_generation_of_a_bound_instance_is_observed(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    changed = await world.get(Instance, "web-1")
    changed.spec.network_interfaces = []
    await world.admin.update(changed)
    await world.settle(scheduler.build)
    assert (await world.get(Instance, "web-1")).is_true(SCHEDULED)


async def resize(world: World, flavor: FlavorSpec) -> Instance:
    await world.create(Flavor.new("other", flavor))
    instance = await world.get(Instance, "web-1")
    instance.spec.flavor = "other"
    await world.admin.update(instance)
    await world.settle(scheduler.build)
    return await world.get(Instance, "web-1")


async def test_a_larger_flavor_is_claimed_at_once_and_the_old_one_kept_until_it_is_in_force(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    resized = await resize(world, FlavorSpec(vcpus=2, memory_mib=64, root_disk_gib=1))
    assert resized.status.allocated == Capacity(vcpus=2, memory_mib=128, disk_gib=1)
    await world.set_status(resized, UP_TO_DATE)
    await world.settle(scheduler.build)
    done = await world.get(Instance, "web-1")
    assert done.status.allocated == Capacity(vcpus=2, memory_mib=64, disk_gib=1)


async def test_a_larger_flavor_that_does_not_fit_its_host_is_refused_in_a_condition(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1", memory=1024)
    await world.create_instance("web-1")
    await world.settle(scheduler.build)
    resized = await resize(world, FlavorSpec(vcpus=1, memory_mib=4096, root_disk_gib=1))
    assert resized.status.allocated == Capacity(vcpus=1, memory_mib=128, disk_gib=1)
    condition = resized.find_condition(SCHEDULED)
    assert condition is not None
    assert condition.reason == "ResizeDoesNotFit"
    assert "512 free" in condition.message
    assert await world.writes_of(scheduler.build) == 0


async def test_a_failed_write_leaves_no_assumption_behind(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1", memory=512 + 128)
    await world.create_instance("web-1")

    def fail(call: str, phase: str) -> None:
        if call == "txn" and phase == "before":
            world.etcd.hook = lambda call, phase: None
            raise Unavailable("etcd is away")

    world.etcd.hook = fail  # type: ignore[assignment]
    await world.settle(scheduler.build)
    await world.settle(scheduler.build)
    assert (await scheduled(world, "web-1"))[0] == "h1"


async def test_pending_instances_are_woken_by_hosts_that_changed_what_they_offer(world: World) -> None:
    await world.create_basics()
    made = await world.create_host("h1", scheduling=Scheduling.DISABLED)
    pending = await world.create_instance("web-1")
    wakers = Wakers(world.context)
    await world.informers.relist()
    assert list(wakers.on_host(made)) == [pending.ref]
    assert list(wakers.on_host(made)) == [], "nothing new"
    counted = await world.set_status(made, allocated=Capacity().to_wire(), instanceCount=3)
    assert list(wakers.on_host(counted)) == [], "what is claimed of it is no offer"
    made = await world.get(Host, "h1")
    made.spec.scheduling = Scheduling.ENABLED
    assert list(wakers.on_host(await world.admin.update(made))) == [pending.ref]


async def test_killed_anywhere_an_instance_is_bound_once_within_the_limits() -> None:
    async def scenario(world: World) -> None:
        await world.create_basics()
        await world.create_host("h1", memory=512 + 256)
        for name in ("a", "b", "c"):
            await world.create_instance(name)
        await world.settle(scheduler.build)
        hosts = [(await world.get(Instance, name)).status.host for name in ("a", "b", "c")]
        assert hosts.count("h1") == 2

    assert await sweep(scenario) >= 3
