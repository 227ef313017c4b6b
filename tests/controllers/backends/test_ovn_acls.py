"""What the ACLs mean to packets, by ovn-trace on the flows that the real northd makes of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.ovn import Central, wait_until
from vcstack.controllers.backends.network import (
    DhcpOptions,
    LogicalSwitch,
    LogicalSwitchPort,
    NetworkBackend,
    Owner,
    PortGroup,
)
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.controllers.security_group import build_acls
from vcstack.controllers.subnet import build_dhcp_options
from vcstack.specs.kinds.network import shell_mac_of, shell_port_of
from vcstack.specs.kinds.securitygroup import Direction, Protocol, SecurityGroup, SecurityGroupRule, SecurityGroupSpec
from vcstack.specs.kinds.subnet import Subnet, SubnetSpec

pytestmark = pytest.mark.daemons

NET = "net-0000000000aa"
A, B, C = "p-0000000000a1", "p-0000000000b1", "p-0000000000c1"
SHELL = shell_port_of(NET)
MACS = {A: "52:54:00:00:00:a1", B: "52:54:00:00:00:b1", C: "52:54:00:00:00:c1", SHELL: shell_mac_of(NET)}
V4 = {A: "10.0.0.10", B: "10.0.0.11", C: "10.0.0.12", SHELL: "10.0.0.1"}
V6 = {A: "fd00::10", B: "fd00::11", C: "fd00::12", SHELL: "fd00::1"}
CHASSIS = "hv"


def build_security_group(name: str, uid: str, *rules: SecurityGroupRule) -> SecurityGroup:
    group = SecurityGroup.new(name, SecurityGroupSpec(rules=list(rules)), project="demo")
    group.metadata.uid = uid
    return group


def build_subnet(uid: str, cidr: str) -> DhcpOptions:
    subnet = Subnet.new("s", SubnetSpec(network="web", cidr=cidr), project="demo")
    subnet.metadata.uid = uid
    return build_dhcp_options(subnet, 1442)


WEB = build_security_group(
    "web",
    "sg-00000000000a",
    SecurityGroupRule(name="ssh", direction=Direction.INGRESS, protocol=Protocol.TCP, port_min=22),
    SecurityGroupRule(
        name="range",
        direction=Direction.INGRESS,
        protocol=Protocol.UDP,
        port_min=1000,
        port_max=1010,
        remote_cidr="10.0.0.12/32",
    ),
    SecurityGroupRule(name="ping", direction=Direction.INGRESS, protocol=Protocol.ICMP, icmp_type=8, icmp_code=0),
    SecurityGroupRule(name="ping6", direction=Direction.INGRESS, protocol=Protocol.ICMPV6, icmp_type=128),
    SecurityGroupRule(name="peers", direction=Direction.INGRESS, remote_security_group="web"),
)
OPEN = build_security_group(
    "open", "sg-00000000000b", SecurityGroupRule(name="out", direction=Direction.EGRESS, remote_cidr="0.0.0.0/0")
)
OPEN6 = build_security_group(
    "open6",
    "sg-00000000000c",
    SecurityGroupRule(name="out6", direction=Direction.EGRESS, protocol=Protocol.ANY, remote_cidr="::/0"),
)

IN = build_security_group("in", "sg-00000000000d", SecurityGroupRule(name="in", direction=Direction.INGRESS))


@pytest.fixture
async def cloud(shared_central: Central) -> AsyncIterator[OvnNorthbound]:
    """Port A in `web`; B sends anything; C may do nothing."""
    backend = OvnNorthbound(OvnSettings(remote=shared_central.remote))
    for group in (WEB, OPEN, OPEN6, IN):
        await backend.ensure_port_group(PortGroup(Owner.of(group), build_acls(group, {"web": WEB.uid})))
    await backend.ensure_switch(LogicalSwitch(Owner("Network", NET, "demo", "web"), 1442, (V4[SHELL], V6[SHELL])))
    await backend.ensure_dhcp_options(build_subnet("sn-0000000000a4", "10.0.0.0/24"))
    await backend.ensure_dhcp_options(build_subnet("sn-0000000000a6", "fd00::/64"))
    for port, groups in ((A, {WEB.uid}), (B, {OPEN.uid, OPEN6.uid}), (C, set[str]())):
        await backend.ensure_port(build_port(port, groups))
    bind(shared_central)
    try:
        yield backend
    finally:
        await backend.close()


def build_port(uid: str, groups: set[str]) -> LogicalSwitchPort:
    return LogicalSwitchPort(
        Owner("Port", uid, "demo", uid),
        NET,
        MACS[uid],
        (V4[uid], V6[uid]),
        "sn-0000000000a4",
        "sn-0000000000a6",
        frozenset(groups),
    )


def bind(central: Central) -> None:
    """Have a chassis claim the ports, as northd makes no flows towards ports that are down."""
    if not central.sbctl("--bare", "--columns=name", "find", "Chassis", f"name={CHASSIS}"):
        central.sbctl("chassis-add", CHASSIS, "geneve", "127.0.0.1")
    central.nbctl("--wait=sb", "sync")
    for port in (A, B, C):
        central.sbctl("--may-exist", "lsp-bind", port, CHASSIS)
    # The next flows are made after northd has seen them up, and a trace waits for northd.
    wait_until(lambda: all(central.nbctl("get", "Logical_Switch_Port", p, "up") == "true" for p in (A, B, C)), "up")


def packet(sender: str, receiver: str, protocol: str) -> str:
    ip = (
        f"ip4.src == {V4[sender]} && ip4.dst == {V4[receiver]}"
        if not protocol.startswith("6:")
        else f"ip6.src == {V6[sender]} && ip6.dst == {V6[receiver]}"
    )
    what = protocol.removeprefix("6:")
    return (
        f'inport == "{sender}" && eth.src == {MACS[sender]} && eth.dst == {MACS[receiver]} '
        f"&& {ip} && ip.ttl == 64 && {what}"
    )


async def arrives(central: Central, flow: str, receiver: str, *options: str) -> bool:
    out = await asyncio.to_thread(central.trace, NET, flow, "--summary", "--ct=new", "--ct=new", *options)
    return f'output to "{receiver}"' in out


@pytest.mark.parametrize(
    ("sender", "protocol", "passes"),
    [
        (B, "tcp && tcp.dst == 22", True),
        (B, "tcp && tcp.dst == 23", False),
        (B, "udp && udp.dst == 22", False),
        (B, "udp && udp.dst == 1005", False),
        (B, "icmp4.type == 8 && icmp4.code == 0", True),
        (B, "icmp4.type == 13 && icmp4.code == 0", False),
        (B, "6:tcp && tcp.dst == 22", True),
        (B, "6:tcp && tcp.dst == 80", False),
        (B, "6:icmp6.type == 128 && icmp6.code == 0", True),
        (C, "tcp && tcp.dst == 22", False),
        (C, "6:tcp && tcp.dst == 22", False),
    ],
)
async def test_only_allowed_packets_arrive(
    sender: str, protocol: str, passes: bool, cloud: NetworkBackend, shared_central: Central
) -> None:
    assert await arrives(shared_central, packet(sender, A, protocol), A) is passes


async def test_a_port_without_groups_receives_nothing(cloud: NetworkBackend, shared_central: Central) -> None:
    assert not await arrives(shared_central, packet(B, C, "tcp && tcp.dst == 22"), C)
    assert not await arrives(shared_central, packet(B, C, "6:tcp && tcp.dst == 22"), C)


async def test_a_group_may_name_itself_and_ports_be_in_several(cloud: NetworkBackend, shared_central: Central) -> None:
    assert not await arrives(shared_central, packet(B, A, "tcp && tcp.dst == 5000"), A)
    await cloud.ensure_port(build_port(B, {OPEN.uid, OPEN6.uid, WEB.uid}))
    assert await arrives(shared_central, packet(B, A, "tcp && tcp.dst == 5000"), A)
    assert await arrives(shared_central, packet(B, A, "6:udp && udp.dst == 5000"), A)
    await cloud.ensure_port(build_port(B, {OPEN.uid, OPEN6.uid}))
    assert not await arrives(shared_central, packet(B, A, "tcp && tcp.dst == 5000"), A)


async def test_remote_cidr_and_port_range_hold(cloud: NetworkBackend, shared_central: Central) -> None:
    await cloud.ensure_port(build_port(C, {OPEN.uid}))
    assert await arrives(shared_central, packet(C, A, "udp && udp.dst == 1010"), A)
    assert not await arrives(shared_central, packet(C, A, "udp && udp.dst == 1011"), A)
    await cloud.ensure_port(build_port(C, set()))


@pytest.mark.parametrize("family", ["", "6:"], ids=["IPv4", "IPv6"])
async def test_shells_reach_port_22_whatever_the_groups_say_and_nothing_reaches_them(
    family: str, cloud: NetworkBackend, shared_central: Central
) -> None:
    for guest in (A, C):  # C's groups allow nothing
        assert await arrives(shared_central, packet(SHELL, guest, f"{family}tcp && tcp.dst == 22"), guest)
        for other in ("tcp && tcp.dst == 23", "udp && udp.dst == 22"):
            assert not await arrives(shared_central, packet(SHELL, guest, family + other), guest)
    await cloud.ensure_port(build_port(B, {OPEN.uid, OPEN6.uid, IN.uid}))  # may send and receive anything
    for port in (22, 80):
        assert not await arrives(shared_central, packet(B, SHELL, f"{family}tcp && tcp.dst == {port}"), SHELL)
    ping = "6:icmp6.type == 128 && icmp6.code == 0" if family else "icmp4.type == 8 && icmp4.code == 0"
    assert not await arrives(shared_central, packet(B, SHELL, ping), SHELL)
    await cloud.ensure_port(build_port(B, {OPEN.uid, OPEN6.uid}))


async def test_shells_get_their_answers(cloud: NetworkBackend, shared_central: Central) -> None:
    flow = packet(C, SHELL, "tcp && tcp.src == 22")
    out = await asyncio.to_thread(shared_central.trace, NET, flow, "--summary", "--ct=est,rpl", "--ct=est,rpl")
    assert f'output to "{SHELL}"' in out


async def test_no_guest_can_say_that_it_is_where_shells_come_from(
    cloud: NetworkBackend, shared_central: Central
) -> None:
    as_shell = packet(SHELL, A, "tcp && tcp.dst == 22").replace(f'inport == "{SHELL}"', f'inport == "{B}"')
    assert not await arrives(shared_central, as_shell, A)
    assert not await arrives(shared_central, as_shell.replace(MACS[SHELL], MACS[B]), A)
    arp = (
        f'inport == "{B}" && eth.src == {MACS[B]} && eth.dst == {MACS[A]} && arp.op == 2 '
        f"&& arp.sha == {MACS[B]} && arp.spa == {V4[SHELL]} && arp.tpa == {V4[A]} && arp.tha == {MACS[A]}"
    )
    assert not await arrives(shared_central, arp, A)


async def test_spoofed_senders_are_dropped(cloud: NetworkBackend, shared_central: Central) -> None:
    honest = packet(B, A, "tcp && tcp.dst == 22")
    assert await arrives(shared_central, honest, A)
    assert not await arrives(shared_central, honest.replace(MACS[B], "52:54:00:00:00:ff"), A)
    assert not await arrives(shared_central, honest.replace(V4[B], "10.0.0.99"), A)
    assert not await arrives(shared_central, packet(B, A, "6:tcp && tcp.dst == 22").replace(V6[B], "fd00::99"), A)
    arp = (
        f'inport == "{B}" && eth.src == {MACS[B]} && eth.dst == {MACS[A]} && arp.op == 2 '
        f"&& arp.sha == {MACS[B]} && arp.spa == {V4[B]} && arp.tpa == {V4[A]} && arp.tha == {MACS[A]}"
    )
    assert await arrives(shared_central, arp, A)
    assert not await arrives(shared_central, arp.replace(f"arp.spa == {V4[B]}", "arp.spa == 10.0.0.1"), A)


async def test_neighbours_are_asked_for_without_rules(cloud: NetworkBackend, shared_central: Central) -> None:
    """A neighbour solicitation, to the address's multicast group: OVN answers it in the other port's name."""
    flow = (
        f'inport == "{C}" && eth.src == {MACS[C]} && eth.dst == 33:33:ff:00:00:10 && ip6.src == {V6[C]} '
        f"&& ip6.dst == ff02::1:ff00:10 && ip.ttl == 255 && icmp6.type == 135 && icmp6.code == 0 "
        f"&& nd.target == {V6[A]} && nd.sll == {MACS[C]}"
    )
    out = await asyncio.to_thread(shared_central.trace, NET, flow, "--ct=new", "--ct=new")
    assert "nd_na" in out
    assert f"nd.tll = {MACS[A]}" in out
    assert f'output to "{C}"' in out


async def test_neighbours_find_each_other_without_rules(cloud: NetworkBackend, shared_central: Central) -> None:
    flow = (
        f'inport == "{C}" && eth.src == {MACS[C]} && eth.dst == {MACS[A]} && ip6.src == {V6[C]} '
        f"&& ip6.dst == {V6[A]} && ip.ttl == 255 && icmp6.type == 136 && icmp6.code == 0 "
        f"&& nd.target == {V6[C]} && nd.tll == {MACS[C]}"
    )
    assert await arrives(shared_central, flow, A)


@pytest.mark.parametrize("port", [A, B, C])
async def test_dhcp_is_answered_even_without_groups(port: str, cloud: NetworkBackend, shared_central: Central) -> None:
    flow = (
        f'inport == "{port}" && eth.src == {MACS[port]} && eth.dst == ff:ff:ff:ff:ff:ff && ip4.src == 0.0.0.0 '
        "&& ip4.dst == 255.255.255.255 && ip.ttl == 64 && udp.src == 68 && udp.dst == 67"
    )
    out = await asyncio.to_thread(shared_central.trace, NET, flow, "--ct=new", "--ct=new")
    assert "put_dhcp_opts" in out
    assert f"offerip = {V4[port]}" in out
    assert f'output to "{port}"' in out


@pytest.mark.parametrize(
    "said",
    [
        "udp && udp.src == 67 && udp.dst == 68",
        "6:udp && udp.src == 547 && udp.dst == 546",
        "6:icmp6.type == 137 && icmp6.code == 0",
    ],
    ids=["DHCPv4 server", "DHCPv6 server", "redirect"],
)
async def test_what_only_routers_and_dhcp_servers_say_is_dropped_between_ports_that_allow_everything(
    said: str, cloud: NetworkBackend, shared_central: Central
) -> None:
    everything = frozenset({OPEN.uid, OPEN6.uid, IN.uid})
    for port in (B, C):
        await cloud.ensure_port(build_port(port, set(everything)))
    flow = packet(B, C, said).replace("ip.ttl == 64", "ip.ttl == 255")
    harmless = flow.replace("67", "1067").replace("547", "1547").replace("== 137", "== 128")
    assert await arrives(shared_central, harmless, C)
    assert not await arrives(shared_central, flow, C)
    to_all = flow.replace(f"eth.dst == {MACS[C]}", "eth.dst == 33:33:00:00:00:01").replace(V6[C], "ff02::1")
    assert not await arrives(shared_central, to_all, C)
    await cloud.ensure_port(build_port(B, {OPEN.uid, OPEN6.uid}))
    await cloud.ensure_port(build_port(C, set()))


@pytest.mark.parametrize("port", [C])
async def test_dhcpv6_is_answered(port: str, cloud: NetworkBackend, shared_central: Central) -> None:
    local = "fe80::5054:ff:fe00:c1"
    flow = (
        f'inport == "{port}" && eth.src == {MACS[port]} && eth.dst == 33:33:00:01:00:02 && ip6.src == {local} '
        "&& ip6.dst == ff02::1:2 && ip.ttl == 64 && udp.src == 546 && udp.dst == 547"
    )
    out = await asyncio.to_thread(shared_central.trace, NET, flow, "--ct=new", "--ct=new")
    assert "put_dhcpv6_opts" in out
    assert f'output to "{port}"' in out


rules = st.builds(
    SecurityGroupRule,
    name=st.just("r"),
    direction=st.sampled_from(Direction),
    protocol=st.just(Protocol.ANY),
    remote_cidr=st.sampled_from([None, "10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "192.0.2.1/32"]),
) | st.builds(
    lambda direction, protocol, ports, remote: SecurityGroupRule(
        name="r",
        direction=direction,
        protocol=protocol,
        port_min=min(ports) if ports and protocol in (Protocol.TCP, Protocol.UDP) else None,
        port_max=max(ports) if ports and protocol in (Protocol.TCP, Protocol.UDP) else None,
        icmp_type=ports[0] % 256 if ports and protocol in (Protocol.ICMP, Protocol.ICMPV6) else None,
        icmp_code=ports[1] % 256 if ports and protocol in (Protocol.ICMP, Protocol.ICMPV6) else None,
        remote_security_group=remote,
    ),
    st.sampled_from(Direction),
    st.sampled_from(Protocol),
    st.none() | st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    st.sampled_from([None, "web"]),
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(rules, min_size=8, max_size=24))
def test_northd_understands_every_rule(drawn: list[SecurityGroupRule], shared_central: Central) -> None:
    """Every ACL becomes a logical flow that ovn-trace can parse; a wrong match would make none or an error."""
    named = [r.model_copy(update={"name": f"r{i}"}) for i, r in enumerate(drawn)]
    uid = f"sg-{time.monotonic_ns() & 0xFFFFFFFFFFFF:012x}"
    group = build_security_group("drawn", uid, *named)
    acls = build_acls(group, {"web": WEB.uid})

    async def build() -> None:
        backend = OvnNorthbound(OvnSettings(remote=shared_central.remote))
        try:
            await backend.ensure_switch(LogicalSwitch(Owner("Network", NET, "demo", "web"), 1442))
            await backend.ensure_port_group(PortGroup(Owner.of(WEB), build_acls(WEB, {"web": WEB.uid})))
            ensured = await backend.ensure_port_group(PortGroup(Owner.of(group), acls))
            assert ensured.observed.group.acls == acls
            await backend.ensure_port(replace(build_port(A, {WEB.uid, uid}), dhcpv4=None, dhcpv6=None))
        finally:
            await backend.close()

    asyncio.run(build())
    out = shared_central.trace(NET, f'inport == "{A}" && eth.src == {MACS[A]}', "--summary")
    assert "error" not in out.lower()
    flows = shared_central.sbctl("--bare", "--columns=match", "list", "Logical_Flow")
    for acl in acls:
        assert acl.match in flows
    shared_central.nbctl("pg-del", uid.replace("-", "_"))
