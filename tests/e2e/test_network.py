"""Security with real packets, between a guest and clients on both hosts."""

import pytest

from tests.e2e.cloud import HOSTS, Cloud, Refused, Wire, path_of
from tests.e2e.tenant import ALL_V4, NETWORK, OPEN, Guest, Tenant

PING = {"name": "ping", "direction": "Ingress", "protocol": "ICMP", "remoteCidr": "0.0.0.0/0"}
PING6 = {"name": "ping6", "direction": "Ingress", "protocol": "ICMPv6", "icmpType": 128, "remoteCidr": "::/0"}
OUT6 = {"name": "out6", "direction": "Egress", "remoteCidr": "::/0"}
SSH = {"name": "ssh", "direction": "Ingress", "protocol": "TCP", "portMin": 22, "remoteCidr": "0.0.0.0/0"}
OUT = {"name": "out", "direction": "Egress"}


def regroup(tenant: Tenant, name: str, groups: list[str] | None) -> None:
    """Put the guest's only interface into other groups."""
    nic = dict(tenant.get("instances", name)["spec"]["networkInterfaces"][0])
    nic.pop("securityGroups", None)
    wanted = nic if groups is None else {**nic, "securityGroups": groups}
    tenant.patch("instances", name, {"spec": {"networkInterfaces": [wanted]}})
    tenant.wait_ready("instances", name)


