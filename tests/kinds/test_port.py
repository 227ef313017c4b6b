"""The port's reconciler."""

import asyncio
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.controllers.backends.network_world import DEMO, World
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network import LogicalSwitchPort, Owner
from vcstack.runtime.errors import BackendUnavailable
from vcstack.specs.errors import ApiError, Invalid
from vcstack.specs.kinds.network import Network, shell_mac_of
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupSpec
from vcstack.specs.kinds.subnet import AllocationRange, Subnet, SubnetSpec
from vcstack.specs.meta import ConditionStatus
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.store import Store


@pytest.fixture
async def world(memory_store: Store) -> World:
    world = World(memory_store, FakeOvn())
    await world.add_project()
    return world


def addresses_of(port: Port) -> list[str]:
    return [a.address for a in port.status.addresses or ()]


async def test_create_takes_the_lowest_addresses_and_makes_the_switch_port(world: World) -> None:
    async with world.running():
        network = await world.add_network("web", "10.0.0.0/24", "fd00::/64")
        port = await world.add_port()
        found = await world.ready(Port, "p")
    assert addresses_of(found) == ["10.0.0.2", "fd00::2"]
    assert found.status.mac is not None
    assert found.status.mac.startswith("52:54:")
    subnets = {s.metadata.name: s.uid for s in (await world.user.list(Subnet)).items}
    group = await world.get(SecurityGroup, "default")
    observed = await world.backend.observe_port(port.uid)
    assert observed.port == LogicalSwitchPort(
        Owner.of(port),
        network.uid,
        found.status.mac,
        ("10.0.0.2", "fd00::2"),
        subnets["web-0"],
        subnets["web-1"],
        frozenset({group.uid}),
    )
    up = found.find_condition("Up")
    assert up is not None
    assert up.status is ConditionStatus.FALSE


