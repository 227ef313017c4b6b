"""Status writes: merging, Ready and observedGeneration, preconditions, no needless writes."""

import asyncio
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    FLAVOR,
    HOST,
    INSTANCE,
    NETWORK,
    PROJECT,
    TIME,
    TINY,
    causes,
    condition,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    ready,
    wire,
)
from vcstack.specs.errors import Conflict, Invalid, NotFound
from vcstack.specs.meta import CONDITIONS_LIMIT
from vcstack.store.actor import Actor
from vcstack.store.records import Stored
from vcstack.store.store import Store


async def patch(store: Store, status: dict[str, Any], **options: Any) -> Stored:
    return await store.patch_status(NETWORK, "demo", "web", status, **{"actor": CONTROLLER, **options})


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_project(memory_store)
    await make_network(memory_store)
    return memory_store


async def test_fields_merge_and_null_removes(store: Store) -> None:
    assert (await patch(store, {"mtuBytes": 1442})).wire["status"]["mtuBytes"] == 1442
    assert "mtuBytes" not in (await patch(store, {"mtuBytes": None})).wire["status"]


async def test_spec_and_generation_stay(store: Store) -> None:
    after = await patch(store, {"mtuBytes": 1442})
    assert (after.wire["spec"], after.wire["metadata"]["generation"]) == ({}, 1)


async def test_ready_follows_the_required_conditions(store: Store) -> None:
    waiting = await patch(store, {"mtuBytes": 1442})
    assert (ready(waiting)["status"], ready(waiting)["reason"]) == ("Unknown", "RealizedPending")
    refused = await patch(store, {"conditions": [condition("Realized", "False", reason="NoOVN", message="Start it.")]})
    assert (ready(refused)["status"], ready(refused)["reason"], ready(refused)["message"]) == (
        "False",
        "NoOVN",
        "Start it.",
    )
    done = await patch(store, {"conditions": [condition("Realized")]})
    assert ready(done)["status"] == "True"
    assert done.wire["status"]["observedGeneration"] == 1


async def test_conditions_merge_by_type(store: Store) -> None:
    await patch(store, {"conditions": [condition("Realized")]})
    after = await patch(store, {"conditions": [condition("Other", "False")]})
    assert {c["type"]: c["status"] for c in after.wire["status"]["conditions"]} == {
        "Realized": "True",
        "Ready": "True",
        "Other": "False",
    }


async def test_the_transition_time_moves_with_the_status_only(store: Store) -> None:
    await patch(store, {"conditions": [condition("Realized")]})
    later = condition("Realized", message="news") | {"lastTransitionTime": "2027-01-01T00:00:00Z"}
    after = await patch(store, {"conditions": [later]})
    found = next(c for c in after.wire["status"]["conditions"] if c["type"] == "Realized")
    assert (found["lastTransitionTime"], found["message"]) == (TIME, "news")


async def test_ready_cannot_be_claimed_by_the_writer(store: Store) -> None:
    after = await patch(store, {"conditions": [condition("Ready"), condition("Realized", "False", reason="No")]})
    assert ready(after)["status"] == "False"


async def test_a_repeated_observation_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    first = await patch(store, {"mtuBytes": 1442, "conditions": [condition("Realized")]})
    writes = memory_etcd.writes
    again = await patch(store, {"mtuBytes": 1442, "conditions": [condition("Realized")]})
    assert (again.json, memory_etcd.writes) == (first.json, writes)
    assert (await patch(store, {})).json == first.json
    assert memory_etcd.writes == writes


async def test_going_back_to_what_the_cache_may_still_show_is_not_lost(memory_etcd: MemoryEtcd, store: Store) -> None:
    await patch(store, {"mtuBytes": 1})
    async with Store(memory_etcd) as other:
        for value in range(2, 30):
            writer, reader = (store, other) if value % 2 else (other, store)
            await patch(writer, {"mtuBytes": value})
            await patch(reader, {"mtuBytes": value - 1})
            found = (await writer.get(NETWORK, "demo", "web")).wire["status"]["mtuBytes"]
            assert found == value - 1


async def test_a_change_of_spec_shows_in_ready_at_once(store: Store) -> None:
    await patch(store, {"conditions": [condition("Realized")]})
    changed = await store.merge_patch(NETWORK, "demo", "web", {"spec": {"mtuBytes": 1400}}, actor=ADMIN)
    assert (ready(changed)["status"], ready(changed)["reason"]) == ("Unknown", "NewGeneration")
    assert changed.wire["status"]["observedGeneration"] == 1
    done = await patch(store, {"conditions": [condition("Realized") | {"observedGeneration": 2}]})
    assert ready(done)["status"] == "True"


async def test_a_change_of_labels_leaves_ready_alone(store: Store) -> None:
    before = await patch(store, {"conditions": [condition("Realized")]})
    after = await store.merge_patch(NETWORK, "demo", "web", {"metadata": {"labels": {"a": "b"}}}, actor=ADMIN)
    assert after.wire["status"] == before.wire["status"]


