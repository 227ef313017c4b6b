"""The network controllers on OVN's real northbound database: created, broken by hand, made whole again."""

from collections.abc import AsyncIterator

import pytest

from tests.controllers.backends.network_world import World
from tests.fixtures.ovn import Central
from vcstack.controllers.backends.network import group_name
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.controllers.backends.repairs import REPAIRED
from vcstack.specs.kinds.event import Event, EventType
from vcstack.specs.kinds.network import Network
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.securitygroup import Direction, Protocol, SecurityGroup, SecurityGroupRule, SecurityGroupSpec
from vcstack.specs.kinds.subnet import DHCP, Subnet
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons

OURS = ("Logical_Switch", "Logical_Switch_Port", "DHCP_Options", "Port_Group", "ACL")


@pytest.fixture
async def world(memory_store: Store, central: Central) -> AsyncIterator[World]:
    backend = OvnNorthbound(OvnSettings(remote=central.remote))
    world = World(memory_store, backend)
    await world.add_project()
    await world.add_network("web", "10.0.0.0/24", "fd00::/64")
    for name in ("a", "b"):
        await world.add_port(name)
    yield world
    await backend.close()


def read_all(central: Central) -> list[str]:
    """Return all that is ours in the database, without uuids, and what the ports refer to."""
    tables = {
        "Logical_Switch": "name,external_ids",
        "Logical_Switch_Port": "name,addresses,port_security,external_ids",
        "DHCP_Options": "cidr,options,external_ids",
        "Port_Group": "name,external_ids",
        "ACL": "direction,priority,match,action,external_ids",
    }
    rows: list[str] = []
    for table, columns in tables.items():
        out = central.nbctl("--format=csv", "--no-headings", f"--columns={columns}", "list", table)
        rows += sorted(f"{table}: {line}" for line in out.splitlines())
    count = (
        "ports",
        *(str(len(central.nbctl("get", "Port_Group", name, "ports").split(","))) for name in groups(central)),
        *sorted(str(central.nbctl("get", "Logical_Switch_Port", p, "dhcpv4_options") != "[]") for p in ports(central)),
    )
    return [*rows, " ".join(count)]


def groups(central: Central) -> list[str]:
    return sorted(central.nbctl("--bare", "--columns=name", "list", "Port_Group").split())


def ports(central: Central) -> list[str]:
    return sorted(central.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split())


async def made(world: World) -> dict[str, str]:
    """Wait until all is Ready and return the uids."""
    objects = [
        await world.ready(Network, "web"),
        await world.ready(Subnet, "web-0"),
        await world.ready(Subnet, "web-1"),
        await world.ready(SecurityGroup, "default"),
        await world.ready(Port, "a"),
        await world.ready(Port, "b"),
    ]
    return {o.metadata.name: o.uid for o in objects}


