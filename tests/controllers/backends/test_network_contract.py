"""What every network backend does: the in-memory one and OVN's northbound database."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.fakes.ovn_nb import FakeOvn
from tests.fixtures.ovn import Central
from vcstack.controllers.backends.network import (
    Acl,
    AclAction,
    AclDirection,
    Change,
    DhcpOptions,
    Fence,
    LogicalSwitch,
    LogicalSwitchPort,
    NetworkBackend,
    Owner,
    PortGroup,
    group_name,
)
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.runtime.errors import BackendNotFound
from vcstack.specs.errors import FencedOut

NET = Owner("Network", "net-00000000000a", "demo", "web")
SUBNET = Owner("Subnet", "sn-00000000000a", "demo", "web-v4")
PORT = Owner("Port", "p-00000000000a", "demo", "eth0")
GROUP = Owner("SecurityGroup", "sg-00000000000a", "demo", "ssh")
OTHER = Owner("SecurityGroup", "sg-00000000000b", "demo", "web")

SWITCH = LogicalSwitch(NET, 1442, ("10.0.0.1", "fd00::1"))
DHCP = DhcpOptions(
    SUBNET, "10.0.0.0/24", {"server_id": "10.0.0.1", "server_mac": "0a:00:00:00:00:01", "lease_time": "3600"}
)


def build_group(owner: Owner, *ports: int) -> PortGroup:
    acls = (
        Acl(
            AclDirection.TO_PORT,
            1001,
            f"outport == @{group_name(owner.uid)} && ip4 && tcp && tcp.dst == {port}",
            AclAction.ALLOW_RELATED,
            f"rule-{port}",
        )
        for port in ports
    )
    return PortGroup(owner, frozenset(acls))


LSP = LogicalSwitchPort(
    PORT, NET.uid, "52:54:00:00:00:0a", ("10.0.0.5", "fd00::5"), SUBNET.uid, None, frozenset({GROUP.uid})
)


@dataclass
class Subject:
    """A backend and the means to meddle with its rows as an operator would."""

    backend: NetworkBackend
    central: Central | None = None

    def remove(self, kind: str, uid: str) -> None:
        if self.central is None:
            assert isinstance(self.backend, FakeOvn)
            self.backend.remove(kind, uid)
        elif kind == "Network":
            self.central.nbctl("destroy", "Logical_Switch", uid)
        elif kind == "Port":
            self.central.nbctl("lsp-del", uid)
        elif kind == "SecurityGroup":
            self.central.nbctl("pg-del", group_name(uid))
        else:
            row = self.central.nbctl(
                "--bare", "--columns=_uuid", "find", "DHCP_Options", f"external_ids:vcstack-uid={uid}"
            )
            self.central.nbctl("dhcp-options-del", row)

    def set_up(self, uid: str) -> None:
        if self.central is None:
            assert isinstance(self.backend, FakeOvn)
            self.backend.set_up(uid)
        else:
            self.central.nbctl("set", "Logical_Switch_Port", uid, "up=true")


@pytest.fixture(params=["memory", pytest.param("ovn", marks=pytest.mark.daemons)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(FakeOvn())
        return
    central: Central = request.getfixturevalue("central_without_northd")
    backend = OvnNorthbound(OvnSettings(remote=central.remote))
    try:
        yield Subject(backend, central)
    finally:
        await backend.close()


@pytest.fixture
def central_without_northd(shared_central: Central) -> Iterator[Central]:
    """Northd would set `up` back; and each test gets an empty database."""
    if "northd" in shared_central._processes:
        shared_central.kill("northd")
    yield shared_central
    for table in ("Logical_Switch", "Port_Group", "DHCP_Options"):
        shared_central.nbctl("--all", "destroy", table)
    shared_central.nbctl("clear", "NB_Global", ".", "external_ids")


async def build_all(backend: NetworkBackend) -> None:
    await backend.ensure_switch(SWITCH)
    await backend.ensure_dhcp_options(DHCP)
    await backend.ensure_port_group(build_group(GROUP, 22))
    await backend.ensure_port(LSP)


async def read_until(changes: AsyncIterator[Change], wanted: Change) -> None:
    async with asyncio.timeout(60):
        async for change in changes:
            if change == wanted:
                return


async def test_what_was_ensured_is_read_back(subject: Subject) -> None:
    await build_all(subject.backend)
    assert await subject.backend.observe_switch(NET.uid) == SWITCH
    assert await subject.backend.observe_dhcp_options(SUBNET.uid) == DHCP
    observed = await subject.backend.observe_port(PORT.uid)
    assert observed is not None
    assert observed.port == LSP
    assert not observed.up
    group = await subject.backend.observe_port_group(GROUP.uid)
    assert group is not None
    assert (group.group, group.ports) == (build_group(GROUP, 22), 1)


async def test_a_second_ensure_makes_no_transaction(subject: Subject) -> None:
    await build_all(subject.backend)
    before = subject.backend.counters.transactions
    await build_all(subject.backend)
    assert subject.backend.counters.transactions == before


async def test_an_ensure_says_what_it_had_to_write(subject: Subject) -> None:
    for _ in range(2):
        assert (await subject.backend.ensure_switch(SWITCH)).changed
        assert not (await subject.backend.ensure_switch(SWITCH)).changed
        subject.remove("Network", NET.uid)
    await build_all(subject.backend)
    (changed,) = (await subject.backend.ensure_port(replace(LSP, dhcpv4=None))).changed
    assert "dhcpv4" in changed


async def test_absent_things_are_observed_as_none(subject: Subject) -> None:
    assert await subject.backend.observe_switch(NET.uid) is None
    assert await subject.backend.observe_dhcp_options(SUBNET.uid) is None
    assert await subject.backend.observe_port(PORT.uid) is None
    assert await subject.backend.observe_port_group(GROUP.uid) is None


async def test_deleting_twice_succeeds(subject: Subject) -> None:
    await build_all(subject.backend)
    for _ in range(2):
        await subject.backend.delete_port(PORT.uid)
        await subject.backend.delete_port_group(GROUP.uid)
        await subject.backend.delete_dhcp_options(SUBNET.uid)
        await subject.backend.delete_switch(NET.uid)
    for kind in ("Network", "Subnet", "Port", "SecurityGroup"):
        assert await subject.backend.list_owned(kind) == []


async def test_changed_wishes_are_followed(subject: Subject) -> None:
    await build_all(subject.backend)
    await subject.backend.ensure_switch(replace(SWITCH, mtu_bytes=1400, shell_addresses=("10.0.0.9",)))
    await subject.backend.ensure_dhcp_options(replace(DHCP, options={**DHCP.options, "lease_time": "60"}))
    await subject.backend.ensure_port_group(build_group(GROUP, 22, 80))
    await subject.backend.ensure_port_group(build_group(GROUP, 80))
    await subject.backend.ensure_port_group(build_group(OTHER, 443))
    wanted = replace(LSP, addresses=("10.0.0.9",), dhcpv4=None, groups=frozenset({OTHER.uid}))
    ensured = await subject.backend.ensure_port(wanted)
    assert ensured.observed.port == wanted
    switch = await subject.backend.observe_switch(NET.uid)
    assert switch is not None
    assert (switch.mtu_bytes, switch.shell_addresses) == (1400, ("10.0.0.9",))
    group = await subject.backend.observe_port_group(GROUP.uid)
    assert group is not None
    assert (group.group, group.ports) == (build_group(GROUP, 80), 0)


async def test_a_port_without_its_switch_group_or_options_is_refused(subject: Subject) -> None:
    with pytest.raises(BackendNotFound):
        await subject.backend.ensure_port(LSP)
    await subject.backend.ensure_switch(SWITCH)
    with pytest.raises(BackendNotFound):
        await subject.backend.ensure_port(LSP)
    await subject.backend.ensure_port_group(build_group(GROUP, 22))
    with pytest.raises(BackendNotFound):
        await subject.backend.ensure_port(LSP)
    await subject.backend.ensure_dhcp_options(DHCP)
    assert (await subject.backend.ensure_port(LSP)).observed.port == LSP


async def test_deleting_a_switch_takes_its_ports_along(subject: Subject) -> None:
    await build_all(subject.backend)
    await subject.backend.delete_switch(NET.uid)
    assert await subject.backend.observe_port(PORT.uid) is None


async def test_deleting_options_and_groups_leaves_the_port(subject: Subject) -> None:
    await build_all(subject.backend)
    await subject.backend.delete_dhcp_options(SUBNET.uid)
    await subject.backend.delete_port_group(GROUP.uid)
    observed = await subject.backend.observe_port(PORT.uid)
    assert observed is not None
    assert observed.port == replace(LSP, dhcpv4=None, groups=frozenset())


async def test_owners_are_listed_by_kind(subject: Subject) -> None:
    await build_all(subject.backend)
    assert await subject.backend.list_owned("Network") == [NET]
    assert await subject.backend.list_owned("Subnet") == [SUBNET]
    assert await subject.backend.list_owned("Port") == [PORT]
    assert await subject.backend.list_owned("SecurityGroup") == [GROUP]


@pytest.mark.parametrize("owner", [NET, SUBNET, PORT, GROUP], ids=lambda o: o.kind)
async def test_a_row_removed_by_hand_is_told(subject: Subject, owner: Owner) -> None:
    await build_all(subject.backend)
    changes = subject.backend.changes([owner.kind])
    await read_until(changes, Change(owner.kind))
    await asyncio.sleep(0.05)
    subject.remove(owner.kind, owner.uid)
    await read_until(changes, Change(owner.kind, owner))


async def test_losing_options_or_group_is_told_of_the_port(subject: Subject) -> None:
    await build_all(subject.backend)
    changes = subject.backend.changes(["Port"])
    await read_until(changes, Change("Port"))
    await asyncio.sleep(0.05)
    subject.remove("SecurityGroup", GROUP.uid)
    await read_until(changes, Change("Port", PORT))
    await asyncio.sleep(0.05)
    subject.remove("Subnet", SUBNET.uid)
    await read_until(changes, Change("Port", PORT))


async def test_a_port_that_comes_up_is_told_and_observed(subject: Subject) -> None:
    await build_all(subject.backend)
    changes = subject.backend.changes(["Port"])
    await read_until(changes, Change("Port"))
    await asyncio.sleep(0.05)
    subject.set_up(PORT.uid)
    await read_until(changes, Change("Port", PORT))
    observed = await subject.backend.observe_port(PORT.uid)
    assert observed is not None
    assert observed.up


async def test_a_superseded_leader_is_refused(subject: Subject) -> None:
    old, new = subject.backend.fenced(Fence(1)), subject.backend.fenced(Fence(2))
    await old.ensure_switch(SWITCH)
    await new.ensure_switch(replace(SWITCH, mtu_bytes=1400))
    with pytest.raises(FencedOut):
        await old.ensure_switch(SWITCH)
    with pytest.raises(FencedOut):
        await old.delete_switch(NET.uid)
    assert await subject.backend.observe_switch(NET.uid) == replace(SWITCH, mtu_bytes=1400)


async def test_leaders_of_other_scopes_do_not_fence_each_other(subject: Subject) -> None:
    await subject.backend.fenced(Fence(9, "ports")).ensure_switch(SWITCH)
    await subject.backend.fenced(Fence(1, "networks")).ensure_switch(replace(SWITCH, mtu_bytes=1400))


async def test_many_calls_at_once_all_land(subject: Subject) -> None:
    await subject.backend.ensure_switch(SWITCH)
    wanted = [
        LogicalSwitchPort(
            Owner("Port", f"p-{i:012x}", "demo", f"port-{i}"), NET.uid, f"52:54:00:00:01:{i:02x}", (f"10.0.0.{i + 2}",)
        )
        for i in range(40)
    ]
    ensured = await asyncio.gather(*(subject.backend.ensure_port(w) for w in wanted))
    assert [e.observed.port for e in ensured] == wanted
