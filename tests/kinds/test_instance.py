"""Instances, the manager's part: ports, addresses, NetworkReady and the order of the end."""

import pytest

from tests.fakes.world import PROJECT, World, sweep
from vcstack.controllers import instance
from vcstack.runtime.errors import WaitingFor
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.host import OUT_OF_SERVICE, Host
from vcstack.specs.kinds.instance import (
    DOMAIN_FINALIZER,
    NETWORK_READY,
    OBSERVED_ON_HOST,
    RUNNING,
    Instance,
    InterfaceAddress,
    NetworkInterface,
    PowerState,
)
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import ALLOCATED, REALIZED, UP, Port, PortSpec
from vcstack.specs.kinds.quota import Quota, QuotaSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupSpec
from vcstack.specs.meta import Condition, ConditionStatus


async def settle_late(world: World) -> None:
    """Settle, and again when what only passes by would have passed."""
    await world.settle(instance.build)
    world.clock.skip(instance.PASSING_SECONDS)
    await world.settle(instance.build)


async def network_ready(world: World, name: str = "web-1") -> Condition:
    condition = (await world.get(Instance, name)).find_condition(NETWORK_READY)
    assert condition is not None
    return condition


async def ports(world: World) -> list[Port]:
    return sorted((await world.admin.list(Port)).items, key=lambda p: p.ref)


async def change(world: World, *nics: NetworkInterface) -> Instance:
    found = await world.get(Instance, "web-1")
    found.spec.network_interfaces = list(nics)
    changed = await world.admin.update(found)
    await world.settle(instance.build)
    return changed


async def agent_looks(world: World) -> None:
    """The agent has plugged and unplugged what the present spec asks for."""
    await world.set_status(await world.get(Instance, "web-1"), RUNNING)
    await world.settle(instance.build)


async def test_a_port_is_made_for_each_interface(world: World) -> None:
    await world.create_basics()
    await world.create(SecurityGroup.new("ssh", SecurityGroupSpec(), project=PROJECT))
    nics = [
        NetworkInterface(name="eth0", network="web"),
        NetworkInterface(name="eth1", network="web", subnet="web-v4", address="10.10.0.7", security_groups=["ssh"]),
    ]
    made = await world.create_instance("web-1", network_interfaces=nics)
    await world.settle(instance.build)
    first, second = await ports(world)
    assert first.metadata.name == f"{made.uid}-eth0"
    assert first.spec == PortSpec(network="web")
    assert second.spec == PortSpec(network="web", subnet="web-v4", address="10.10.0.7", security_groups=["ssh"])
    assert first.metadata.labels == {"vcstack.io/instance": "web-1"}
    owner = first.metadata.owner_references[0]
    assert (owner.uid, owner.controller, owner.block_owner_deletion) == (made.uid, True, True)
    assert first.status.host is None, "not bound yet"