def test_rules_are_enforced_as_they_come_and_go(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    pair.apply("securitygroups", "strict", {"rules": [OUT]})
    pair.wait_ready("securitygroups", "strict")
    near, far = (pair.client(host, f"client-{host}") for host in HOSTS)
    cloud.wait("pings answered", lambda: near.reaches(guest.address) and far.reaches(guest.address))

    regroup(pair, "a", ["strict"])
    cloud.wait("pings dropped", lambda: not near.reaches(guest.address) and not far.reaches(guest.address))
    assert not far.connects(guest.address, 22)

    pair.apply("securitygroups", "strict", {"rules": [OUT, SSH]})
    cloud.wait("ssh allowed", lambda: far.connects(guest.address, 22) and near.connects(guest.address, 22))
    assert not far.reaches(guest.address)

    pair.apply("securitygroups", "strict", {"rules": [OUT, PING]})
    cloud.wait("pings allowed", lambda: far.reaches(guest.address) and near.reaches(guest.address))
    cloud.wait("ssh dropped", lambda: not far.connects(guest.address, 22))
    # Answers to what the guest itself began pass.
    cloud.wait("guest reaches", lambda: guest.reaches(far.address))
    assert guest.pid == first


def test_the_default_group_lets_in_its_members_only(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    regroup(pair, "b", None)
    member = pair.client("h1", "member", groups=["default"])
    stranger = pair.client("h1", "stranger", groups=[OPEN])
    cloud.wait("members reach it", lambda: member.reaches(guest.address))
    cloud.wait("member connects", lambda: member.connects(guest.address, 22))
    assert not stranger.reaches(guest.address)
    assert not stranger.connects(guest.address, 22)
    cloud.wait("guest reaches", lambda: guest.reaches(stranger.address))


def test_spoofed_addresses_are_dropped(cloud: Cloud, pair: Tenant) -> None:
    guest, client = pair.guest("a"), pair.client("h2", "spoofer")
    cloud.wait("pings answered", lambda: client.reaches(guest.address))
    client.run("ip", "addr", "add", "10.30.0.200/24", "dev", "eth0")
    assert not client.reaches(guest.address, "-I", "10.30.0.200")
    client.run("ip", "link", "set", "eth0", "address", "52:54:00:66:66:66")
    assert not client.reaches(guest.address)
    client.run("ip", "link", "set", "eth0", "address", client.mac)
    cloud.wait("the true address passes again", lambda: client.reaches(guest.address))


def test_a_guest_cannot_spoof_either(cloud: Cloud, pair: Tenant) -> None:
    guest, client = pair.guest("b"), pair.client("h1", "target")
    cloud.wait("pings answered", lambda: guest.reaches(client.address))
    guest.sh("ip addr add 10.30.0.201/24 dev eth0")
    try:
        assert not guest.succeeds(f"ping -c1 -W1 -I 10.30.0.201 {client.address}")
    finally:
        guest.sh("ip addr del 10.30.0.201/24 dev eth0")


def test_projects_with_the_same_addresses_do_not_meet(cloud: Cloud, tenant: Tenant, pair: Tenant) -> None:
    other = Tenant(cloud, cidr="10.20.0.0/24")
    try:
        here, there = tenant.client("h1", "here"), other.client("h1", "there")
        neighbour = tenant.client("h2", "neighbour")
        assert here.address == there.address
        cloud.wait("pings answered", lambda: here.reaches(neighbour.address))
        assert not there.reaches(neighbour.address)
    finally:
        other.delete()


@pytest.mark.parametrize("address", ["10.20.0.0", "10.20.0.1", "10.20.0.255", "10.21.0.5"])
def test_an_address_that_cannot_be_is_refused(cloud: Cloud, tenant: Tenant, address: str) -> None:
    with pytest.raises(Refused) as refused:
        tenant.apply("ports", "bad", {"network": "net", "subnet": "v4", "address": address})
    assert refused.value.code == 422
    assert "spec.address" in str(refused.value)


def test_rules_for_all_traffic_cover_both_hosts(cloud: Cloud, tenant: Tenant) -> None:
    one, two = tenant.client("h1", "one"), tenant.client("h2", "two")
    cloud.wait("pings answered", lambda: one.reaches(two.address))
    tenant.apply("securitygroups", OPEN, {"rules": [rule for rule in ALL_V4 if rule["direction"] == "Egress"]})
    cloud.wait("nothing comes in", lambda: not one.reaches(two.address) and not two.reaches(one.address))


@pytest.fixture
def dual(tenant: Tenant) -> dict[str, Guest]:
    """Guests on both hosts, each with one card on a network of both families and one on a network of IPv6 only."""
    tenant.apply("subnets", "v6", {"network": NETWORK, "cidr": "fd00:20::/64"})
    tenant.apply("networks", "six", {})
    tenant.apply("subnets", "six", {"network": "six", "cidr": "fd00:21::/64"})
    tenant.apply("securitygroups", "six", {"rules": [OUT6]})
    groups = [OPEN, "six"]
    cards = [
        {"name": "eth0", "network": NETWORK, "securityGroups": groups},
        {"name": "eth1", "network": "six", "securityGroups": groups},
    ]
    for name, host in zip("ab", HOSTS, strict=True):
        tenant.instance(name, host, networkInterfaces=cards)
    for name in "ab":
        tenant.wait_ready("instances", name)
    return {name: tenant.guest(name) for name in "ab"}


def addresses_of(tenant: Tenant, name: str) -> list[tuple[str, str]]:
    return [(a["interface"], a["address"]) for a in tenant.get("instances", name)["status"]["addresses"]]


def test_guests_get_all_their_addresses_and_ipv6_passes_as_rules_allow(
    cloud: Cloud, tenant: Tenant, dual: dict[str, Guest]
) -> None:
    a = dual["a"]
    for name, guest in dual.items():
        held = addresses_of(tenant, name)
        assert [interface for interface, _ in held] == ["eth0", "eth0", "eth1"]
        for interface, address in held:
            look = f"ip addr show {interface} | grep -F ' {address}/'"
            cloud.wait(lambda guest=guest: guest.sh("ip addr"), lambda guest=guest, look=look: guest.succeeds(look))  # type: ignore[misc]
    (_, v4), (_, v6), (_, six) = addresses_of(tenant, "b")
    cloud.wait("a reaches", lambda: a.reaches(v4))
    # Neighbours are found without any rule; what they are sent is not let in.
    for interface, address in (("eth0", v6), ("eth1", six)):
        look = f"ip -6 neigh show dev {interface} | grep -F '{address} ' | grep lladdr"
        cloud.wait(f"{address} found", lambda address=address, look=look: a.reaches(address) or a.succeeds(look))  # type: ignore[misc]
        assert not a.reaches(address)

    tenant.apply("securitygroups", "six", {"rules": [OUT6, PING6]})
    for address in (v6, six):
        cloud.wait(f"{address} answers", lambda address=address: a.reaches(address))
        assert not a.succeeds(f"nc -w 2 {address} 22 </dev/null")
    tenant.apply("securitygroups", "six", {"rules": [OUT6, {**SSH, "remoteCidr": "::/0"}]})
    cloud.wait("ssh is let in", lambda: a.sh(f"nc -w 2 {six} 22 </dev/null", check=False).startswith("SSH-"))
    cloud.wait("pings are dropped again", lambda: not a.reaches(six))


def test_guests_have_no_default_route_while_nothing_routes(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    cloud.wait("its address", lambda: "10.30.0.0/24 dev eth0" in guest.sh("ip route"))
    assert "default" not in guest.sh("ip route")


def test_a_guest_posing_as_a_dhcp_server_is_not_heard(cloud: Cloud, pair: Tenant) -> None:
    """What a server says is dropped where it is sent; the same from other ports arrives."""
    rogue, victim = pair.client("h1", "rogue"), pair.client("h2", "victim")
    cloud.wait("pings answered", lambda: rogue.reaches(victim.address))
    cloud.wait("the same from other ports", lambda: victim.hears(rogue, source=1067, port=1068))
    assert not victim.hears(rogue, source=67, port=68)


def test_no_router_is_advertised_on_a_network_of_ipv4(cloud: Cloud, pair: Tenant) -> None:
    """Not even to guests that would listen: port security lets such a port send no IPv6."""
    rogue, victim = pair.client("h1", "rogue"), pair.client("h2", "victim")
    cloud.wait("pings answered", lambda: rogue.reaches(victim.address))
    assert not victim.hears_router(rogue)


@pytest.mark.xfail(reason="OVN 23.03 lets router advertisements pass by ACLs: docs/adr/0010", strict=True)
def test_a_guest_posing_as_a_router_is_not_heard(cloud: Cloud, tenant: Tenant) -> None:
    tenant.apply("subnets", "v6", {"network": NETWORK, "cidr": "fd00:20::/64"})
    rogue, victim = tenant.client("h1", "rogue"), tenant.client("h2", "victim")
    cloud.wait("pings answered", lambda: rogue.reaches(victim.address))
    assert not victim.hears_router(rogue)


def test_a_running_guests_card_moves_to_another_network(cloud: Cloud, tenant: Tenant) -> None:
    tenant.apply("networks", "db", {})
    tenant.apply("subnets", "db", {"network": "db", "cidr": "10.21.0.0/24"})
    tenant.instance("a", "h1")
    (before,) = tenant.wait_ready("instances", "a")["status"]["addresses"]
    guest = tenant.guest("a")
    first = guest.pid
    moved = {"name": "eth0", "network": "db", "securityGroups": [OPEN]}
    tenant.patch("instances", "a", {"spec": {"networkInterfaces": [moved]}})
    (after,) = tenant.wait_ready("instances", "a")["status"]["addresses"]
    assert (after["address"], after["mac"] != before["mac"]) == ("10.21.0.2", True)
    client_free = tenant.client("h2", "next")
    assert client_free.address == before["address"]
    cloud.wait("the guest has its new address", lambda: guest.succeeds("ip addr | grep -F ' 10.21.0.2/'"))
    assert not guest.succeeds(f"ip addr | grep -F ' {before['address']}/'")
    assert guest.pid == first


def test_guests_of_two_projects_meet_on_a_shared_network_as_the_groups_of_both_allow(
    cloud: Cloud, tenant: Tenant
) -> None:
    """And nobody new gets on it once it is taken back, while the guest that is there stays until it leaves."""
    other = Tenant(cloud, cidr="10.23.0.0/24")
    try:
        tenant.apply("networks", "private", {})
        tenant.apply("subnets", "private", {"network": "private", "cidr": "10.22.0.0/24"})
        tenant.patch("networks", NETWORK, {"spec": {"sharedWith": [{"project": other.name}]}})
        lent = f"{tenant.name}/{NETWORK}"
        with pytest.raises(Refused, match=r"spec\.network"):
            other.apply("ports", "sneak", {"network": f"{tenant.name}/private"})
        tenant.instance("mine", "h2")
        card = {"name": "eth0", "network": lent, "securityGroups": [OPEN]}
        other.instance("theirs", "h1", networkInterfaces=[card])
        tenant.wait_ready("instances", "mine", 180)
        other.wait_ready("instances", "theirs", 180)
        mine, theirs = tenant.guest("mine"), other.guest("theirs")
        assert theirs.address.startswith("10.20.0.")
        outside = other.client("h1", "outside")
        cloud.wait("each answers the other", lambda: theirs.reaches(mine.address) and mine.reaches(theirs.address))
        assert not outside.reaches(mine.address), "who has no card there is as far away as before"
        for owner, name in ((tenant, "mine"), (other, "theirs")):
            asked = ("ssh", name, "-p", owner.name, "--", "hostname")
            cloud.wait(f"a shell in {name}", lambda a=asked, n=name: cloud.vcctl(*a, check=False).strip() == n)  # type: ignore[misc]
        trusted = theirs.sh("cat /root/.ssh/authorized_keys")
        assert [authority_of(each) in trusted for each in (tenant, other)] == [False, True]

        tenant.apply("securitygroups", OPEN, {"rules": [rule for rule in ALL_V4 if rule["direction"] == "Egress"]})
        cloud.wait("the owner's group lets nothing in", lambda: not theirs.reaches(mine.address))
        cloud.wait("mine reaches", lambda: mine.reaches(theirs.address))
        regroup(other, "theirs", [])
        cloud.wait("nor does the borrower's", lambda: not mine.reaches(theirs.address))
        regroup(other, "theirs", [OPEN])
        cloud.wait("it does again", lambda: mine.reaches(theirs.address))

        tenant.patch("networks", NETWORK, {"spec": {"sharedWith": []}})
        with pytest.raises(Refused, match=r"spec\.network"):
            other.apply("ports", "late", {"network": lent})
        cloud.wait("the owner is told who is left", lambda: other.name in shared_condition(tenant)["message"])
        cloud.wait("mine reaches", lambda: mine.reaches(theirs.address))
        cloud.delete("instances", other.name, "theirs")
        cloud.wait("nobody is left", lambda: other.name not in shared_condition(tenant)["message"])
    finally:
        other.delete()


def authority_of(tenant: Tenant) -> str:
    """Whose certificates open shells in the project's guests."""
    answer = tenant.cloud.call("GET", path_of("projects", None, tenant.name, "sshauthority"))
    return str(answer["publicKey"])


def shared_condition(tenant: Tenant) -> Wire:
    """What the network says about those that it is shared with."""
    conditions = tenant.get("networks", NETWORK)["status"]["conditions"]
    return next((c for c in conditions if c["type"] == "Shared"), {"message": ""})
