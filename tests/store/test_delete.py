"""Deleting: finalizers hold, propagation is noted, claims go with the object, who did it is kept."""

import asyncio

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    HOST,
    INSTANCE,
    NETWORK,
    PORT,
    TASK,
    causes,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.access import Propagation
from vcstack.specs.errors import Conflict, Forbidden, NotFound
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER, FINALIZER
from vcstack.store.store import Store

REBOOT = {"type": "Reboot", "target": {"kind": "Instance", "name": "web-1"}}


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_project(memory_store)
    await make_network(memory_store)
    return memory_store


async def test_an_object_without_finalizers_goes_at_once(store: Store) -> None:
    await create(store, TASK, wire("t1", REBOOT))
    assert await store.delete(TASK, "demo", "t1", actor=ADMIN) is None
    with pytest.raises(NotFound):
        await store.get(TASK, "demo", "t1")


async def test_finalizers_hold_the_object_until_the_last_is_removed(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    marked = await any_store.delete(INSTANCE, "demo", "web-1", actor=ADMIN)
    assert marked is not None
    assert marked.wire["metadata"]["deletionTimestamp"]
    left = await any_store.finalize(INSTANCE, "demo", "web-1", [FINALIZER], actor=CONTROLLER)
    assert left is not None
    assert left.wire["metadata"]["finalizers"] == [DOMAIN_FINALIZER]
    assert await any_store.finalize(INSTANCE, "demo", "web-1", [DOMAIN_FINALIZER], actor=HOST) is None
    with pytest.raises(NotFound):
        await any_store.get(INSTANCE, "demo", "web-1")


async def test_deletion_is_asked_for_once(store: Store, memory_etcd: MemoryEtcd) -> None:
    first = await store.delete(NETWORK, "demo", "web", actor=ADMIN)
    writes = memory_etcd.writes
    again = await store.delete(NETWORK, "demo", "web", actor=ADMIN)
    assert first is not None
    assert again is not None
    assert again.json == first.json
    assert memory_etcd.writes == writes


async def test_generation_does_not_rise_with_deletion(store: Store) -> None:
    marked = await store.delete(NETWORK, "demo", "web", actor=ADMIN)
    assert marked is not None
    assert marked.wire["metadata"]["generation"] == 1


async def test_deleting_what_is_absent_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.delete(NETWORK, "demo", "none", actor=ADMIN)


async def test_preconditions_protect_another_object_of_that_name(store: Store) -> None:
    with pytest.raises(Conflict) as error:
        await store.delete(NETWORK, "demo", "web", uid="net-former", actor=ADMIN)
    assert "metadata.uid" in causes(error)
    with pytest.raises(Conflict):
        await store.delete(NETWORK, "demo", "web", resource_version="1", actor=ADMIN)


@pytest.mark.parametrize(
    ("propagation", "finalizer"),
    [(Propagation.FOREGROUND, "foregroundDeletion"), (Propagation.ORPHAN, "orphan"), (Propagation.BACKGROUND, None)],
)
async def test_propagation_becomes_a_finalizer(store: Store, propagation: Propagation, finalizer: str | None) -> None:
    marked = await store.delete(NETWORK, "demo", "web", propagation=propagation, actor=ADMIN)
    assert marked is not None
    assert marked.wire["metadata"]["finalizers"] == [*NETWORK.finalizers, *([finalizer] if finalizer else [])]


async def test_foreground_deletion_holds_an_object_without_other_finalizers(store: Store) -> None:
    await create(store, TASK, wire("t1", REBOOT))
    marked = await store.delete(TASK, "demo", "t1", propagation=Propagation.FOREGROUND, actor=ADMIN)
    assert marked is not None
    assert await store.finalize(TASK, "demo", "t1", ["foregroundDeletion"], actor=CONTROLLER) is None


async def test_removing_an_absent_finalizer_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    writes = memory_etcd.writes
    assert await store.finalize(NETWORK, "demo", "web", ["vcstack.io/none"], actor=CONTROLLER)
    assert memory_etcd.writes == writes


async def test_a_finalizer_removed_before_the_deletion_stays_away(store: Store) -> None:
    await store.finalize(NETWORK, "demo", "web", list(NETWORK.finalizers), actor=CONTROLLER)
    assert await store.delete(NETWORK, "demo", "web", actor=ADMIN) is None


async def test_users_and_hosts_remove_only_what_is_theirs(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    with pytest.raises(Forbidden):
        await any_store.finalize(INSTANCE, "demo", "web-1", [FINALIZER], actor=ADMIN)
    with pytest.raises(Forbidden):
        await any_store.finalize(INSTANCE, "demo", "web-1", [FINALIZER], actor=HOST)


async def test_finalizers_removed_at_once_by_two_end_the_object_once(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    await any_store.delete(INSTANCE, "demo", "web-1", actor=ADMIN)
    results = await asyncio.gather(
        any_store.finalize(INSTANCE, "demo", "web-1", [FINALIZER], actor=CONTROLLER),
        any_store.finalize(INSTANCE, "demo", "web-1", [DOMAIN_FINALIZER], actor=HOST),
    )
    assert results.count(None) == 1
    with pytest.raises(NotFound):
        await any_store.get(INSTANCE, "demo", "web-1")


async def test_claims_go_with_the_object(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_world(memory_store)
    await create(memory_store, PORT, wire("p1", {"network": "web", "address": "10.10.0.5"}))
    assert any(b"/.claims/addresses/" in key for key in memory_etcd.snapshot())
    await memory_store.delete(PORT, "demo", "p1", actor=ADMIN)
    assert any(b"/.claims/addresses/" in key for key in memory_etcd.snapshot())
    await memory_store.finalize(PORT, "demo", "p1", list(PORT.finalizers), actor=CONTROLLER)
    assert not any(b"/.claims/addresses/" in key for key in memory_etcd.snapshot())


async def test_who_removed_it_is_kept_for_the_history(store: Store, memory_etcd: MemoryEtcd) -> None:
    await create(store, TASK, wire("t1", REBOOT))
    await store.delete(TASK, "demo", "t1", actor=ADMIN)
    stone = orjson.loads(memory_etcd.snapshot()[b"/vcstack/.deleted"])
    assert stone["key"] == "/vcstack/tasks/demo/t1"
    assert stone["actor"]["subject"] == "admin"


async def test_a_dry_run_of_a_deletion_removes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    await create(store, TASK, wire("t1", REBOOT))
    before = memory_etcd.snapshot()
    assert await store.delete(TASK, "demo", "t1", dry_run=True, actor=ADMIN) is None
    shown = await store.delete(NETWORK, "demo", "web", dry_run=True, actor=ADMIN)
    assert shown is not None
    assert shown.wire["metadata"]["deletionTimestamp"]
    assert memory_etcd.snapshot() == before


async def test_a_name_can_be_used_again_with_a_new_uid(store: Store) -> None:
    first = await create(store, TASK, wire("t1", REBOOT))
    await store.delete(TASK, "demo", "t1", actor=ADMIN)
    second = await create(store, TASK, wire("t1", REBOOT))
    assert first.wire["metadata"]["uid"] != second.wire["metadata"]["uid"]
