"""The subnet's reconciler."""

import pytest

from tests.controllers.backends.network_world import DEMO, World
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network import DhcpOptions, Owner
from vcstack.controllers.subnet import build_dhcp_options
from vcstack.runtime.errors import BackendUnavailable
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.subnet import AllocationRange, HostRoute, Subnet, SubnetSpec
from vcstack.store.store import Store


@pytest.fixture
async def world(memory_store: Store) -> World:
    world = World(memory_store, FakeOvn())
    await world.add_project()
    return world


def build_subnet(cidr: str = "10.0.0.0/24", **spec: object) -> Subnet:
    subnet = Subnet.new("s", SubnetSpec(network="web", cidr=cidr, **spec), project=DEMO)  # type: ignore[arg-type]
    subnet.metadata.uid = "sn-00000000000a"
    return subnet


def test_ipv4_options_name_server_mtu_and_lease_but_no_router_that_is_not_there() -> None:
    options = build_dhcp_options(build_subnet(), 1400).options
    mac = options["server_mac"]
    assert mac.startswith("0a:54:")
    assert options == {
        "server_id": "10.0.0.1",
        "server_mac": mac,
        "lease_time": "3600",
        "mtu": "1400",
    }
    assert build_dhcp_options(build_subnet(), 1400).options["server_mac"] == mac


def test_a_router_is_told_as_the_default_route() -> None:
    assert build_dhcp_options(build_subnet(), 1442, "10.0.0.1").options["router"] == "10.0.0.1"


def test_resolvers_and_routes_are_told_with_the_default_route() -> None:
    subnet = build_subnet(
        gateway="10.0.0.254",
        dns_servers=["9.9.9.9", "1.1.1.1"],
        host_routes=[HostRoute(destination="192.168.0.0/16", next_hop="10.0.0.2")],
    )
    options = build_dhcp_options(subnet, 1442, "10.0.0.254").options
    assert options["dns_server"] == "{9.9.9.9, 1.1.1.1}"
    assert options["classless_static_route"] == "{192.168.0.0/16,10.0.0.2, 0.0.0.0/0,10.0.0.254}"
    assert options["router"] == "10.0.0.254"


def test_routes_are_told_without_a_default_route_while_there_is_no_router() -> None:
    subnet = build_subnet(host_routes=[HostRoute(destination="192.168.0.0/16", next_hop="10.0.0.2")])
    options = build_dhcp_options(subnet, 1442).options
    assert options["classless_static_route"] == "{192.168.0.0/16,10.0.0.2}"
    assert "router" not in options


def test_a_default_route_of_the_users_is_not_doubled() -> None:
    subnet = build_subnet(host_routes=[HostRoute(destination="0.0.0.0/0", next_hop="10.0.0.2")])
    options = build_dhcp_options(subnet, 1442, "10.0.0.1").options
    assert options["classless_static_route"] == "{0.0.0.0/0,10.0.0.2}"


def test_ipv6_options_have_a_server_and_resolvers_only() -> None:
    options = build_dhcp_options(build_subnet("fd00::/64", dns_servers=["fd00::53"]), 1442).options
    assert set(options) == {"server_id", "dns_server"}
    assert options["dns_server"] == "{fd00::53}"


