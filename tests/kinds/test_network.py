"""The network's reconciler."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.controllers.backends.network_world import World
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network import LogicalSwitch, Owner
from vcstack.runtime.errors import BackendUnavailable
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.subnet import DHCP, Subnet, SubnetSpec
from vcstack.store.store import Store


@pytest.fixture
async def world(memory_store: Store) -> World:
    world = World(memory_store, FakeOvn())
    await world.add_project()
    return world


async def test_create_makes_a_switch_and_reports_the_mtu(world: World) -> None:
    async with world.running():
        made = await world.add_network()
        found = await world.ready(Network, "web")
    assert found.status.mtu_bytes == 1442
    assert await world.backend.observe_switch(made.uid) == LogicalSwitch(Owner.of(made), 1442)


async def test_shells_come_from_the_gateways_of_the_subnets_that_there_are(world: World) -> None:
    async with world.running():
        made = await world.add_network("web", "10.0.0.0/24", "fd00::/64", dhcp=DHCP.DISABLED)

        def has(*addresses: str) -> Callable[[], Awaitable[bool]]:
            async def look() -> bool:
                switch = await world.backend.observe_switch(made.uid)
                return switch is not None and switch.shell_addresses == addresses

            return look

        await world.until(has("10.0.0.1", "fd00::1"))
        subnet = await world.get(Subnet, "web-0")
        await world.change(subnet, subnet.spec.model_copy(update={"gateway": "10.0.0.9"}))
        await world.until(has("10.0.0.9", "fd00::1"))
        await world.delete(Subnet, "web-1")
        await world.until(has("10.0.0.9"))
        await world.add(Subnet, "late", SubnetSpec(network="web", cidr="10.0.1.0/24", gateway="10.0.1.200"))
        await world.until(has("10.0.0.9", "10.0.1.200"))
        held = await world.add_port(address="10.0.1.7")
        await world.ready(Port, held.metadata.name)
        late = await world.get(Subnet, "late")
        await world.change(late, late.spec.model_copy(update={"gateway": "10.0.1.7"}))
        await world.until(has("10.0.0.9"))  # never an address that a port has


async def test_the_mtu_can_be_chosen(world: World) -> None:
    async with world.running():
        await world.add(Network, "web", NetworkSpec(mtu_bytes=1300))
        assert (await world.ready(Network, "web")).status.mtu_bytes == 1300


async def test_a_second_run_changes_nothing(world: World) -> None:
    await world.add_network("web", "10.0.0.0/24", "fd00::/64")
    await world.add_port()
    async with world.running():
        await world.ready(Port, "p")
        before = await world.settled()
    async with world.running():
        assert await world.settled() == before


async def test_a_switch_removed_or_edited_by_hand_comes_back(world: World) -> None:
    async with world.running():
        made = await world.add_network()
        await world.ready(Network, "web")
        world.backend.remove("Network", made.uid)
        await world.until(lambda: world.backend.observe_switch(made.uid))
        world.backend.edit("Network", made.uid, mtu_bytes=9)

        async def repaired() -> bool:
            return bool((await world.backend.observe_switch(made.uid)).mtu_bytes == 1442)

        await world.until(repaired)


async def test_a_failing_backend_is_shown_and_tried_again(world: World) -> None:
    world.backend.state.failure = BackendUnavailable("OVN is away")
    async with world.running():
        await world.add_network()
        shown = await world.condition(Network, "web", "Realized", "BackendUnavailable")
        assert "OVN is away" in shown.message
        assert shown.status == "Unknown"
        world.backend.state.failure = None
        await world.ready(Network, "web")


async def test_deletion_waits_for_subnets_and_ports_and_names_them(world: World) -> None:
    async with world.running():
        made = await world.add_network("web", "10.0.0.0/24")
        await world.add_port()
        await world.ready(Port, "p")
        await world.delete(Network, "web")
        held = await world.condition(Network, "web", "Deletable", "InUse")
        assert "Port demo/p" in held.message
        assert "Subnet demo/web-0" in held.message
        assert await world.backend.observe_switch(made.uid)
        await world.delete(Port, "p")
        await world.gone(Port, "p")
        await world.delete(Subnet, "web-0")
        await world.gone(Network, "web")
    rows = world.backend.state.rows
    assert [rows[kind] for kind in ("Network", "Subnet", "Port")] == [{}, {}, {}]


async def test_finalizing_what_is_absent_in_ovn_succeeds(world: World) -> None:
    async with world.running():
        made = await world.add_network()
        await world.ready(Network, "web")
    world.backend.remove("Network", made.uid)
    await world.delete(Network, "web")
    async with world.running():
        await world.gone(Network, "web")


async def test_rows_without_object_are_swept_and_others_stay(world: World) -> None:
    made = await world.add_network()
    gone = Owner("Network", "net-ffffffffffff", "demo", "gone")
    await world.backend.ensure_switch(LogicalSwitch(gone, 1442))
    async with world.running():
        await world.ready(Network, "web")

        async def swept() -> bool:
            return await world.backend.observe_switch(gone.uid) is None

        await world.until(swept)
        await world.backend.ensure_switch(LogicalSwitch(gone, 1442))
        await world.until(swept)
        await asyncio.sleep(0.1)
    assert await world.backend.observe_switch(made.uid) is not None
