"""SIGKILL of manager or agent at many moments of creating and deleting: all converges, nothing is left or doubled.

The sweep over every single step runs against backends in memory; this one shows that the real parts keep the promise.
"""

import time

import pytest

from deploy.lab.layout import CENTRAL
from tests.e2e.cloud import AWAY, Cloud, Refused
from tests.e2e.tenant import Tenant

POINTS = (0.0, 0.15, 0.3, 0.45, 0.75)
"""Seconds after the request."""
PROGRAMS = [(CENTRAL, "vc-management"), ("h1", "vc-compute")]


def kill_at(cloud: Cloud, seconds: float, node: str, program: str) -> None:
    time.sleep(seconds)
    if cloud.lab.pid(node, program) is not None:
        cloud.lab.kill(node, program)


@pytest.mark.parametrize(("node", "program"), PROGRAMS, ids=[program for _, program in PROGRAMS])
def test_a_kill_while_an_instance_is_created_doubles_nothing(
    cloud: Cloud, tenant: Tenant, node: str, program: str
) -> None:
    """Each instance is begun and the program killed a little later than for the one before."""
    for number, seconds in enumerate(POINTS):
        cloud.wait("the request", lambda name=f"n{number}": tenant.instance(name, "h1"))
        kill_at(cloud, seconds, node, program)
    for number in range(len(POINTS)):
        tenant.wait_ready("instances", f"n{number}")
    found = cloud.items("instances", tenant.name)
    assert len(found) == len(POINTS)
    running = cloud.qemu_pids("h1")
    assert all(len(running[instance["metadata"]["uid"]]) == 1 for instance in found)
    addresses = [instance["status"]["addresses"][0]["address"] for instance in found]
    macs = [instance["status"]["addresses"][0]["mac"] for instance in found]
    assert len(set(addresses)) == len(set(macs)) == len(POINTS)
    assert max(cloud.inventory().values()) <= max(before_duplicates(cloud), 1)


def before_duplicates(cloud: Cloud) -> int:
    """ACLs of one group carry the same mark; nothing else may be there twice."""
    return max((n for thing, n in cloud.inventory().items() if thing.startswith("NB ACL")), default=1)


@pytest.mark.parametrize(("node", "program"), PROGRAMS, ids=[program for _, program in PROGRAMS])
def test_a_kill_while_an_instance_is_deleted_leaves_nothing(
    cloud: Cloud, tenant: Tenant, node: str, program: str
) -> None:
    names = [f"n{number}" for number in range(len(POINTS))]
    for name in names:
        tenant.instance(name, "h1")
    for name in names:
        tenant.wait_ready("instances", name)
    uids = [instance["metadata"]["uid"] for instance in cloud.items("instances", tenant.name)]
    for name, seconds in zip(names, POINTS, strict=True):
        cloud.wait("the request", lambda name=name: _delete(cloud, tenant, name))
        kill_at(cloud, seconds, node, program)
    cloud.wait("all gone", lambda: not cloud.items("instances", tenant.name), 120)
    cloud.wait("nothing of them", lambda: not [t for t in cloud.inventory() if any(uid in t for uid in uids)])


def _delete(cloud: Cloud, tenant: Tenant, name: str) -> bool:
    try:
        cloud.delete("instances", tenant.name, name, wait=False)
    except (Refused, *AWAY):
        return False
    return True