async def test_up_follows_ovn(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        port = await world.add_port()
        await world.ready(Port, "p")
        world.backend.set_up(port.uid)
        await world.condition(Port, "p", "Up", "FlowsInstalled")
        world.backend.set_up(port.uid, False)
        await world.condition(Port, "p", "Up", "FlowsMissing")


async def test_a_port_takes_three_writes_until_it_is_up(world: World, memory_etcd: MemoryEtcd) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.ready(Subnet, "web-0")
        await world.ready(SecurityGroup, "default")
        await world.settled()
        await world.add_port()
        await world.ready(Port, "p")
        stored = (await memory_etcd.get(b"/vcstack/ports/demo/p")).kv
    assert stored is not None
    assert stored.version <= 3


async def test_many_ports_at_once_never_share_an_address(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/25")
        await asyncio.gather(*(world.add_port(f"p{i}") for i in range(60)))
        for i in range(60):
            await world.ready(Port, f"p{i}")
    ports = (await world.user.list(Port)).items
    held = [a for p in ports for a in addresses_of(p)]
    assert sorted(map(ip_address, held)) == [ip_address("10.0.0.2") + i for i in range(60)]
    assert len({p.status.mac for p in ports}) == 60


async def test_addresses_that_others_ask_for_are_skipped(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port("fixed", address="10.0.0.2", mac="02:00:00:00:00:01")
        await world.add_port("chosen")
        assert addresses_of(await world.ready(Port, "chosen")) == ["10.0.0.3"]
        fixed = await world.ready(Port, "fixed")
        assert (addresses_of(fixed), fixed.status.mac) == (["10.0.0.2"], "02:00:00:00:00:01")


async def test_no_port_may_ask_for_a_mac_of_the_clouds_own(world: World) -> None:
    made = await world.add_network("web", "10.0.0.0/24")
    with pytest.raises(Invalid, match="the cloud's own"):
        await world.add_port("p", mac=shell_mac_of(made.uid))


async def test_a_freed_address_is_given_again(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        for name in ("a", "b", "c"):
            await world.add_port(name)
            await world.ready(Port, name)
        await world.delete(Port, "b")
        await world.gone(Port, "b")
        await world.add_port("d")
        assert addresses_of(await world.ready(Port, "d")) == ["10.0.0.3"]


async def test_ranges_and_gateway_bound_the_choice(world: World) -> None:
    ranges = [AllocationRange(start="10.0.0.20", end="10.0.0.21"), AllocationRange(start="10.0.0.5", end="10.0.0.5")]
    async with world.running():
        await world.add_network("web", "10.0.0.0/24", allocation_ranges=ranges, gateway="10.0.0.20")
        for name in ("a", "b"):
            await world.add_port(name)
        held = {addresses_of(await world.ready(Port, name))[0] for name in ("a", "b")}
    assert held == {"10.0.0.5", "10.0.0.21"}


async def test_a_full_subnet_is_named_and_the_port_goes_on_when_one_leaves(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/30")
        await world.add_port("a")
        await world.ready(Port, "a")
        await world.add_port("b")
        full = await world.condition(Port, "b", "Allocated", "SubnetFull")
        assert "web-0 (10.0.0.0/30)" in full.message
        assert "add a Subnet" in full.message
        await world.delete(Port, "a")
        assert addresses_of(await world.ready(Port, "b")) == ["10.0.0.2"]


async def test_the_next_subnet_is_taken_when_the_first_is_full(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/30", "10.0.1.0/30")
        for name in ("a", "b"):
            await world.add_port(name)
            await world.ready(Port, name)
        ports = [await world.get(Port, name) for name in ("a", "b")]
    assert [a.subnet for p in ports for a in p.status.addresses or ()] == ["web-0", "web-1"]


async def test_a_named_subnet_is_used_alone(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24", "10.0.1.0/24", "fd00::/64")
        await world.add_port("a", subnet="web-1")
        await world.add_port("b", subnet="web-2")
        assert addresses_of(await world.ready(Port, "a")) == ["10.0.1.2"]
        assert addresses_of(await world.ready(Port, "b")) == ["fd00::2"]


async def test_a_fixed_address_finds_its_subnet(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24", "10.0.1.0/24")
        await world.add_port(address="10.0.1.9")
        found = await world.ready(Port, "p")
    assert [(a.subnet, a.address) for a in found.status.addresses or ()] == [("web-1", "10.0.1.9")]


@pytest.mark.parametrize(("address", "reason"), [("192.168.0.1", "AddressOutside"), ("10.0.0.1", "AddressUnusable")])
async def test_an_impossible_address_is_explained(address: str, reason: str, world: World) -> None:
    async with world.running():
        # The port is there first: with the subnet there its address would have been refused at once.
        await world.add_network("web")
        await world.add_port(address=address)
        await world.condition(Port, "p", "Allocated", "NoSubnet")
        await world.add(Subnet, "web-0", SubnetSpec(network="web", cidr="10.0.0.0/24"))
        told = await world.condition(Port, "p", "Allocated", reason)
    assert address in told.message
    assert "web-0" in told.message


async def test_a_network_without_subnet_is_waited_for(world: World) -> None:
    async with world.running():
        await world.add_network("web")
        await world.add_port()
        await world.condition(Port, "p", "Allocated", "NoSubnet")
        await world.add(Subnet, "late", SubnetSpec(network="web", cidr="10.0.0.0/24"))
        await world.ready(Port, "p")


async def test_a_port_gets_an_address_of_a_family_whose_first_subnet_comes_later(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        port = await world.add_port()
        before = await world.ready(Port, "p")
        await world.add_port("named", subnet="web-0")
        await world.ready(Port, "named")
        second = await world.add(Subnet, "second", SubnetSpec(network="web", cidr="10.0.1.0/24"))
        v6 = await world.add(Subnet, "v6", SubnetSpec(network="web", cidr="fd00::/64"))

        async def realized() -> bool:
            observed = await world.backend.observe_port(port.uid)
            return observed is not None and observed.port.addresses == ("10.0.0.2", "fd00::2")

        await world.until(realized)
        await world.settled()
        found = await world.ready(Port, "p")
        assert addresses_of(found) == ["10.0.0.2", "fd00::2"]
        assert found.status.mac == before.status.mac
        observed = await world.backend.observe_port(port.uid)
        assert observed.port.dhcpv6 == v6.uid
        assert observed.port.dhcpv4 != second.uid
        assert addresses_of(await world.get(Port, "named")) == ["10.0.0.3"]


async def test_a_port_that_works_stays_ready_when_a_later_subnet_of_another_family_is_full(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port("a")
        await world.add_port("b")
        for name in ("a", "b"):
            await world.ready(Port, name)
        one = [AllocationRange(start="fd00::7", end="fd00::7")]
        await world.add(Subnet, "v6", SubnetSpec(network="web", cidr="fd00::/64", allocation_ranges=one))

        async def given() -> bool:
            ports = [await world.get(Port, name) for name in ("a", "b")]
            return any(len(addresses_of(port)) == 2 for port in ports)

        await world.until(given)
        await world.settled()
        ports = [await world.ready(Port, name) for name in ("a", "b")]
        assert sorted(len(addresses_of(p)) for p in ports) == [1, 2]


async def test_groups_are_followed_and_an_empty_list_means_none(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        ssh = await world.add(SecurityGroup, "ssh", SecurityGroupSpec())
        await world.add_port("p", security_groups=["ssh"])
        port = await world.ready(Port, "p")
        assert (await world.backend.observe_port(port.uid)).port.groups == {ssh.uid}
        await world.change(port, PortSpec(network="web", security_groups=[]))

        async def left() -> bool:
            return (await world.backend.observe_port(port.uid)).port.groups == frozenset()

        await world.until(left)


async def test_a_missing_group_is_named(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        wire = Port.new("p", PortSpec(network="web", security_groups=["later"]), project=DEMO).to_wire()
        del wire["status"]
        await world.store.create(get_kind("Port"), wire, actor=Actor("admin", "gitops"), allow_missing_references=True)
        told = await world.condition(Port, "p", "Realized", "SecurityGroupMissing")
        assert "later" in told.message
        await world.add(SecurityGroup, "later", SecurityGroupSpec())
        await world.ready(Port, "p")


async def test_a_switch_port_removed_or_edited_by_hand_comes_back(world: World) -> None:
    async with world.running():
        network = await world.add_network("web", "10.0.0.0/24")
        port = await world.add_port()
        found = await world.ready(Port, "p")
        wanted = (await world.backend.observe_port(port.uid)).port

        async def repaired() -> bool:
            observed = await world.backend.observe_port(port.uid)
            return observed is not None and observed.port == wanted

        world.backend.remove("Port", port.uid)
        await world.until(repaired)
        world.backend.edit("Port", port.uid, mac="02:00:00:00:00:99")
        await world.until(repaired)
        world.backend.remove("Network", network.uid)
        await world.until(repaired)
        world.backend.remove("SecurityGroup", next(iter(wanted.groups)))
        await world.until(repaired)
        assert addresses_of(await world.ready(Port, "p")) == addresses_of(found)


async def test_a_failing_backend_is_tried_again(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.ready(Network, "web")
        world.backend.state.failure = BackendUnavailable("OVN is away")
        await world.add_port()
        told = await world.condition(Port, "p", "Realized", "BackendUnavailable")
        assert told.status is ConditionStatus.UNKNOWN
        world.backend.state.failure = None
        await world.ready(Port, "p")


async def test_deletion_removes_the_switch_port_and_twice_succeeds(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        port = await world.add_port()
        await world.ready(Port, "p")
        await world.delete(Port, "p")
        await world.gone(Port, "p")
        assert await world.backend.observe_port(port.uid) is None
        other = await world.add_port("q")
        await world.ready(Port, "q")
    world.backend.remove("Port", other.uid)
    await world.delete(Port, "q")
    async with world.running():
        await world.gone(Port, "q")


async def test_a_deletion_that_ovn_does_not_answer_is_shown_and_tried_again(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        port = await world.add_port()
        await world.ready(Port, "p")
        world.backend.state.failure = BackendUnavailable("OVN is away")
        await world.delete(Port, "p")
        await world.condition(Port, "p", "Realized", "BackendUnavailable")
        world.backend.state.failure = None
        await world.gone(Port, "p")
        assert await world.backend.observe_port(port.uid) is None


async def test_rows_without_object_are_swept(world: World) -> None:
    async with world.running():
        network = await world.add_network("web", "10.0.0.0/24")
        await world.ready(Network, "web")
        gone = Owner("Port", "p-ffffffffffff", DEMO, "gone")
        await world.backend.ensure_port(LogicalSwitchPort(gone, network.uid, "02:00:00:00:00:01"))

        async def swept() -> bool:
            return await world.backend.observe_port(gone.uid) is None

        await world.until(swept)


steps = st.lists(st.tuples(st.sampled_from(["add", "fixed", "delete"]), st.integers(0, 11)), min_size=5, max_size=25)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
def test_no_address_is_ever_held_twice(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_run_steps(steps))


async def _run_steps(steps: list[tuple[str, int]]) -> None:
    async with Store(MemoryEtcd()) as store:
        world = World(store, FakeOvn())
        await world.add_project()
        async with world.running():
            await world.add_network("web", "10.0.0.0/28")
            for verb, n in steps:
                try:
                    if verb == "delete":
                        await world.delete(Port, f"p{n}")
                    else:
                        await world.add_port(f"p{n}", **({"address": f"10.0.0.{n + 2}"} if verb == "fixed" else {}))
                except ApiError:  # there already, gone already, or the address is taken
                    continue
            for port in (await world.user.list(Port)).items:
                if not port.deleting:
                    await world.ready(Port, port.metadata.name)
            ports = (await world.user.list(Port)).items
        held = [a for p in ports for a in addresses_of(p)]
        assert len(held) == len(set(held))
        assert all(ip_address(a) in ip_network("10.0.0.0/28") for a in held)
        assert not {"10.0.0.0", "10.0.0.1", "10.0.0.15"} & set(held)
        for port in ports:
            if port.spec.address:
                assert addresses_of(port) == [port.spec.address]
