"""The security group's reconciler. What its ACLs do to packets: tests/controllers/backends/test_ovn_acls.py."""

import pytest

from tests.controllers.backends.network_world import DEMO, World
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.network import Acl, AclAction, AclDirection, Owner, PortGroup, build_drop_acls
from vcstack.controllers.security_group import build_acls
from vcstack.runtime.errors import BackendUnavailable
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupRule, SecurityGroupSpec
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.store import Store

OUT = "outport == @sg_00000000000a"
IN = "inport == @sg_00000000000a"


@pytest.fixture
async def world(memory_store: Store) -> World:
    world = World(memory_store, FakeOvn())
    await world.add_project()
    return world


def build_spec(*rules: dict[str, object]) -> SecurityGroupSpec:
    named = [{"name": f"r{i}", "direction": "Ingress", **rule} for i, rule in enumerate(rules)]
    return SecurityGroupSpec(rules=[SecurityGroupRule.from_wire(rule) for rule in named])


SSH = {"protocol": "TCP", "portMin": 22, "remoteCidr": "0.0.0.0/0"}


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, [f"{OUT} && ip"]),
        ({"direction": "Egress"}, [f"{IN} && ip"]),
        ({"remoteCidr": "0.0.0.0/0"}, [f"{OUT} && ip4"]),
        ({"remoteCidr": "::/0"}, [f"{OUT} && ip6"]),
        ({"remoteCidr": "10.0.0.0/8"}, [f"{OUT} && ip4 && ip4.src == 10.0.0.0/8"]),
        ({"remoteCidr": "fd00::/8", "direction": "Egress"}, [f"{IN} && ip6 && ip6.dst == fd00::/8"]),
        ({"protocol": "TCP"}, [f"{OUT} && ip && tcp"]),
        (SSH, [f"{OUT} && ip4 && tcp && tcp.dst == 22"]),
        ({"protocol": "UDP", "portMin": 5, "portMax": 7}, [f"{OUT} && ip && udp && 5 <= udp.dst <= 7"]),
        ({"protocol": "UDP", "portMin": 5, "portMax": 5}, [f"{OUT} && ip && udp && udp.dst == 5"]),
        ({"protocol": "ICMP"}, [f"{OUT} && ip4 && icmp4"]),
        (
            {"protocol": "ICMP", "icmpType": 8, "icmpCode": 0},
            [f"{OUT} && ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0"],
        ),
        ({"protocol": "ICMPv6", "icmpType": 0}, [f"{OUT} && ip6 && icmp6 && icmp6.type == 0"]),
        (
            {"remoteSecurityGroup": "web"},
            [
                f"{OUT} && ip4 && ip4.src == $sg_00000000000b_ip4",
                f"{OUT} && ip6 && ip6.src == $sg_00000000000b_ip6",
            ],
        ),
        (
            {"remoteSecurityGroup": "web", "protocol": "ICMPv6", "direction": "Egress"},
            [f"{IN} && ip6 && ip6.dst == $sg_00000000000b_ip6 && icmp6"],
        ),
        ({"remoteSecurityGroup": "unknown"}, []),
    ],
)
def test_a_rule_becomes_these_matches(rule: dict[str, object], matches: list[str]) -> None:
    group = SecurityGroup.new("g", build_spec(rule), project=DEMO)
    group.metadata.uid = "sg-00000000000a"
    acls = build_acls(group, {"web": "sg-00000000000b"})
    assert sorted(a.match for a in acls) == matches
    assert {(a.priority, a.action, a.rule) for a in acls} <= {(1001, AclAction.ALLOW_RELATED, "r0")}
    direction = AclDirection.FROM_PORT if rule.get("direction") == "Egress" else AclDirection.TO_PORT
    assert {a.direction for a in acls} <= {direction}


def test_a_network_drops_all_ip_in_both_directions() -> None:
    acls = build_drop_acls("net-00000000000a")
    drops = {(a.direction, a.match) for a in acls if a.action is AclAction.DROP and a.rule == "drop"}
    assert drops == {
        (AclDirection.FROM_PORT, "inport == @net_00000000000a && ip"),
        (AclDirection.TO_PORT, "outport == @net_00000000000a && ip"),
    }


async def test_create_makes_a_port_group_and_counts(world: World) -> None:
    async with world.running():
        made = await world.add(SecurityGroup, "ssh", build_spec(SSH, {"remoteSecurityGroup": "default"}))
        found = await world.ready(SecurityGroup, "ssh")
        default = await world.get(SecurityGroup, "default")
    assert (found.status.rule_count, found.status.port_count) == (3, 0)
    observed = await world.backend.observe_port_group(made.uid)
    assert observed.group == PortGroup(Owner.of(made), build_acls(made, {"default": default.uid}))