async def test_status_is_validated(store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await patch(store, {"mtuBytes": "x", "unknown": 1})
    assert set(causes(error)) == {"status.mtuBytes", "status.unknown"}
    with pytest.raises(Invalid) as error:
        await patch(store, {"conditions": [{"type": "Realized", "status": "Yes"}]})
    assert "status.conditions[0].status" in causes(error)
    with pytest.raises(Invalid):
        await store.patch_status(NETWORK, "demo", "web", ["x"], actor=CONTROLLER)  # type: ignore[arg-type]


async def test_conditions_are_bounded_in_number_and_length(store: Store) -> None:
    many = [condition(f"Aspect{i}") for i in range(CONDITIONS_LIMIT)]
    with pytest.raises(Invalid) as error:
        await patch(store, {"conditions": many})
    assert causes(error) == {"status.conditions": "must have at most 64 items, not 65"}, "with Ready"
    await patch(store, {"conditions": many[:-1]})
    with pytest.raises(Invalid) as error:
        await patch(store, {"conditions": [condition("OneMore")]})
    assert causes(error) == {"status.conditions": "must have at most 64 items, not 65"}
    after = await patch(store, {"conditions": [condition("Aspect0", "False")]})
    assert len(after.wire["status"]["conditions"]) == CONDITIONS_LIMIT, "those that are there can be written"
    with pytest.raises(Invalid) as error:
        await patch(store, {"conditions": [condition("Aspect1", reason="x" * 1025, message="x" * 32_769)]})
    assert causes(error) == {
        "status.conditions[1].reason": "must have at most 1024 characters, not 1025",
        "status.conditions[1].message": "must have at most 32768 characters, not 32769",
    }


async def test_an_exact_version_is_demanded_when_given(store: Store) -> None:
    found = await store.get(NETWORK, "demo", "web")
    await patch(store, {"mtuBytes": 1}, resource_version=str(found.revision))
    with pytest.raises(Conflict):
        await patch(store, {"mtuBytes": 2}, resource_version=str(found.revision))


async def test_the_status_of_another_object_of_that_name_is_not_written(store: Store) -> None:
    with pytest.raises(Conflict) as error:
        await patch(store, {"mtuBytes": 1}, uid="net-former")
    assert "metadata.uid" in causes(error)
    with pytest.raises(NotFound):
        await store.patch_status(NETWORK, "demo", "none", {}, actor=CONTROLLER)


async def test_replacing_status_drops_what_is_not_given(store: Store) -> None:
    await patch(store, {"mtuBytes": 1442, "conditions": [condition("Realized")]})
    after = await store.replace_status(NETWORK, "demo", "web", {"mtuBytes": 1400}, actor=CONTROLLER)
    assert after.wire["status"]["mtuBytes"] == 1400
    assert [c["type"] for c in after.wire["status"]["conditions"]] == ["Ready"]


async def test_status_writes_are_managed_apart_from_spec(store: Store) -> None:
    await store.merge_patch(NETWORK, "demo", "web", {"spec": {"mtuBytes": 1400}}, actor=Actor("system:x", "both"))
    after = await patch(store, {"mtuBytes": 1400}, actor=Actor("system:x", "both"))
    entries = {(e["manager"], e.get("subresource", "")) for e in after.wire["metadata"]["managedFields"]}
    assert entries == {("both", ""), ("both", "status")}


async def test_writers_of_different_conditions_do_not_disturb_each_other(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    types = INSTANCE.ready_when
    await asyncio.gather(
        *(any_store.patch_status(INSTANCE, "demo", "web-1", {"conditions": [condition(t)]}, actor=HOST) for t in types)
    )
    assert ready(await any_store.get(INSTANCE, "demo", "web-1"))["status"] == "True"


async def test_deletion_shows_in_ready(memory_store: Store) -> None:
    await create(memory_store, FLAVOR, wire("tiny", TINY, project=None))
    await memory_store.patch_status(FLAVOR, None, "tiny", {"conditions": [condition("Accepted")]}, actor=CONTROLLER)
    marked = await memory_store.delete(FLAVOR, None, "tiny", actor=ADMIN)
    assert marked is not None
    assert (ready(marked)["status"], ready(marked)["reason"]) == ("False", "Deleting")


async def test_a_dry_run_of_a_status_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    before = memory_etcd.snapshot()
    assert (await patch(store, {"mtuBytes": 9}, dry_run=True)).wire["status"]["mtuBytes"] == 9
    assert memory_etcd.snapshot() == before


async def test_status_of_a_project_that_is_being_deleted_can_be_written(store: Store) -> None:
    await store.delete(PROJECT, None, "demo", actor=ADMIN)
    assert (await patch(store, {"mtuBytes": 7})).wire["status"]["mtuBytes"] == 7
