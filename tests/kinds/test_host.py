"""Hosts: alive by their lease, counted by their instances, kept while instances are bound."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.world import FakeHeartbeats, World
from vcstack.controllers import host, instance, setting
from vcstack.controllers.capacity import Standard, build_allocatable
from vcstack.controllers.host import COUNT_SECONDS, HostReconciler
from vcstack.runtime.users import DELETABLE
from vcstack.specs.kinds.host import (
    AGENT_READY,
    ALIVE,
    OUT_OF_SERVICE,
    Capacity,
    Host,
    HostSpec,
    HostStatus,
    Overcommit,
)
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER, Instance
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.meta import ConditionStatus, ObjectMeta
from vcstack.specs.resource import Ref
from vcstack.specs.settings import HOSTS_MEMORY_OVERCOMMIT, HOSTS_VCPU_OVERCOMMIT


async def beat(world: World, *live: str) -> list[Ref]:
    """Tell the controller once who is alive; return whom it would look at."""
    world.heartbeats.live = frozenset(live)
    reconciler = world.controller(host.build).reconciler
    assert isinstance(reconciler, HostReconciler)
    return [ref async for ref in reconciler.follow_heartbeats()]


async def alive(world: World, name: str, type_: str = ALIVE) -> tuple[ConditionStatus, str]:
    condition = (await world.get(Host, name)).find_condition(type_)
    assert condition is not None
    return condition.status, condition.reason


async def state(world: World, name: str, *, out_of_service: bool) -> Host:
    """State whether the host's machine is off or lost, as an operator does."""
    found = await world.get(Host, name)
    found.spec.out_of_service = out_of_service
    return await world.admin.update(found)


async def test_a_host_with_a_lease_and_a_ready_agent_is_ready(world: World) -> None:
    made = await world.create(Host.new("h1", HostSpec()))
    await world.set_status(made, AGENT_READY)
    await world.settle(host.build)
    assert (await world.get(Host, "h1")).find_condition(ALIVE) is None, "nothing is known of leases yet"
    assert await beat(world, "h1") == [made.ref]
    await world.settle(host.build)
    assert (await world.get(Host, "h1")).is_true("Ready")


async def test_a_lost_lease_makes_it_unknown_and_a_new_one_alive_again(world: World) -> None:
    await world.create_host("h1")
    await world.create_host("h2")
    await beat(world, "h1", "h2")
    await world.settle(host.build)
    assert await beat(world, "h2") == [Ref("Host", None, "h1")], "only the host that changed is looked at"
    await world.settle(host.build)
    assert await alive(world, "h1") == (ConditionStatus.UNKNOWN, "LeaseLost")
    assert await alive(world, "h2") == (ConditionStatus.TRUE, "LeaseHeld")
    ready = (await world.get(Host, "h1")).find_condition("Ready")
    assert ready is not None
    assert ready.status is ConditionStatus.UNKNOWN
    assert "vc-compute" in ready.message
    await beat(world, "h1", "h2")
    await world.settle(host.build)
    assert await alive(world, "h1") == (ConditionStatus.TRUE, "LeaseHeld")
    assert {"HostLost", "HostAlive"} <= set(await world.event_reasons())


async def test_steady_heartbeats_write_nothing(world: World) -> None:
    await world.create_host("h1")
    await beat(world, "h1")
    await world.settle(host.build)
    before = world.etcd.writes
    for _ in range(5):
        assert await beat(world, "h1") == []
        await world.settle(host.build)
    assert world.etcd.writes == before


def test_allocatable_is_capacity_less_the_reserve_times_overcommit() -> None:
    spec = HostSpec(
        overcommit=Overcommit(vcpu_percent=400, memory_percent=150, disk_percent=90), reserved_memory_mib=512
    )
    status = HostStatus(capacity=Capacity(vcpus=4, memory_mib=2512, disk_gib=100))
    measured = Host(metadata=ObjectMeta(name="h1"), spec=spec, status=status)
    standard = Standard(vcpu_percent=200, memory_percent=50)
    assert build_allocatable(measured, standard) == Capacity(vcpus=16, memory_mib=3000, disk_gib=90)
    plain = measured.model_copy(update={"spec": HostSpec(reserved_memory_mib=512)})
    assert build_allocatable(plain, standard) == Capacity(vcpus=8, memory_mib=1000, disk_gib=100)
    assert build_allocatable(Host(metadata=ObjectMeta(name="h1")), standard) is None


async def test_overcommit_that_is_set_for_the_cloud_holds_at_once_where_the_host_says_nothing(world: World) -> None:
    await world.create_host("h1")
    own = await world.create_host("h2")
    own.spec.overcommit = Overcommit(memory_percent=150)
    await world.admin.update(own)
    await world.settle(host.build)
    plain, kept = await world.get(Host, "h1"), await world.get(Host, "h2")
    assert plain.status.overcommit == Overcommit(vcpu_percent=400, memory_percent=100)
    assert kept.status.overcommit == Overcommit(vcpu_percent=400, memory_percent=150)
    assert plain.status.capacity is not None
    await world.admin.create(Setting.new("cpu", SettingSpec(setting=HOSTS_VCPU_OVERCOMMIT, value=200)))
    memory = await world.admin.create(Setting.new("memory", SettingSpec(setting=HOSTS_MEMORY_OVERCOMMIT, value=120)))
    await world.settle(host.build)
    plain, kept = await world.get(Host, "h1"), await world.get(Host, "h2")
    assert plain.status.overcommit == Overcommit(vcpu_percent=200, memory_percent=120)
    assert plain.status.allocatable == build_allocatable(plain, Standard(200, 120))
    assert kept.status.overcommit == Overcommit(vcpu_percent=200, memory_percent=150)
    await world.admin.delete(memory.ref)
    await world.settle(host.build, setting.build)
    assert (await world.get(Host, "h1")).status.overcommit == Overcommit(vcpu_percent=200, memory_percent=100)
    assert await world.writes_of(host.build) == 0


