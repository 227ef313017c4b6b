"""What only the real northbound database shows: TLS, restarts, frozen servers, rows edited by hand, strangers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.controllers.backends.test_network_contract import (
    DHCP,
    GROUP,
    LSP,
    NET,
    PORT,
    SUBNET,
    SWITCH,
    build_all,
    build_group,
    read_until,
)
from tests.fixtures.ovn import Central
from vcstack.controllers.backends.network import Change, Fence, NetworkBackend, group_name
from vcstack.controllers.backends.ovn_connection import OvnSettings, fetch_schema
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.runtime.errors import BackendConflict, BackendUnavailable
from vcstack.specs.errors import FencedOut
from vcstack.specs.kinds.network import shell_port_of

pytestmark = pytest.mark.daemons


@pytest.fixture
async def backend(central: Central) -> AsyncIterator[OvnNorthbound]:
    """A backend that keeps its connection, though this process may stand still for seconds."""
    backend = OvnNorthbound(OvnSettings(remote=central.remote, timeout_seconds=60, probe_seconds=60))
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def impatient(central: Central) -> AsyncIterator[OvnNorthbound]:
    """A backend that soon notices that its database is away."""
    backend = OvnNorthbound(OvnSettings(remote=central.remote, timeout_seconds=3, probe_seconds=1))
    try:
        yield backend
    finally:
        await backend.close()


async def caught_up(backend: NetworkBackend) -> None:
    """Wait until the backend knows what was done to the database: that is told before its own write is answered."""
    other = replace(SWITCH, owner=replace(NET, uid="net-00000000000c", name="other"))
    await backend.ensure_switch(other)
    await backend.delete_switch(other.owner.uid)


async def is_whole(backend: NetworkBackend) -> bool:
    port = await backend.observe_port(PORT.uid)
    group = await backend.observe_port_group(GROUP.uid)
    return (
        await backend.observe_switch(NET.uid) == SWITCH
        and await backend.observe_dhcp_options(SUBNET.uid) == DHCP
        and port is not None
        and port.port == LSP
        and group is not None
        and group.group == build_group(GROUP, 22)
    )


EDITS = {
    "switch without external_ids": ("clear", "Logical_Switch", NET.uid, "external_ids"),
    "switch's mtu": ("set", "Logical_Switch", NET.uid, "external_ids:vcstack-mtu=9"),
    "drop group gone": ("pg-del", group_name(NET.uid)),
    "drop group's ACLs gone": ("clear", "Port_Group", group_name(NET.uid), "acls"),
    "shell's port gone": ("lsp-del", shell_port_of(NET.uid)),
    "shell's port like a guest's": ("lsp-set-type", shell_port_of(NET.uid), ""),
    "shell's addresses": ("lsp-set-addresses", shell_port_of(NET.uid), "unknown"),
    "shell's port security off": ("lsp-set-port-security", shell_port_of(NET.uid)),
    "shell's port disabled": ("lsp-set-enabled", shell_port_of(NET.uid), "disabled"),
    "shell's port without external_ids": ("clear", "Logical_Switch_Port", shell_port_of(NET.uid), "external_ids"),
    "port left the drop group": ("clear", "Port_Group", group_name(NET.uid), "ports"),
    "port's addresses": ("lsp-set-addresses", PORT.uid, "unknown"),
    "port security off": ("lsp-set-port-security", PORT.uid),
    "port disabled": ("lsp-set-enabled", PORT.uid, "disabled"),
    "port without DHCP": ("clear", "Logical_Switch_Port", PORT.uid, "dhcpv4_options"),
    "port without external_ids": ("clear", "Logical_Switch_Port", PORT.uid, "external_ids"),
    "port left its group": ("clear", "Port_Group", group_name(GROUP.uid), "ports"),
    "rule added": ("acl-add", group_name(GROUP.uid), "to-lport", "2000", "ip4", "allow"),
    "rules gone": ("acl-del", group_name(GROUP.uid)),
    "group without external_ids": ("clear", "Port_Group", group_name(GROUP.uid), "external_ids"),
    "switch's ports gone": ("clear", "Logical_Switch", NET.uid, "ports"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_an_edit_by_hand_is_told_and_repaired(
    edit: tuple[str, ...], central: Central, backend: OvnNorthbound
) -> None:
    await build_all(backend)
    changes = backend.changes(["Network", "Subnet", "Port", "SecurityGroup"])
    for _ in range(4):  # at the beginning everything may have changed
        assert (await anext(changes)).owner is None
    central.nbctl(*edit)
    async with asyncio.timeout(60):
        told = await anext(changes)
        while told.owner is None or await is_whole(backend):
            told = await anext(changes)
    await build_all(backend)
    assert await is_whole(backend)


async def test_edited_options_and_rules_are_repaired(central: Central, backend: OvnNorthbound) -> None:
    await build_all(backend)
    for table, edit in (("DHCP_Options", "options:lease_time=1"), ("ACL", "action=drop"), ("ACL", "log=true")):
        for row in central.nbctl("--bare", "--columns=_uuid", "list", table).split():
            central.nbctl("set", table, row, edit)
        await caught_up(backend)
        assert not await is_whole(backend)
        await build_all(backend)
        assert await is_whole(backend)


async def test_doubled_rows_are_made_one(central: Central, backend: OvnNorthbound) -> None:
    await build_all(backend)
    ids = [f"external_ids:vcstack-{k}={v}" for k, v in (("uid", SUBNET.uid), ("kind", "Subnet"))]
    central.nbctl("create", "DHCP_Options", "cidr=10.9.0.0/24", *ids)
    central.nbctl("create", "Logical_Switch", f"name={NET.uid}", f"external_ids:vcstack-uid={NET.uid}")
    await caught_up(backend)
    await build_all(backend)
    assert len(central.nbctl("--bare", "--columns=_uuid", "list", "DHCP_Options").split()) == 1
    assert len(central.nbctl("--bare", "--columns=_uuid", "list", "Logical_Switch").split()) == 1
    assert await is_whole(backend)


async def test_strangers_rows_and_keys_stay(central: Central, backend: OvnNorthbound) -> None:
    central.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", "their-port")
    central.nbctl("pg-add", "their_group", "their-port", "--", "create", "DHCP_Options", "cidr=10.1.0.0/24")
    await build_all(backend)
    central.nbctl("set", "Logical_Switch", NET.uid, "external_ids:note=keep")
    before = central.nbctl("--columns=name,external_ids", "list", "Logical_Switch", "theirs")
    await backend.ensure_switch(replace(SWITCH, mtu_bytes=1300))
    assert central.nbctl("get", "Logical_Switch", NET.uid, "external_ids:note") == "keep"
    await backend.delete_switch(NET.uid)
    await backend.delete_dhcp_options(SUBNET.uid)
    await backend.delete_port_group(GROUP.uid)
    await backend.delete_switch("theirs")
    await backend.delete_port("their-port")
    await backend.delete_port_group("their-group")
    assert central.nbctl("--columns=name,external_ids", "list", "Logical_Switch", "theirs") == before
    assert central.nbctl("--bare", "--columns=name", "list", "Port_Group") == "their_group"
    assert central.nbctl("--bare", "--columns=cidr", "list", "DHCP_Options") == "10.1.0.0/24"


async def test_a_name_taken_by_another_owner_is_a_conflict(central: Central, backend: OvnNorthbound) -> None:
    central.nbctl("create", "Logical_Switch", f"name={NET.uid}", "external_ids:vcstack-uid=net-ffffffffffff")
    with pytest.raises(BackendConflict, match="net-ffffffffffff"):
        await backend.ensure_switch(SWITCH)


async def test_a_restarted_database_is_found_again_and_everything_is_told(
    central: Central, impatient: OvnNorthbound
) -> None:
    await build_all(impatient)
    changes = impatient.changes(["Port"])
    await read_until(changes, Change("Port"))
    central.kill("nb")
    with pytest.raises(BackendUnavailable):
        await impatient.ensure_switch(replace(SWITCH, mtu_bytes=1400))
    central.start_database("nb")
    await read_until(changes, Change("Port"))
    async with asyncio.timeout(60):
        while True:
            try:
                await impatient.ensure_switch(replace(SWITCH, mtu_bytes=1300))
                break
            except BackendUnavailable:
                continue
    assert central.nbctl("get", "Logical_Switch", NET.uid, "external_ids:vcstack-mtu") == '"1300"'


async def test_a_frozen_database_is_unavailable_in_time_and_the_loop_goes_on(
    central: Central, impatient: OvnNorthbound
) -> None:
    await build_all(impatient)
    central.freeze("nb")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    try:
        results = await asyncio.gather(
            *(impatient.ensure_switch(replace(SWITCH, mtu_bytes=1300 + i)) for i in range(6)), return_exceptions=True
        )
        assert all(isinstance(r, BackendUnavailable) for r in results), results
        assert ticks > 10
    finally:
        ticking.cancel()
        central.thaw("nb")
    async with asyncio.timeout(60):
        while True:
            try:
                await impatient.ensure_switch(replace(SWITCH, mtu_bytes=1400))
                break
            except BackendUnavailable:
                await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert (await impatient.ensure_switch(replace(SWITCH, mtu_bytes=1400))).observed.mtu_bytes == 1400
    assert central.nbctl("get", "Logical_Switch", NET.uid, "external_ids:vcstack-mtu") == '"1400"'


async def test_a_backend_can_be_closed_while_its_database_is_frozen(central: Central) -> None:
    backend = OvnNorthbound(OvnSettings(remote=central.remote, timeout_seconds=3, probe_seconds=1))
    await backend.ensure_switch(SWITCH)
    central.freeze("nb")
    try:
        calls = (backend.ensure_switch(replace(SWITCH, mtu_bytes=1300 + i)) for i in range(8))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(r, BackendUnavailable) for r in results)
        async with asyncio.timeout(60):
            await backend.close()
    finally:
        central.thaw("nb")


async def test_an_absent_database_is_unavailable_and_connected_to_later(central: Central) -> None:
    central.kill("nb")
    backend = OvnNorthbound(OvnSettings(remote=central.remote, timeout_seconds=60))
    try:
        with pytest.raises(BackendUnavailable, match="No such file"):
            await backend.ensure_switch(SWITCH)
        central.start_database("nb")
        assert (await backend.ensure_switch(SWITCH)).observed == SWITCH
    finally:
        await backend.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        await backend.observe_switch(NET.uid)


async def test_a_frozen_leaders_late_write_is_refused_by_the_database(central: Central) -> None:
    settings = OvnSettings(remote=central.remote, timeout_seconds=60, probe_seconds=60)
    old, new = OvnNorthbound(settings), OvnNorthbound(settings)
    try:
        await old.fenced(Fence(1)).ensure_switch(SWITCH)
        stale = (await old._connect())._connection
        with stale.lock:  # the old leader's thread stands still with what it knew
            await new.fenced(Fence(2)).ensure_switch(replace(SWITCH, mtu_bytes=1400))
            late = asyncio.create_task(old.fenced(Fence(1)).ensure_switch(replace(SWITCH, mtu_bytes=1300)))
            await asyncio.sleep(0.2)
        with pytest.raises(FencedOut):
            await late
        assert central.nbctl("get", "Logical_Switch", NET.uid, "external_ids:vcstack-mtu") == '"1400"'
    finally:
        await old.close()
        await new.close()


async def test_two_backends_talk_to_their_own_databases(central: Central, shared_central: Central) -> None:
    first = OvnNorthbound(OvnSettings(remote=central.remote))
    second = OvnNorthbound(OvnSettings(remote=shared_central.remote))
    try:
        await first.ensure_switch(SWITCH)
        assert await second.observe_switch(NET.uid) is None
    finally:
        await first.close()
        await second.close()


async def test_a_remote_of_no_known_kind_says_what_is_expected() -> None:
    with pytest.raises(BackendUnavailable, match="unix:PATH or ssl:HOST:PORT"):
        await fetch_schema(OvnSettings(remote="tcp:127.0.0.1:6641"))


async def test_tls_without_files_names_them() -> None:
    with pytest.raises(BackendUnavailable, match=r"ovn\.caFile"):
        await fetch_schema(OvnSettings(remote="ssl:127.0.0.1:6641"))