async def test_create_makes_options_and_reports_gateway_and_counts(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        found = await world.ready(Subnet, "web-0")
    assert (found.status.gateway, found.status.used_addresses, found.status.free_addresses) == ("10.0.0.1", 0, 253)
    assert await world.backend.observe_dhcp_options(found.uid) == build_dhcp_options(found, 1442)


async def test_counts_follow_the_ports(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/29")
        for name in ("a", "b"):
            await world.add_port(name)
            await world.ready(Port, name)

        async def counted(used: int, free: int) -> bool:
            status = (await world.get(Subnet, "web-0")).status
            return (status.used_addresses, status.free_addresses) == (used, free)

        await world.until(lambda: counted(2, 3))
        await world.delete(Port, "a")
        await world.until(lambda: counted(1, 4))


async def test_edits_are_live(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        found = await world.ready(Subnet, "web-0")
        edited = found.spec.model_copy(update={"dns_servers": ["9.9.9.9"], "gateway": "10.0.0.9"})
        found = await world.change(found, edited)

        async def followed() -> bool:
            options = await world.backend.observe_dhcp_options(found.uid)
            return bool(options.options.get("dns_server") == "{9.9.9.9}" and options.options["server_id"] == "10.0.0.9")

        await world.until(followed)
        assert (await world.ready(Subnet, "web-0")).status.gateway == "10.0.0.9"
        disabled = SubnetSpec.from_wire({"network": "web", "cidr": "10.0.0.0/24", "dhcp": "Disabled"})
        await world.change(found, disabled)

        async def none_left() -> bool:
            return await world.backend.observe_dhcp_options(found.uid) is None

        await world.until(none_left)
        await world.ready(Subnet, "web-0")


async def test_the_networks_mtu_is_told(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        subnet = await world.ready(Subnet, "web-0")
        network = await world.ready(Network, "web")
        await world.change(network, NetworkSpec(mtu_bytes=1300))

        async def told() -> bool:
            options = await world.backend.observe_dhcp_options(subnet.uid)
            return bool(options.options["mtu"] == "1300")

        await world.until(told)


async def test_options_removed_or_edited_by_hand_come_back(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port()
        port = await world.ready(Port, "p")
        subnet = await world.ready(Subnet, "web-0")
        wanted = await world.backend.observe_dhcp_options(subnet.uid)

        async def repaired() -> bool:
            observed = await world.backend.observe_port(port.uid)
            options = await world.backend.observe_dhcp_options(subnet.uid)
            return bool(observed and options == wanted and observed.port.dhcpv4 == subnet.uid)

        world.backend.remove("Subnet", subnet.uid)
        await world.until(repaired)
        world.backend.edit("Subnet", subnet.uid, cidr="10.9.0.0/24")
        await world.until(repaired)


async def test_a_failing_backend_is_tried_again(world: World) -> None:
    world.backend.state.failure = BackendUnavailable("OVN is away")
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.condition(Subnet, "web-0", "Realized", "BackendUnavailable")
        world.backend.state.failure = None
        await world.ready(Subnet, "web-0")


async def test_deletion_waits_for_ports_that_hold_addresses(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port()
        port = await world.ready(Port, "p")
        await world.delete(Subnet, "web-0")
        held = await world.condition(Subnet, "web-0", "Deletable", "InUse")
        assert "Port demo/p" in held.message
        observed = await world.backend.observe_port(port.uid)
        assert observed.port.dhcpv4 is not None
        await world.delete(Port, "p")
        await world.gone(Subnet, "web-0")


async def test_finalizing_what_is_absent_in_ovn_succeeds(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        subnet = await world.ready(Subnet, "web-0")
    world.backend.remove("Subnet", subnet.uid)
    await world.delete(Subnet, "web-0")
    async with world.running():
        await world.gone(Subnet, "web-0")


async def test_a_gateway_moved_onto_a_port_is_reported(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port(address="10.0.0.77")
        await world.ready(Port, "p")
        subnet = await world.ready(Subnet, "web-0")
        await world.change(subnet, subnet.spec.model_copy(update={"gateway": "10.0.0.77"}))
        told = await world.condition(Subnet, "web-0", "Realized", "GatewayTaken")
        assert "Port demo/p" in told.message


async def test_rows_without_object_are_swept(world: World) -> None:
    gone = Owner("Subnet", "sn-ffffffffffff", DEMO, "gone")
    await world.backend.ensure_dhcp_options(DhcpOptions(gone, "10.0.0.0/24", {}))
    async with world.running():

        async def swept() -> bool:
            return await world.backend.observe_dhcp_options(gone.uid) is None

        await world.until(swept)


async def test_free_counts_the_ranges_only(world: World) -> None:
    ranges = [AllocationRange(start="10.0.0.1", end="10.0.0.3"), AllocationRange(start="10.0.0.10", end="10.0.0.10")]
    async with world.running():
        await world.add_network("web", "10.0.0.0/24", allocation_ranges=ranges)
        assert (await world.ready(Subnet, "web-0")).status.free_addresses == 3
        await world.add_network("six", "fd00::/64")
        assert (await world.ready(Subnet, "six-0")).status.free_addresses == 2**53