async def test_a_second_run_writes_nothing(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.realize_ports()
    await world.settle(instance.build)
    assert await world.writes_of(instance.build) == 0


async def test_a_bound_instance_tells_its_ports_the_host(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    port = (await ports(world))[0]
    assert (port.status.instance, port.status.host) == ("web-1", "h1")


async def test_addresses_are_those_that_the_ports_hold(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.realize_ports()
    await world.settle(instance.build)
    addresses = (await world.get(Instance, "web-1")).status.addresses
    assert addresses == [InterfaceAddress(interface="eth0", address="10.10.0.10", mac="52:54:00:00:00:0a")]


async def test_network_ready_says_what_it_waits_for_until_all_is_up(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await settle_late(world)
    assert (await network_ready(world)).reason == "AllocatedPending"
    await world.realize_ports(ALLOCATED)
    await settle_late(world)
    assert (await network_ready(world)).reason == "RealizedPending"
    await world.set_status((await ports(world))[0], false=[REALIZED])
    await world.settle(instance.build)
    waiting = await network_ready(world)
    assert (waiting.reason, waiting.message.split(":")[0]) == ("Test", "eth0")
    await world.realize_ports(ALLOCATED, REALIZED)
    await settle_late(world)
    assert (await network_ready(world)).reason == "PortNotUp"
    await world.realize_ports()
    await world.settle(instance.build)
    assert (await network_ready(world)).status is ConditionStatus.TRUE


async def test_what_a_new_port_goes_through_within_moments_is_not_written(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.realize_ports(ALLOCATED)
    await world.settle(instance.build)
    assert (await world.get(Instance, "web-1")).find_condition(NETWORK_READY) is None
    await world.realize_ports()
    await world.settle(instance.build)
    assert (await network_ready(world)).status is ConditionStatus.TRUE


async def test_a_port_that_goes_down_is_told_at_once(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.realize_ports()
    await world.settle(instance.build)
    await world.set_status((await ports(world))[0], false=[UP])
    await world.settle(instance.build)
    assert (await network_ready(world)).reason == "PortNotUp"


async def test_a_stopped_instance_needs_no_port_that_is_up(world: World) -> None:
    await world.create_basics()
    await world.create_instance("web-1", power_state=PowerState.STOPPED)
    await world.settle(instance.build)
    await world.realize_ports(ALLOCATED, REALIZED)
    await world.settle(instance.build)
    assert (await network_ready(world)).status is ConditionStatus.TRUE


async def test_an_instance_without_interfaces_is_network_ready(world: World) -> None:
    await world.create_basics()
    await world.create_instance("web-1", network_interfaces=[])
    await world.settle(instance.build)
    assert (await network_ready(world)).status is ConditionStatus.TRUE


async def test_a_deleted_port_is_made_anew(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    lost = (await ports(world))[0]
    await world.delete(lost)
    await settle_late(world)
    assert (await network_ready(world)).reason == "PortPending"
    await world.remove_finalizers((await ports(world))[0])
    await world.settle(instance.build)
    made = (await ports(world))[0]
    assert made.uid != lost.uid
    assert made.status.host == "h1"


async def test_a_wrong_host_on_a_port_is_repaired(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.set_status((await ports(world))[0], host="h7")
    await world.settle(instance.build)
    assert (await ports(world))[0].status.host == "h1"


async def test_a_port_for_which_a_quota_leaves_no_room_is_told_and_made_when_there_is(world: World) -> None:
    await world.create_basics()
    await world.admin.create(Quota.new("small", QuotaSpec(limits={"ports": 1}), project=PROJECT))
    nics = [NetworkInterface(name=name, network="web") for name in ("eth0", "eth1")]
    await world.bind(await world.create_instance("web-1", network_interfaces=nics), "h1")
    await world.settle(instance.build)
    await world.realize_ports()
    await world.settle(instance.build)
    condition = await network_ready(world)
    assert (condition.status, condition.reason) == (ConditionStatus.FALSE, "QuotaExceeded")
    assert "ports: 1 asked, 1 of 1 in use (quota small of project demo)" in condition.message
    assert len(await ports(world)) == 1
    quota = await world.admin.get(Quota, "small", PROJECT)
    quota.spec.limits = {"ports": 2}
    await world.admin.update(quota)
    await world.settle(instance.build)
    await world.realize_ports()
    await world.settle(instance.build)
    assert (await network_ready(world)).status is ConditionStatus.TRUE


async def test_changed_security_groups_reach_the_port(world: World) -> None:
    await world.create_basics()
    await world.create(SecurityGroup.new("ssh", SecurityGroupSpec(), project=PROJECT))
    await world.create_instance("web-1")
    await world.settle(instance.build)
    before = (await ports(world))[0]
    await change(world, NetworkInterface(name="eth0", network="web", security_groups=["ssh"]))
    after = (await ports(world))[0]
    assert (after.uid, after.spec.security_groups) == (before.uid, ["ssh"])
    await change(world, NetworkInterface(name="eth0", network="web"))
    assert (await ports(world))[0].spec.security_groups is None


async def test_an_added_interface_gets_a_port(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    nics = [NetworkInterface(name=name, network="web") for name in ("eth0", "eth1")]
    await change(world, *nics)
    assert [p.metadata.name.split("-")[-1] for p in await ports(world)] == ["eth0", "eth1"]


async def test_the_port_of_a_removed_interface_goes_when_the_agent_has_unplugged_it(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await agent_looks(world)
    await change(world)
    assert not (await ports(world))[0].deleting, "the agent has not looked at the change yet"
    await agent_looks(world)
    assert (await ports(world))[0].deleting


async def test_a_port_of_an_interface_moved_to_another_network_is_made_anew(world: World) -> None:
    await world.create_basics()
    await world.create(Network.new("db", NetworkSpec(), project=PROJECT))
    await world.create_instance("web-1")
    await world.settle(instance.build)
    before = (await ports(world))[0]
    await change(world, NetworkInterface(name="eth0", network="db"))
    assert (await ports(world))[0].deleting
    await world.remove_finalizers((await ports(world))[0])
    await world.settle(instance.build)
    after = (await ports(world))[0]
    assert (after.spec.network, after.uid != before.uid) == ("db", True)


async def test_the_port_of_a_moved_interface_stays_until_the_agent_has_unplugged_it(world: World) -> None:
    await world.create_basics()
    await world.create(Network.new("db", NetworkSpec(), project=PROJECT))
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.set_status(await world.get(Instance, "web-1"), startedAt="2026-01-01T00:00:00Z")
    await agent_looks(world)
    await change(world, NetworkInterface(name="eth0", network="db"))
    (port,) = await ports(world)
    assert (port.spec.network, port.deleting) == ("web", False)
    await agent_looks(world)
    (port,) = await ports(world)
    assert port.deleting


async def create_named(world: World) -> Port:
    named = await world.create(Port.new("mine", PortSpec(network="web"), project=PROJECT))
    made = await world.create_instance("web-1", network_interfaces=[NetworkInterface(name="eth0", port="mine")])
    await world.bind(made, "h1")
    await world.settle(instance.build)
    return named


async def test_a_named_port_is_attached_and_let_go_again_unharmed(world: World) -> None:
    await world.create_basics()
    named = await create_named(world)
    port = (await ports(world))[0]
    assert (port.uid, port.status.instance, port.status.host) == (named.uid, "web-1", "h1")
    await change(world)
    await agent_looks(world)
    port = (await ports(world))[0]
    assert (port.status.instance, port.status.host, port.deleting) == (None, None, False)


async def test_a_missing_named_port_is_a_condition(world: World) -> None:
    await world.create_basics()
    named = await create_named(world)
    await world.system.remove_finalizer(named, *named.metadata.finalizers)
    await world.delete(named)
    await world.settle(instance.build)
    condition = await network_ready(world)
    assert (condition.reason, condition.status) == ("PortNotUsable", ConditionStatus.FALSE)
    assert "port mine" in condition.message
    await world.create(Port.new("mine", PortSpec(network="web"), project=PROJECT))
    await world.settle(instance.build)
    assert (await network_ready(world)).reason == "AllocatedPending"


async def test_a_port_that_another_instance_has_not_let_go_is_waited_for(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("other", network_interfaces=[]), "h2")  # still plugged there
    await create_named(world)
    await world.set_status((await ports(world))[0], instance="other", host="h2")
    await world.settle(instance.build)
    assert (await network_ready(world)).reason == "PortNotUsable"
    other = await world.get(Instance, "other")
    await world.delete(other)
    await world.remove_finalizers(await world.get(Instance, "other"))
    await world.settle(instance.build)
    assert (await ports(world))[0].status.instance == "web-1", "who had it is gone"


async def test_an_unbound_instance_goes_with_its_ports(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1")
    await world.settle(instance.build)
    await world.delete(made)
    await world.settle(instance.build)
    left = await world.get(Instance, "web-1")
    assert DOMAIN_FINALIZER not in left.metadata.finalizers
    assert isinstance(world.held[left.ref], WaitingFor)
    await world.remove_finalizers((await ports(world))[0])
    await world.settle(instance.build)
    assert await world.find(Instance, "web-1") is None


async def test_the_ports_of_a_bound_instance_stay_until_the_host_is_clean(world: World) -> None:
    await world.create_basics()
    made = await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await world.delete(made)
    await world.settle(instance.build)
    assert not (await ports(world))[0].deleting
    await world.system.remove_finalizer(await world.get(Instance, "web-1"), DOMAIN_FINALIZER)
    await world.settle(instance.build)
    assert (await ports(world))[0].deleting
    await world.remove_finalizers((await ports(world))[0])
    await world.settle(instance.build)
    assert await world.find(Instance, "web-1") is None


async def test_a_named_port_outlives_its_instance(world: World) -> None:
    await world.create_basics()
    await create_named(world)
    await world.delete(await world.get(Instance, "web-1"))
    await world.system.remove_finalizer(await world.get(Instance, "web-1"), DOMAIN_FINALIZER)
    await world.settle(instance.build)
    assert await world.find(Instance, "web-1") is None
    port = (await ports(world))[0]
    assert (port.status.instance, port.status.host, port.deleting) == (None, None, False)


async def test_finalizing_twice_is_harmless(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1", network_interfaces=[])
    await world.delete(made)
    stale = await world.get(Instance, "web-1")
    await world.settle(instance.build)
    await world.controller(instance.build).reconciler.reconcile(stale, stale.ref)
    assert await world.find(Instance, "web-1") is None


async def test_an_instance_bound_in_the_last_moment_is_not_forgotten_on_its_host(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1")
    await world.delete(made)
    stale = await world.get(Instance, "web-1")
    await world.bind(made, "h1")
    with pytest.raises(Exception, match=r"version|changed|Conflict"):
        await world.controller(instance.build).reconciler.reconcile(stale, stale.ref)
    assert DOMAIN_FINALIZER in (await world.get(Instance, "web-1")).metadata.finalizers


async def test_a_store_that_is_away_is_tried_again(world: World) -> None:
    await world.create_basics()
    made = await world.create_instance("web-1")

    def fail(call: str, phase: str) -> None:
        if call == "txn" and phase == "before":
            world.etcd.hook = lambda call, phase: None
            raise Unavailable("etcd is away")

    world.etcd.hook = fail  # type: ignore[assignment]
    await world.settle(instance.build)
    await world.settle(instance.build)
    assert len(await ports(world)) == 1
    assert made.ref not in world.held


async def test_killed_anywhere_each_interface_has_one_port_and_all_goes_in_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.create_basics()
        nics = [NetworkInterface(name=name, network="web") for name in ("eth0", "eth1")]
        made = await world.bind(await world.create_instance("web-1", network_interfaces=nics), "h1")
        await world.settle(instance.build)
        await world.realize_ports()
        await world.settle(instance.build)
        assert (await network_ready(world)).status is ConditionStatus.TRUE
        assert len(await ports(world)) == 2
        await change(world, nics[0])
        await agent_looks(world)
        await world.remove_finalizers((await ports(world))[1])
        await world.delete(made)
        await world.system.remove_finalizer(await world.get(Instance, "web-1"), DOMAIN_FINALIZER)
        await world.settle(instance.build)
        await world.remove_finalizers((await ports(world))[0])
        await world.settle(instance.build)
        assert await world.find(Instance, "web-1") is None
        assert await ports(world) == []

    assert await sweep(scenario) >= 10


async def state(world: World, host: str, *, out_of_service: bool) -> None:
    """State whether the host's machine is off or lost, as an operator does."""
    found = await world.get(Host, host)
    found.spec.out_of_service = out_of_service
    await world.admin.update(found)


async def told(world: World) -> set[tuple[ConditionStatus, str]]:
    """What is said of all that an agent observes."""
    conditions = (await world.get(Instance, "web-1")).status.conditions
    return {(c.status, c.reason) for c in conditions if c.type in OBSERVED_ON_HOST}


async def test_what_is_bound_to_a_host_out_of_service_stays_bound_and_nothing_is_known_of_it(world: World) -> None:
    await world.create_basics()
    made = await world.bind(await world.create_instance("web-1"), "h1")
    await world.set_status(made, *OBSERVED_ON_HOST, powerState="Running", startedAt="2026-01-01T00:00:00Z")
    await world.settle(instance.build)
    await state(world, "h1", out_of_service=True)
    await world.settle(instance.build)
    unknown = {(ConditionStatus.UNKNOWN, OUT_OF_SERVICE)}
    assert await told(world) == unknown
    found = await world.get(Instance, "web-1")
    assert (found.status.host, found.status.power_state) == ("h1", None)
    assert found.status.started_at is not None, "that it was started is so"
    # What the agent had on its way then comes late.
    await world.set_status(found, false=[RUNNING], powerState="Stopped")
    await world.settle(instance.build)
    assert await told(world) == unknown
    assert (await world.get(Instance, "web-1")).status.power_state is None
    assert await world.writes_of(instance.build) == 0
    await state(world, "h1", out_of_service=False)
    await world.settle(instance.build)
    assert await told(world) == unknown, "until the agent says otherwise"


async def test_ports_are_not_let_go_on_what_an_agent_said_before_its_host_was_lost(world: World) -> None:
    await world.create_basics()
    await world.bind(await world.create_instance("web-1"), "h1")
    await world.settle(instance.build)
    await agent_looks(world)
    await state(world, "h1", out_of_service=True)
    await change(world)
    assert not (await ports(world))[0].deleting


async def test_an_instance_deleted_on_a_host_out_of_service_goes_without_its_word(world: World) -> None:
    await world.create_basics()
    await create_named(world)
    await world.delete(await world.get(Instance, "web-1"))
    await world.settle(instance.build)
    assert DOMAIN_FINALIZER in (await world.get(Instance, "web-1")).metadata.finalizers
    await state(world, "h1", out_of_service=True)
    await world.settle(instance.build)
    assert await world.find(Instance, "web-1") is None
    port = (await ports(world))[0]
    assert (port.status.instance, port.status.host, port.deleting) == (None, None, False)
    assert "LetGo" in await world.event_reasons()


async def test_the_word_of_a_host_that_is_in_service_again_is_waited_for(world: World) -> None:
    """Whatever the controller had seen of it: it asks once more before it lets go."""
    await world.create_basics()
    made = await world.bind(await world.create_instance("web-1"), "h1")
    await state(world, "h1", out_of_service=True)
    await world.settle(instance.build)
    await state(world, "h1", out_of_service=False)
    await world.delete(made)
    stale = await world.get(Instance, "web-1")
    with pytest.raises(WaitingFor, match="to remove the domain"):
        await world.controller(instance.build).reconciler.reconcile(stale, stale.ref)
    assert DOMAIN_FINALIZER in (await world.get(Instance, "web-1")).metadata.finalizers


async def test_killed_anywhere_what_is_deleted_on_a_host_out_of_service_goes_in_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.create_basics()
        made = await world.bind(await world.create_instance("web-1"), "h1")
        await world.settle(instance.build)
        await world.set_status(await world.get(Instance, "web-1"), *OBSERVED_ON_HOST, powerState="Running")
        await state(world, "h1", out_of_service=True)
        await world.settle(instance.build)
        assert await told(world) == {(ConditionStatus.UNKNOWN, OUT_OF_SERVICE)}
        await world.delete(made)
        await world.settle(instance.build)
        (port,) = await ports(world)
        assert port.deleting
        await world.remove_finalizers(port)
        await world.settle(instance.build)
        assert await world.find(Instance, "web-1") is None

    assert await sweep(scenario) >= 6