BREAKS = {
    "switch deleted": lambda u: ("destroy", "Logical_Switch", u["web"]),
    "switch unmarked": lambda u: ("clear", "Logical_Switch", u["web"], "external_ids"),
    "drop group deleted": lambda u: ("pg-del", group_name(u["web"])),
    "drop ACLs deleted": lambda u: ("acl-del", group_name(u["web"])),
    "ports out of the drop group": lambda u: ("clear", "Port_Group", group_name(u["web"]), "ports"),
    "port deleted": lambda u: ("lsp-del", u["a"]),
    "port unprotected": lambda u: ("lsp-set-port-security", u["a"]),
    "port readdressed": lambda u: ("lsp-set-addresses", u["a"], "52:54:00:00:00:01 10.0.0.200"),
    "port disabled": lambda u: ("lsp-set-enabled", u["a"], "disabled"),
    "group deleted": lambda u: ("pg-del", group_name(u["default"])),
    "rule opened": lambda u: ("acl-add", group_name(u["default"]), "to-lport", "3000", "ip", "allow"),
    "rules deleted": lambda u: ("acl-del", group_name(u["default"])),
    "DHCP deleted": lambda u: ("--all", "destroy", "DHCP_Options"),
    "everything deleted": lambda u: ("--all", "destroy", "Logical_Switch", "--", "--all", "destroy", "Port_Group"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_what_is_broken_by_hand_is_whole_again_within_seconds(name: str, world: World, central: Central) -> None:
    async with world.running():
        uids = await made(world)
        _, transactions = await world.settled()
        wanted = read_all(central)
        central.nbctl(*BREAKS[name](uids))

        async def whole() -> bool:
            return world.backend.counters.transactions > transactions and read_all(central) == wanted

        await world.until(whole)


async def test_an_emptied_database_is_filled_again(world: World, central: Central) -> None:
    async with world.running():
        await made(world)
        await world.settled()
        wanted = read_all(central)
        central.kill("nb")
        (central.folder / "nb.db").unlink()
        central.create_database("nb")
        central.start_database("nb")
        central.nbctl("init")

        async def whole() -> bool:
            return read_all(central) == wanted

        await world.until(whole)


async def test_the_second_run_makes_no_transaction(world: World) -> None:
    async with world.running():
        await made(world)
        before = await world.settled()
    async with world.running():
        await made(world)
        assert await world.settled() == before


async def test_all_goes_and_strangers_stay(world: World, central: Central) -> None:
    central.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", "their-port", "--", "pg-add", "theirs", "their-port")
    async with world.running():
        await made(world)
        for kind, name in ((Port, "a"), (Port, "b"), (Subnet, "web-0"), (Subnet, "web-1"), (Network, "web")):
            await world.delete(kind, name)
        await world.delete(SecurityGroup, "default")
        await world.gone(Network, "web")
        await world.gone(SecurityGroup, "default")
    assert {t: len(central.nbctl("--bare", "--columns=_uuid", "list", t).split()) for t in OURS} == {
        "Logical_Switch": 1,
        "Logical_Switch_Port": 1,
        "DHCP_Options": 0,
        "Port_Group": 1,
        "ACL": 0,
    }


async def test_northd_reports_a_bound_port_up(world: World, central: Central) -> None:
    async with world.running():
        uids = await made(world)
        central.sbctl("chassis-add", "hv", "geneve", "127.0.0.1")
        central.nbctl("--wait=sb", "sync")
        central.sbctl("lsp-bind", uids["a"], "hv")
        central.sbctl("set", "Port_Binding", uids["a"], "up=true")
        await world.condition(Port, "a", "Up", "FlowsInstalled")


async def repairs_told(world: World) -> list[tuple[str, str]]:
    """Return what was repaired, each time with the message."""
    events = (await world.user.list(Event)).items
    assert all(e.spec.type is EventType.NORMAL for e in events)
    return [(e.spec.regarding.name, e.spec.message) for e in events if e.spec.reason == REPAIRED]


REPAIRS = {
    "switch deleted": ("web", "Logical_Switch was missing"),
    "drop ACLs deleted": ("web", "ACL was missing"),
    "port deleted": ("a", "Logical_Switch_Port was missing"),
    "port unprotected": ("a", "Logical_Switch_Port had other port_security"),
    "ports out of the drop group": ("a", "Logical_Switch_Port was not in its Port_Group"),
    "rule opened": ("default", "ACL was superfluous"),
    "DHCP deleted": ("web-0", "DHCP_Options was missing"),
}


@pytest.mark.parametrize("name", REPAIRS)
async def test_people_are_told_what_was_repaired(name: str, world: World, central: Central) -> None:
    about, said = REPAIRS[name]
    async with world.running():
        uids = await made(world)
        await world.settled()
        assert await repairs_told(world) == []
        central.nbctl(*BREAKS[name](uids))

        async def told() -> bool:
            return any(name == about and said in message for name, message in await repairs_told(world))

        await world.until(told)


async def test_what_is_made_or_changed_on_purpose_is_no_repair(world: World) -> None:
    async with world.running():
        await made(world)
        ssh = SecurityGroupRule(name="ssh", direction=Direction.INGRESS, protocol=Protocol.TCP, port_min=22)
        await world.change(await world.get(SecurityGroup, "default"), SecurityGroupSpec(rules=[ssh]))
        subnet = await world.get(Subnet, "web-0")
        off = subnet.spec.model_copy(update={"dhcp": DHCP.DISABLED})
        await world.change(subnet, off)
        await world.condition(Subnet, "web-0", "Realized", "DHCPDisabled")
        await world.settled()
        on = off.model_copy(update={"dhcp": DHCP.ENABLED})
        await world.change(subnet, on)
        await world.condition(Subnet, "web-0", "Realized", "OptionsFound")
        await world.settled()
    async with world.running():
        await made(world)
        await world.settled()
        assert await repairs_told(world) == []
