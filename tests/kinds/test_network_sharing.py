"""Networks of one project with ports of another: addresses, OVN, what is reported to whom."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.controllers.backends.network_world import DEMO, World
from tests.fakes.ovn_nb import FakeOvn
from tests.fixtures.ovn import Central
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.network import SHARED, Network, NetworkSpec, Share
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup, SecurityGroupRule, SecurityGroupSpec
from vcstack.specs.kinds.subnet import Subnet
from vcstack.store.store import Store

OTHER = "other"
WEB = f"{DEMO}/web"


class SharedWorld(World):
    """A second project, which the first one's network is shared with."""

    async def add_projects(self) -> None:
        await self.add_project()
        await self.user.create(Project.new(OTHER, ProjectSpec()))
        rule = SecurityGroupRule.from_wire({"name": "out", "direction": "Egress"})
        group = SecurityGroup.new("default", SecurityGroupSpec(rules=[rule]), project=OTHER)
        await self.user.create(group)

    async def share(self, *shares: Share) -> None:
        await self.change(await self.get(Network, "web"), NetworkSpec(shared_with=list(shares)))

    async def add_borrower(self, name: str = "b", **spec: Any) -> Port:
        return await self.user.create(Port.new(name, PortSpec(**{"network": WEB, **spec}), project=OTHER))

    async def borrower(self, name: str = "b") -> Port:
        async def check() -> Port | None:
            found = await self.user.get(Port, name, OTHER)
            return found if found.is_true("Ready") else None

        return await self.until(check)  # type: ignore[no-any-return]


@pytest.fixture
async def world(memory_store: Store) -> SharedWorld:
    world = SharedWorld(memory_store, FakeOvn())
    await world.add_projects()
    return world


async def test_a_borrowers_port_is_on_the_lenders_switch_with_its_own_groups(world: SharedWorld) -> None:
    async with world.running():
        network = await world.add_network("web", "10.0.0.0/24")
        await world.share(Share(project=OTHER))
        await world.add_port()
        own = await world.ready(Port, "p")
        await world.add_borrower()
        lent = await world.borrower()
    assert {a.address for p in (own, lent) for a in p.status.addresses or ()} == {"10.0.0.2", "10.0.0.3"}
    assert [a.subnet for a in lent.status.addresses or ()] == [f"{DEMO}/web-0"]
    observed = (await world.backend.observe_port(lent.uid)).port
    assert observed.switch == network.uid
    assert observed.groups == frozenset({(await world.user.get(SecurityGroup, "default", OTHER)).uid})
    assert observed.dhcpv4 == (await world.get(Subnet, "web-0")).uid
    assert observed.owner.project == OTHER


async def test_the_lender_learns_who_is_left_when_it_takes_the_network_back(world: SharedWorld) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.share(Share(project=OTHER))
        await world.condition(Network, "web", SHARED, "Shared")
        await world.add_borrower("secret-plan")
        await world.borrower("secret-plan")
        await world.share()
        left = await world.condition(Network, "web", SHARED, "StillInUse")
        assert "not shared with project other any more, but 1 port of it is on the network" in left.message
        assert "secret-plan" not in left.message
        assert [(s.project, s.port_count) for s in (await world.get(Network, "web")).status.shared_with or ()] == [
            (OTHER, 1)
        ]
        with pytest.raises(Invalid):
            await world.add_borrower("late")
        assert (await world.borrower("secret-plan")).is_true("Realized")
        await world.user.delete((await world.borrower("secret-plan")).ref)
        await world.condition(Network, "web", SHARED, "NotShared")
        assert (await world.get(Network, "web")).status.shared_with is None


