"""Any user operations in any order, with kills of any program in between: the same invariants hold.

hypothesis draws a history and, when one breaks the cloud, the shortest that does.
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.cloud import Cloud, run_cloud
from tests.cloud.tenant import PROJECT, Tenant
from tests.cloud.virtual_time import run_virtually
from tests.fakes.crash import When
from vcstack.specs.resource import Ref

pytestmark = pytest.mark.usefixtures("quiet_programs")

NAMES = ("a", "b", "c")
CARDS: tuple[dict[str, Any], ...] = (
    {"name": "eth0", "network": "web"},
    {"name": "eth1", "network": "web", "securityGroups": []},
)
HISTORIES = 60

names = st.sampled_from(NAMES)
cards = st.sampled_from([[], [CARDS[0]], [CARDS[1]], list(CARDS)])
operations = st.one_of(
    st.tuples(st.just("create"), names, cards),
    st.tuples(st.just("power"), names, st.sampled_from(["Running", "Stopped", "Paused"])),
    st.tuples(st.just("cards"), names, cards),
    st.tuples(st.just("label"), names, st.sampled_from(["x", "y"])),
    st.tuples(st.just("delete"), names, st.none()),
    st.tuples(st.just("pass"), st.none(), st.sampled_from([0.5, 5.0, 30.0])),
    st.tuples(st.just("kill"), st.sampled_from(["manager", "h1", "h2"]), st.integers(1, 40)),
    st.tuples(st.just("kill-after"), st.sampled_from(["manager", "h1", "h2"]), st.integers(1, 40)),
)


@pytest.mark.timeout(3600)
@settings(max_examples=HISTORIES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(history=st.lists(operations, min_size=3, max_size=15))
def test_no_history_of_operations_and_kills_leaves_anything_wrong(history: list[tuple[str, Any, Any]]) -> None:
    async def main(folder: Path) -> None:
        async with run_cloud(folder / "world", "h1", "h2") as cloud:
            user = Tenant(cloud)
            await user.make_basics()
            await user.apply("Network", "web", {})
            await user.apply("Subnet", "web-v4", {"network": "web", "cidr": "10.10.0.0/24"})
            await user.rest()
            for operation in history:
                await _do(cloud, user, *operation)
            await user.rest()

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        run_virtually(main(Path(folder)))


async def _do(cloud: Cloud, user: Tenant, what: str, whom: str | None, how: Any) -> None:
    """Do one operation; one that makes no sense now is left out."""
    exists = Ref("Instance", PROJECT, whom or "") in user.wanted
    match what:
        case "create" if not exists:
            await user.wait_gone("Instance", whom or "")
            spec = {"flavor": "tiny", "image": "tiny", "networkInterfaces": how}
            await user.apply("Instance", whom or "", spec)
        case "power" if exists:
            await user.patch("Instance", whom or "", spec={"powerState": how})
        case "cards" if exists:
            await user.patch("Instance", whom or "", spec={"networkInterfaces": how})
        case "label" if exists:
            await user.patch("Instance", whom or "", labels={"l": how})
        case "delete" if exists:
            await user.delete("Instance", whom or "")
        case "pass":
            await cloud.clock.sleep(how)
        case "kill" | "kill-after":
            process = cloud.manager if whom == "manager" else cloud.agents[whom or ""]
            assert process is not None
            process.program.kill_at(how, When.BEFORE if what == "kill" else When.AFTER)