async def test_the_count_of_ports_follows(world: World) -> None:
    async def counted(n: int) -> bool:
        return (await world.get(SecurityGroup, "default")).status.port_count == n

    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        for name in ("a", "b"):
            await world.add_port(name)
        await world.until(lambda: counted(2))
        await world.delete(Port, "a")
        await world.until(lambda: counted(1))


async def test_rules_are_followed_live(world: World) -> None:
    async with world.running():
        await world.add(SecurityGroup, "ssh", build_spec(SSH))
        made = await world.ready(SecurityGroup, "ssh")
        made = await world.change(made, build_spec({"protocol": "TCP", "portMin": 80}))

        async def followed() -> bool:
            observed = await world.backend.observe_port_group(made.uid)
            return bool(observed.group.acls == build_acls(made, {}))

        await world.until(followed)


async def test_a_missing_remote_group_is_named_and_the_other_rules_hold(world: World) -> None:
    spec = build_spec(SSH, {"remoteSecurityGroup": "later"})
    wire = SecurityGroup.new("ssh", spec, project=DEMO).to_wire()
    del wire["status"]
    async with world.running():
        actor = Actor("admin", "gitops")
        await world.store.create(get_kind("SecurityGroup"), wire, actor=actor, allow_missing_references=True)
        told = await world.condition(SecurityGroup, "ssh", "Realized", "RemoteGroupMissing")
        assert "later" in told.message
        made = await world.get(SecurityGroup, "ssh")
        assert len((await world.backend.observe_port_group(made.uid)).group.acls) == 1
        await world.add(SecurityGroup, "later", build_spec())
        assert (await world.ready(SecurityGroup, "ssh")).status.rule_count == 3


async def test_groups_may_name_each_other_and_still_be_deleted(world: World) -> None:
    async with world.running():
        await world.add(SecurityGroup, "a", build_spec())
        await world.add(SecurityGroup, "b", build_spec({"remoteSecurityGroup": "a"}))
        a = await world.ready(SecurityGroup, "a")
        await world.change(a, build_spec({"remoteSecurityGroup": "b"}, {"remoteSecurityGroup": "a"}))
        await world.ready(SecurityGroup, "b")
        await world.delete(SecurityGroup, "a")
        held = await world.condition(SecurityGroup, "a", "Deletable", "InUse")
        assert "SecurityGroup demo/b" in held.message
        await world.delete(SecurityGroup, "b")
        await world.gone(SecurityGroup, "a")
        await world.gone(SecurityGroup, "b")


async def test_deletion_waits_for_its_ports_and_names_them(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port()
        await world.ready(Port, "p")
        await world.delete(SecurityGroup, "default")  # the port is in it without naming it
        held = await world.condition(SecurityGroup, "default", "Deletable", "InUse")
        assert "Port demo/p" in held.message
        await world.delete(Port, "p")
        await world.gone(SecurityGroup, "default")


async def test_a_group_removed_or_edited_by_hand_comes_back_with_its_ports(world: World) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.add_port()
        await world.ready(Port, "p")
        group = await world.ready(SecurityGroup, "default")
        wanted = build_acls(group, {})

        async def repaired() -> bool:
            observed = await world.backend.observe_port_group(group.uid)
            return observed is not None and (observed.group.acls, observed.ports) == (wanted, 1)

        await world.until(repaired)
        world.backend.remove("SecurityGroup", group.uid)
        await world.until(repaired)
        hole = Acl(AclDirection.TO_PORT, 2000, "ip", AclAction.ALLOW)
        world.backend.edit("SecurityGroup", group.uid, acls=wanted | {hole})
        await world.until(repaired)


async def test_a_failing_backend_is_tried_again(world: World) -> None:
    world.backend.state.failure = BackendUnavailable("OVN is away")
    async with world.running():
        await world.condition(SecurityGroup, "default", "Realized", "BackendUnavailable")
        world.backend.state.failure = None
        await world.ready(SecurityGroup, "default")


async def test_finalizing_what_is_absent_in_ovn_succeeds(world: World) -> None:
    async with world.running():
        group = await world.ready(SecurityGroup, "default")
    world.backend.remove("SecurityGroup", group.uid)
    await world.delete(SecurityGroup, "default")
    async with world.running():
        await world.gone(SecurityGroup, "default")


async def test_rows_without_object_are_swept(world: World) -> None:
    gone = Owner("SecurityGroup", "sg-ffffffffffff", DEMO, "gone")
    await world.backend.ensure_port_group(PortGroup(gone))
    async with world.running():

        async def swept() -> bool:
            return await world.backend.observe_port_group(gone.uid) is None

        await world.until(swept)