async def test_network_and_subnet_stay_while_others_ports_are_on_them(world: SharedWorld) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.share(Share(project=OTHER))
        await world.add_borrower("secret-plan")
        await world.borrower("secret-plan")
        for kind, name in ((Subnet, "web-0"), (Network, "web")):
            await world.delete(kind, name)
            held = await world.condition(kind, name, "Deletable", "InUse")
            assert "1 Port of other projects" in held.message
            assert "secret-plan" not in held.message
        await world.user.delete((await world.borrower("secret-plan")).ref)
        await world.gone(Subnet, "web-0")
        await world.gone(Network, "web")


async def test_a_project_that_is_gone_is_named_until_it_is_taken_out(world: SharedWorld) -> None:
    async with world.running():
        await world.add_network("web", "10.0.0.0/24")
        await world.share(Share(project=OTHER))
        await world.condition(Network, "web", SHARED, "Shared")
        project = await world.user.get(Project, OTHER)
        await world.user.delete(project.ref)
        await world.system.remove_finalizer(project, *project.metadata.finalizers)
        gone = await world.condition(Network, "web", SHARED, "TargetGone")
        assert "project other is gone" in gone.message
        await world.user.create(Project.new(OTHER, ProjectSpec()))
        with pytest.raises(Invalid, match="no Network demo/web that is shared"):
            await world.add_borrower()
        assert (await world.get(Network, "web")).find_condition(SHARED).reason == "TargetGone"  # type: ignore[union-attr]
        await world.share()
        await world.condition(Network, "web", SHARED, "NotShared")
        await world.share(Share(project=OTHER))
        await world.condition(Network, "web", SHARED, "Shared")
        assert await world.add_borrower()


async def test_a_second_run_changes_nothing(world: SharedWorld) -> None:
    await world.add_network("web", "10.0.0.0/24", "fd00::/64")
    await world.share(Share(project=OTHER))
    await world.add_borrower()
    async with world.running():
        await world.borrower()
        before = await world.settled()
    async with world.running():
        assert await world.settled() == before


@pytest.mark.daemons
async def test_packets_pass_between_projects_as_the_groups_of_each_allow(
    memory_store: Store, central: Central, backend: OvnNorthbound
) -> None:
    world = SharedWorld(memory_store, backend)
    await world.add_projects()
    async with world.running():
        network = await world.add_network("web", "10.0.0.0/24")
        await world.share(Share(project=OTHER))
        await world.add_port()
        await world.add_borrower()
        own, lent = await world.ready(Port, "p"), await world.borrower()
        central.sbctl("chassis-add", "hv", "geneve", "127.0.0.1")
        central.nbctl("--wait=sb", "sync")
        for port in (own, lent):
            central.sbctl("--may-exist", "lsp-bind", port.uid, "hv")
        assert not await arrives(central, network, lent, own)
        default = await world.get(SecurityGroup, "default")
        source = f"{(lent.status.addresses or [])[0].address}/32"
        rule = SecurityGroupRule.from_wire({"name": "in", "direction": "Ingress", "remoteCidr": source})
        await world.change(default, SecurityGroupSpec(rules=[*default.spec.rules, rule]))
        await world.until(lambda: arrives(central, network, lent, own))
        assert not await arrives(central, network, own, lent)


@pytest.fixture
async def backend(central: Central) -> AsyncIterator[OvnNorthbound]:
    made = OvnNorthbound(OvnSettings(remote=central.remote, timeout_seconds=5, probe_seconds=1))
    yield made
    await made.close()


async def arrives(central: Central, network: Network, sender: Port, receiver: Port) -> bool:
    """Return whether a first packet of a connection from one port reaches the other, as ovn-trace says."""
    source, target = ((p.status.addresses or [])[0].address for p in (sender, receiver))
    flow = (
        f'inport == "{sender.uid}" && eth.src == {sender.status.mac} && eth.dst == {receiver.status.mac} '
        f"&& ip4.src == {source} && ip4.dst == {target} && ip.ttl == 64 && tcp && tcp.dst == 22"
    )
    out = await asyncio.to_thread(central.trace, network.uid, flow, "--summary", "--ct=new", "--ct=new")
    return f'output to "{receiver.uid}"' in out
