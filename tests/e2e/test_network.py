"""Security with real packets, between a guest and clients on both hosts."""

import pytest

from tests.e2e.cloud import HOSTS, Cloud, Refused
from tests.e2e.tenant import ALL_V4, OPEN, Tenant

PING = {"name": "ping", "direction": "Ingress", "protocol": "ICMP", "remoteCidr": "0.0.0.0/0"}
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
    assert guest.reaches(far.address)
    assert guest.pid == first


def test_the_default_group_lets_in_its_members_only(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    regroup(pair, "b", None)
    member = pair.client("h1", "member", groups=["default"])
    stranger = pair.client("h1", "stranger", groups=[OPEN])
    cloud.wait("members reach it", lambda: member.reaches(guest.address))
    assert member.connects(guest.address, 22)
    assert not stranger.reaches(guest.address)
    assert not stranger.connects(guest.address, 22)
    assert guest.reaches(stranger.address)


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
