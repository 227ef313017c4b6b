"""Filters and scores: pure functions of demand and hosts."""

from typing import Any

import pytest

from tests.fakes.manual_clock import BEGINNING
from vcstack.controllers.capacity import Standard
from vcstack.controllers.placement import (
    Candidate,
    Demand,
    Strategy,
    build_candidate,
    choose,
    describe_rejections,
    find_rejection,
)
from vcstack.specs.kinds.host import AGENT_READY, ALIVE, Capacity, Host, HostSpec, HostStatus, Overcommit, Scheduling
from vcstack.specs.kinds.instance import Placement
from vcstack.specs.meta import Condition, ConditionStatus, ObjectMeta


def candidate(name: str = "h1", *, used: int = 0, **changes: Any) -> Candidate:
    spec = changes.pop("spec", HostSpec(zone="a", reserved_memory_mib=0))
    conditions = [
        Condition(type=t, status=changes.pop(t, ConditionStatus.TRUE), reason="Test", last_transition_time=BEGINNING)
        for t in (ALIVE, AGENT_READY)
    ]
    status = {"capacity": Capacity(vcpus=4, memory_mib=1024, disk_gib=50), "virt_type": "qemu", **changes}
    labels = status.pop("labels", {"disk": "ssd"})
    deleted = status.pop("deleted", None)
    meta = ObjectMeta(name=name, labels=labels, deletion_timestamp=deleted)
    host = Host(metadata=meta, spec=spec, status=HostStatus(conditions=conditions, **status))
    return build_candidate(host, Standard(400, 100), Capacity(vcpus=used, memory_mib=used * 64, disk_gib=used))


def demand(memory: int = 128, **placement: Any) -> Demand:
    return Demand(Capacity(vcpus=1, memory_mib=memory, disk_gib=1), Placement(**placement))


def test_a_good_host_is_not_rejected() -> None:
    assert find_rejection(demand(zone="a", host_selector={"disk": "ssd"}, host="h1"), candidate()) is None


@pytest.mark.parametrize(
    ("asked", "offered", "reason"),
    [
        (demand(host="h9"), candidate(), "placement asks for host h9"),
        (demand(zone="b"), candidate(), "its zone is a, not b"),
        (demand(zone="b"), candidate(spec=HostSpec()), "its zone is not set, not b"),
        (demand(host_selector={"disk": "hdd"}), candidate(), "it has no label disk=hdd"),
        (demand(), candidate(spec=HostSpec(scheduling=Scheduling.DISABLED)), "it is cordoned"),
        (demand(), candidate(spec=HostSpec(out_of_service=True)), "it is out of service"),
        (demand(), candidate(Alive=ConditionStatus.UNKNOWN), "it is not Alive (Test)"),
        (demand(), candidate(AgentReady=ConditionStatus.FALSE), "it is not AgentReady (Test)"),
        (demand(), candidate(virt_type=None), "it has no working hypervisor"),
        (demand(), candidate(capacity=None), "its capacity was not observed yet"),
        (demand(), candidate(deleted=BEGINNING), "it is being deleted"),
        (demand(memory=2048), candidate(), "2048 MiB of memory asked, 1024 free"),
        (demand(memory=1000), candidate(used=1), "1000 MiB of memory asked, 960 free"),
        (demand(), candidate(used=16), "1 vCPUs asked, 0 free"),
    ],
)
def test_a_host_is_rejected_with_the_reason(asked: Demand, offered: Candidate, reason: str) -> None:
    assert find_rejection(asked, offered) == reason


def test_overcommit_makes_room() -> None:
    spec = HostSpec(reserved_memory_mib=0, overcommit=Overcommit(memory_percent=200))
    assert find_rejection(demand(memory=2048), candidate(spec=spec)) is None


def test_bin_packing_takes_the_fullest_that_fits_and_spread_the_emptiest() -> None:
    hosts = [candidate("h1"), candidate("h2", used=3), candidate("h3", used=16)]
    packed, rejected = choose(demand(), hosts, Strategy.BIN_PACKING)
    spread, _ = choose(demand(), hosts, Strategy.SPREAD)
    assert packed is not None
    assert spread is not None
    assert (packed.host.metadata.name, spread.host.metadata.name) == ("h2", "h1")
    assert set(rejected) == {"h3"}


def test_among_equals_the_one_with_the_image_wins_then_the_first_by_name() -> None:
    plain = [candidate("h3"), candidate("h1"), candidate("h2")]
    first, _ = choose(demand(), plain, Strategy.BIN_PACKING)
    assert first is not None
    assert first.host.metadata.name == "h1"
    cached = [*plain, candidate("h4", cached_images=["sha256:x"])]
    asked = Demand(demand().request, Placement(), image_digest="sha256:x")
    local, _ = choose(asked, cached, Strategy.BIN_PACKING)
    assert local is not None
    assert local.host.metadata.name == "h4"


def test_hosts_of_the_same_reason_are_named_together() -> None:
    text = describe_rejections({"h3": "it is cordoned", "h1": "it is cordoned", "h2": "its zone is a, not b"})
    assert text == "h1, h3: it is cordoned; h2: its zone is a, not b"
