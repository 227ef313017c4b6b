"""SIGKILL of manager or agent at many moments of creating and deleting: all converges, nothing is left or doubled.

The sweep over every single step runs against backends in memory; this one shows that the real parts keep the promise.
"""

import time

import pytest

from deploy.lab.layout import CENTRAL
from tests.e2e.cloud import AWAY, Cloud, Refused, doubled
from tests.e2e.tenant import Tenant

POINTS = (0.1, 0.3, 0.5, 0.8)
"""Seconds after the requests."""
PROGRAMS = [(CENTRAL, "vc-management"), ("h1", "vc-compute")]


@pytest.mark.parametrize(("node", "program"), PROGRAMS, ids=[program for _, program in PROGRAMS])
def test_kills_while_instances_come_and_go_double_nothing_and_leave_nothing(
    cloud: Cloud, tenant: Tenant, node: str, program: str
) -> None:
    """One instance is being made and the one before is being deleted when the program is killed."""
    gone: list[str] = []
    uids: set[str] = set()
    for number, seconds in enumerate(POINTS):
        name = f"n{number}"
        cloud.wait("the request", lambda name=name: tenant.instance(name, "h1"))
        if number:
            gone.append(f"n{number - 1}")
            cloud.wait("the request", lambda: _delete(cloud, tenant, gone[-1]))
        time.sleep(seconds)
        cloud.lab.kill(node, program)
        tenant.wait_ready("instances", name)
        cloud.wait("those before gone", lambda: len(cloud.items("instances", tenant.name)) == 1)
        assert doubled(cloud.inventory()) == []
        uid = tenant.get("instances", name)["metadata"]["uid"]
        assert len(cloud.qemu_pids("h1")[uid]) == 1
        assert not {u for u in uids if u in cloud.qemu_pids("h1")}
        uids.add(uid)


def _delete(cloud: Cloud, tenant: Tenant, name: str) -> bool:
    try:
        cloud.delete("instances", tenant.name, name, wait=False)
    except (Refused, *AWAY):
        return False
    return True