async def test_what_instances_claim_is_counted_at_most_once_a_second(world: World) -> None:
    await world.create_basics()
    await world.create_host("h1")
    await world.settle(host.build)
    for n in range(3):
        instance = await world.create_instance(f"web-{n}")
        await world.bind(instance, "h1")
        await world.settle(host.build)
    assert (await world.get(Host, "h1")).status.instance_count == 0
    world.clock.skip(COUNT_SECONDS)
    await world.settle(host.build)
    counted = (await world.get(Host, "h1")).status
    assert counted.instance_count == 3
    assert counted.allocated == Capacity(vcpus=3, memory_mib=384, disk_gib=3)


async def test_a_host_with_instances_stays_and_names_them(world: World) -> None:
    await world.create_basics()
    made = await world.create_host("h1")
    instance = await world.bind(await world.create_instance("web-1"), "h1")
    await world.delete(made)
    await world.settle(host.build)
    held = (await world.get(Host, "h1")).find_condition(DELETABLE)
    assert held is not None
    assert held.reason == "InstancesBound"
    assert "Instance demo/web-1" in held.message
    await world.delete(instance)
    found = await world.get(Instance, "web-1")
    assert DOMAIN_FINALIZER in found.metadata.finalizers
    await world.remove_finalizers(found)
    await world.settle(host.build)
    assert await world.find(Host, "h1") is None


async def test_a_source_of_heartbeats_is_needed(world: World) -> None:
    world.backends.clear()
    with pytest.raises(LookupError, match="heartbeats"):
        world.controller(host.build)


async def test_a_stream_that_breaks_and_comes_back_changes_only_what_changed(world: World) -> None:
    class Twice(FakeHeartbeats):
        async def live_hosts(self) -> AsyncIterator[frozenset[str]]:
            yield frozenset({"h1"})
            yield frozenset({"h1", "h2"})

    await world.create_host("h1")
    world.backends["heartbeats"] = Twice()
    await world.settle(host.build)
    assert await beat(world) == [Ref("Host", None, "h1"), Ref("Host", None, "h2")]


async def test_of_a_host_out_of_service_nothing_is_known_whatever_it_had_told(world: World) -> None:
    await world.create_host("h1")
    await beat(world, "h1")
    await world.settle(host.build)
    await state(world, "h1", out_of_service=True)
    await world.settle(host.build)
    stated = ConditionStatus.UNKNOWN, OUT_OF_SERVICE
    assert (await alive(world, "h1"), await alive(world, "h1", AGENT_READY)) == (stated, stated)
    assert OUT_OF_SERVICE in await world.event_reasons()
    # What the agent had on its way then comes late.
    await world.set_status(await world.get(Host, "h1"), AGENT_READY)
    await world.settle(host.build)
    assert await alive(world, "h1", AGENT_READY) == stated
    assert await world.writes_of(host.build) == 0


async def test_a_host_in_service_again_is_ready_when_its_agent_says_so(world: World) -> None:
    made = await world.create_host("h1")
    await state(world, "h1", out_of_service=True)
    await world.settle(host.build)
    await state(world, "h1", out_of_service=False)
    await beat(world)
    await world.settle(host.build)
    assert await alive(world, "h1") == (ConditionStatus.UNKNOWN, "LeaseLost")
    assert await alive(world, "h1", AGENT_READY) == (ConditionStatus.UNKNOWN, "NotReported")
    await beat(world, "h1")
    await world.set_status(made, AGENT_READY)
    await world.settle(host.build)
    assert (await world.get(Host, "h1")).is_true("Ready")


async def test_a_host_out_of_service_goes_when_nothing_is_bound_to_it(world: World) -> None:
    await world.create_basics()
    made = await world.create_host("h1")
    bound = await world.bind(await world.create_instance("web-1"), "h1")
    await beat(world)
    await world.delete(made)
    await world.settle(host.build)
    held = (await world.get(Host, "h1")).find_condition(DELETABLE)
    assert held is not None
    assert held.message.endswith("If the machine is off or lost for good, state it: spec.outOfService.")
    await state(world, "h1", out_of_service=True)
    await world.settle(host.build, instance.build)
    held = (await world.get(Host, "h1")).find_condition(DELETABLE)
    assert held is not None
    assert held.message == "Instance demo/web-1 still bound to it; delete them first."
    await world.delete(bound)
    await world.settle(host.build, instance.build)
    for port in (await world.admin.list(Port)).items:
        await world.remove_finalizers(port)
    await world.settle(instance.build, host.build)
    assert await world.find(Host, "h1") is None
