"""A host that is stated to be out of service, its guests, and what becomes of them when the machine comes back."""

import asyncio
from pathlib import Path

import pytest

from tests.cloud.cloud import Cloud, run_cloud
from tests.cloud.invariants import read_objects
from tests.cloud.scenario import SPARE
from tests.cloud.tenant import PROJECT, Tenant
from tests.cloud.virtual_time import run_virtually
from vcstack.nodeagent.backends.hypervisor import Power
from vcstack.runtime.status import condition_of
from vcstack.specs.conditions import READY
from vcstack.specs.kinds.host import OUT_OF_SERVICE
from vcstack.specs.kinds.instance import RUNNING, Instance
from vcstack.specs.resource import Ref

pytestmark = pytest.mark.usefixtures("quiet_programs")

HOSTS = ("h1", "h2")
LONG_SECONDS = 200.0
"""Longer than an agent waits before it asks again, and than between two of its sweeps."""

AT_ONCE_SECONDS = 30.0
"""Shorter than the time after which agents and controllers look at everything again."""


def is_lost(instance: Instance) -> bool:
    condition = instance.find_condition(RUNNING)
    return condition is not None and condition.reason == OUT_OF_SERVICE


async def have_instances(user: Tenant) -> str:
    """Have two instances on one host, of which web-1 is to be deleted; return the host."""
    await user.make_basics()
    await user.apply("Network", "web", {})
    await user.apply("Subnet", "web-v4", {"network": "web", "cidr": "10.10.0.0/24"})
    await user.apply("Port", "spare", {"network": "web"})
    cards = [{"name": "eth0", "network": "web"}, SPARE]
    await user.apply("Instance", "web-1", {"flavor": "tiny", "image": "tiny", "networkInterfaces": cards})
    await user.rest()
    host = user.find_instance("web-1").status.host
    assert host is not None
    await user.apply("Instance", "stays", {"flavor": "tiny", "image": "tiny", "placement": {"host": host}})
    await user.rest()
    return host


def cut_power(cloud: Cloud, host: str) -> None:
    """Have the machines end as by a power cut: they stay defined."""
    for uid in cloud.hosts[host].definitions:
        cloud.hosts[host].hypervisor.stop_by_itself(uid, "destroyed")


@pytest.mark.parametrize("runs", [False, True], ids=["it was off", "it ran all the time"])
def test_an_instance_made_again_elsewhere_is_the_only_one_when_the_machine_is_back(tmp_path: Path, runs: bool) -> None:
    async def main() -> None:
        async with run_cloud(tmp_path / "world", *HOSTS) as cloud:
            user = Tenant(cloud)
            lost = await have_instances(user)
            cloud.stop_supervising()
            if not runs:
                await cloud.agents[lost].kill()
                cut_power(cloud, lost)
            first, spec = user.find_instance("web-1"), user.wanted[Ref("Instance", PROJECT, "web-1")]["spec"]
            stays = user.find_instance("stays")
            await user.state(lost, out_of_service=True)
            await user.wait_for("web-1", is_lost)
            assert (await user.wait_for("stays", is_lost)).status.host == lost
            await user.delete("Instance", "web-1")
            await user.wait_gone("Instance", "web-1")
            await user.apply("Instance", "web-1", spec)
            second = await user.wait_for("web-1", lambda instance: instance.is_true(READY))
            assert (second.uid == first.uid, second.status.host == lost) == (False, False)
            if not runs:
                cloud.start_agent(lost)
            await asyncio.sleep(LONG_SECONDS)
            # Nothing is learned by the machine, and nothing is started on what it knows of old.
            powers = {cloud.hosts[lost].find_power(i.uid) for i in (first, stays)}
            assert powers == ({Power.RUNNING} if runs else {None})
            assert is_lost(user.find_instance("stays"))
            await user.state(lost, out_of_service=False)
            await user.rest()
            assert cloud.hosts[lost].definitions == {stays.uid}
            assert user.find_instance("stays").uid == stays.uid
            assert user.find_instance("web-1").status == second.status, "nobody touched it"

    run_virtually(main())


def test_both_sides_say_what_they_know_at_once(tmp_path: Path) -> None:
    """Not when they happen to look again at everything."""

    async def main() -> None:
        async with run_cloud(tmp_path / "world", *HOSTS) as cloud:
            user, loop = Tenant(cloud), asyncio.get_running_loop()
            lost = await have_instances(user)
            began = loop.time()
            await user.state(lost, out_of_service=True)
            found = await user.wait_for("stays", is_lost)
            # The agent's last word comes late.
            late = condition_of(found, RUNNING, False, "Stopped", clock=cloud.clock).to_wire()
            await cloud.system.patch_status(found, {"powerState": "Stopped", "conditions": [late]})
            found = await user.wait_for("stays", is_lost)
            assert found.status.power_state is None
            await user.state(lost, out_of_service=False)
            await user.wait_for("stays", lambda instance: instance.is_true(READY))
            assert loop.time() - began < AT_ONCE_SECONDS

    run_virtually(main())


def test_a_host_that_is_deleted_goes_when_what_is_bound_to_it_is_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with run_cloud(tmp_path / "world", *HOSTS) as cloud:
            user = Tenant(cloud)
            lost = await have_instances(user)
            cloud.stop_supervising()
            await cloud.agents[lost].kill()
            await user.state(lost, out_of_service=True)
            await user.delete("Host", lost, project=None)
            for name in ("web-1", "stays"):
                assert Ref("Host", None, lost) in read_objects(cloud)
                await user.delete("Instance", name)
                await user.wait_gone("Instance", name)
            while Ref("Host", None, lost) in read_objects(cloud):
                await asyncio.sleep(1)

    run_virtually(main())
