"""Status writes: only what changed, nothing when nothing did; errors shown as conditions."""

import pytest

from tests.fakes.world import World
from vcstack.runtime.errors import BackendUnavailable, TerminalError
from vcstack.runtime.status import build_patch, condition_of, hold_shown, write_status
from vcstack.specs.kinds.host import Capacity, Host
from vcstack.specs.meta import MESSAGE_LIMIT, ConditionStatus


async def test_only_what_changed_is_written(world: World) -> None:
    host = await world.create_host("h1")
    alive = condition_of(host, "Alive", True, "Test", clock=world.clock)
    lost = condition_of(host, "AgentReady", False, "Down", clock=world.clock)
    fields = {"virtType": "qemu", "capacity": Capacity(vcpus=8), "address": None, "cachedImages": ["sha256:x"]}
    patch = build_patch(host, fields, [alive, lost])
    assert patch["capacity"] == {"vcpus": 8, "memoryMiB": 0, "diskGiB": 0}
    assert patch["cachedImages"] == ["sha256:x"]
    assert set(patch) == {"capacity", "cachedImages", "conditions"}
    assert [c["type"] for c in patch["conditions"]] == ["AgentReady"]


async def test_nothing_is_written_for_nothing(world: World) -> None:
    host = await world.create_host("h1")
    before = world.etcd.writes
    world.clock.skip(100.0)
    same = condition_of(host, "Alive", True, "Test", clock=world.clock)
    assert await write_status(world.system, host, fields={"virtType": "qemu"}, conditions=[same]) is host
    assert world.etcd.writes == before


async def test_none_removes_a_field(world: World) -> None:
    host = await world.create_host("h1")
    written = await write_status(world.system, host, fields={"virtType": None})
    assert written.status.virt_type is None


async def test_a_new_generation_is_a_change_but_no_transition(world: World) -> None:
    host = await world.create_host("h1")
    before = host.find_condition("Alive")
    host.metadata.generation += 1
    world.clock.skip(100.0)
    patch = build_patch(host, {}, [condition_of(host, "Alive", True, "Test", clock=world.clock)])
    assert before is not None
    assert patch["conditions"][0]["observedGeneration"] == host.metadata.generation
    assert patch["conditions"][0]["lastTransitionTime"] == before.to_wire()["lastTransitionTime"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TerminalError("Impossible", "no way"), ConditionStatus.FALSE),
        (BackendUnavailable("OVN is away"), ConditionStatus.UNKNOWN),
    ],
)
async def test_an_error_is_shown_in_the_condition_and_raised_on(
    world: World, error: TerminalError | BackendUnavailable, status: ConditionStatus
) -> None:
    host = await world.create_host("h1")
    with pytest.raises(type(error)):
        async with hold_shown(world.system, host, "AgentReady", clock=world.clock):
            raise error
    shown = (await world.get(Host, "h1")).find_condition("AgentReady")
    assert shown is not None
    assert (shown.status, shown.reason, shown.message) == (status, error.reason, error.message)


async def test_a_message_of_too_many_things_is_cut(world: World) -> None:
    host = await world.create_host("h1")
    lost = condition_of(host, "AgentReady", False, "Down", "away. " * 10_000, clock=world.clock)
    written = (await write_status(world.system, host, conditions=[lost])).find_condition("AgentReady")
    assert written is not None
    assert len(written.message) == MESSAGE_LIMIT
    assert written.message.startswith("away. ")
    assert written.message.endswith("… (cut)")
