"""Replacing and patching: optimistic concurrency, generation, immutability, field managers, finalizers."""

import asyncio
from typing import Any

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    FLAVOR,
    INSTANCE,
    NETWORK,
    PORT,
    PROJECT,
    SUBNET,
    causes,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.errors import Conflict, Invalid, NotFound
from vcstack.store.actor import Actor
from vcstack.store.records import Stored
from vcstack.store.store import Store

BOB = Actor("bob", "console")


async def replace(store: Store, body: dict[str, Any], name: str = "web", **options: Any) -> Stored:
    return await store.replace(NETWORK, "demo", name, body, **{"actor": ADMIN, **options})


async def merge(store: Store, patch: dict[str, Any], name: str = "web", **options: Any) -> Stored:
    return await store.merge_patch(NETWORK, "demo", name, patch, **{"actor": ADMIN, **options})


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_project(memory_store)
    await make_network(memory_store)
    return memory_store


async def test_generation_rises_with_spec_only(store: Store) -> None:
    labelled = await merge(store, {"metadata": {"labels": {"a": "b"}}})
    assert labelled.wire["metadata"]["generation"] == 1
    changed = await merge(store, {"spec": {"mtuBytes": 1400}})
    assert changed.wire["metadata"]["generation"] == 2


async def test_replacing_with_the_same_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    first = await replace(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}))
    writes = memory_etcd.writes
    again = await replace(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}), actor=BOB)
    assert again.json == first.json
    assert memory_etcd.writes == writes


async def test_replacing_takes_away_what_is_not_given(store: Store) -> None:
    await replace(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}))
    bare = await replace(store, wire("web"))
    assert bare.wire["spec"] == {}
    assert "labels" not in bare.wire["metadata"]
    assert bare.wire["metadata"]["finalizers"] == list(NETWORK.finalizers)


async def test_a_stale_version_is_a_conflict_that_says_what_to_do(store: Store) -> None:
    old = await store.get(NETWORK, "demo", "web")
    await merge(store, {"spec": {"mtuBytes": 1400}})
    with pytest.raises(Conflict) as error:
        await replace(store, {**old.wire, "spec": {"mtuBytes": 1500}})
    assert "read it again" in error.value.message
    assert "metadata.resourceVersion" in causes(error)


async def test_what_was_read_can_be_written_back(store: Store) -> None:
    found = await store.get(NETWORK, "demo", "web")
    assert (await replace(store, found.wire)).revision == found.revision
    changed = await replace(store, {**found.wire, "spec": {"mtuBytes": 1500}})
    assert changed.wire["metadata"]["uid"] == found.wire["metadata"]["uid"]


async def test_another_objects_uid_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict) as error:
        await replace(store, wire("web", uid="net-other"))
    assert "metadata.uid" in causes(error)


async def test_what_does_not_exist_cannot_be_replaced_or_patched(store: Store) -> None:
    with pytest.raises(NotFound):
        await replace(store, wire("none"), "none")
    with pytest.raises(NotFound):
        await merge(store, {}, "none")


async def test_name_and_project_cannot_change(store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await replace(store, wire("other", project="elsewhere"))
    assert set(causes(error)) == {"metadata.name", "metadata.project"}


async def test_a_merge_patch_removes_with_null(store: Store) -> None:
    await merge(store, {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"mtuBytes": 1400}})
    after = await merge(store, {"metadata": {"labels": {"a": None}}, "spec": {"mtuBytes": None}})
    assert after.wire["metadata"]["labels"] == {"c": "d"}
    assert after.wire["spec"] == {}


async def test_a_merge_patch_may_demand_a_version(store: Store) -> None:
    with pytest.raises(Conflict):
        await merge(store, {"metadata": {"resourceVersion": "1"}, "spec": {"mtuBytes": 1400}})
    version = str((await store.get(NETWORK, "demo", "web")).revision)
    await merge(store, {"metadata": {"resourceVersion": version}, "spec": {"mtuBytes": 1400}})


async def test_status_cannot_be_written_through_spec_verbs(store: Store) -> None:
    body = {**wire("web"), "status": {"mtuBytes": 1}}
    for write in (replace(store, body), merge(store, {"status": {"mtuBytes": 1}})):
        with pytest.raises(Invalid) as error:
            await write
        assert "status" in causes(error)


async def test_the_status_read_may_be_sent_back(store: Store) -> None:
    await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 1442}, actor=CONTROLLER)
    found = await store.get(NETWORK, "demo", "web")
    changed = await replace(store, {**found.wire, "spec": {"mtuBytes": 1500}})
    assert changed.wire["status"]["mtuBytes"] == 1442


async def test_immutable_fields_say_to_create_another_one(any_store: Store) -> None:
    await make_world(any_store)
    patch = {"spec": {"vcpus": 2}}
    with pytest.raises(Invalid) as error:
        await any_store.merge_patch(FLAVOR, None, "tiny", patch, actor=ADMIN)
    assert causes(error) == {
        "spec.vcpus": "cannot change; create another Flavor, or delete this one and create it again"
    }
    await create(any_store, PORT, wire("p1", {"network": "web"}))
    with pytest.raises(Invalid) as error:
        await any_store.merge_patch(PORT, "demo", "p1", {"spec": {"address": "10.10.0.9"}}, actor=ADMIN)
    assert "spec.address" in causes(error)


async def test_spelling_out_the_default_of_an_immutable_field_is_no_change(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, INSTANCE, instance())
    after = await memory_store.merge_patch(INSTANCE, "demo", "web-1", {"spec": {"placement": {}}}, actor=ADMIN)
    assert after.wire["metadata"]["generation"] == 2
    patch = {"spec": {"placement": {"zone": "z1"}}}
    with pytest.raises(Invalid):
        await memory_store.merge_patch(INSTANCE, "demo", "web-1", patch, actor=ADMIN)


async def test_rules_across_fields_hold_for_updates_too(memory_store: Store) -> None:
    await make_world(memory_store)
    with pytest.raises(Invalid) as error:
        await memory_store.merge_patch(SUBNET, "demo", "web-v4", {"spec": {"gateway": "10.11.0.1"}}, actor=ADMIN)
    assert "spec.gateway" in causes(error)


async def test_a_refused_update_changes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    before = memory_etcd.snapshot()
    for patch in ({"spec": {"mtuBytes": 5}}, {"spec": {"x": 1}}, {"spec": 5}, {"metadata": {"labels": {"a": 1}}}):
        with pytest.raises(Invalid):
            await merge(store, patch)
    assert memory_etcd.snapshot() == before


async def test_the_last_writer_is_the_actor(store: Store, memory_etcd: MemoryEtcd) -> None:
    await merge(store, {"spec": {"mtuBytes": 1400}}, actor=BOB)
    value = orjson.loads(memory_etcd.snapshot()[b"/vcstack/networks/demo/web"])
    assert value["actor"]["subject"] == "bob"


async def test_managed_fields_tell_who_wrote_what(store: Store) -> None:
    await merge(store, {"metadata": {"labels": {"a": "b"}}})
    after = await merge(store, {"spec": {"mtuBytes": 1400}}, actor=BOB)
    owned = {e["manager"]: e["fields"] for e in after.wire["metadata"]["managedFields"]}
    assert owned == {"vcctl": {"f:metadata": {"f:labels": {"f:a": {}}}}, "console": {"f:spec": {"f:mtuBytes": {}}}}


async def test_new_objects_of_one_shape_have_the_same_managed_fields(store: Store) -> None:
    specs = [{"mtuBytes": 1400}, {"mtuBytes": 1401}, {}]
    made = [await create(store, NETWORK, wire(f"n{i}", s, labels={"a": "b"})) for i, s in enumerate(specs)]
    fields = [m.wire["metadata"]["managedFields"][0]["fields"] for m in made]
    labels = {"f:metadata": {"f:labels": {"f:a": {}}}}
    assert fields == [{**labels, "f:spec": {"f:mtuBytes": {}}}, {**labels, "f:spec": {"f:mtuBytes": {}}}, labels]
    by_bob = await create(store, NETWORK, wire("n9", {"mtuBytes": 1400}), actor=BOB)
    assert [e["manager"] for e in by_bob.wire["metadata"]["managedFields"]] == ["console"]


async def test_concurrent_patches_of_different_fields_all_land(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store)
    patches = [{"metadata": {"labels": {f"l{i}": "x"}}} for i in range(20)]
    await asyncio.gather(*(merge(any_store, p) for p in patches))
    labels = (await any_store.get(NETWORK, "demo", "web")).wire["metadata"]["labels"]
    assert len(labels) == 20


async def test_increments_by_exact_version_are_never_lost(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store)

    async def increment() -> None:
        while True:
            found = await any_store.get(NETWORK, "demo", "web")
            count = int(found.wire["metadata"].get("labels", {}).get("count", "0"))
            found.wire["metadata"]["labels"] = {"count": str(count + 1)}
            try:
                await replace(any_store, found.wire)
            except Conflict:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(15)))
    assert (await any_store.get(NETWORK, "demo", "web")).wire["metadata"]["labels"] == {"count": "15"}


async def test_two_stores_never_overwrite_each_other(memory_etcd: MemoryEtcd, store: Store) -> None:
    async with Store(memory_etcd) as other:
        writes = [
            merge(s, {"metadata": {"labels": {f"{n}-{i}": "x"}}})
            for n, s in (("a", store), ("b", other))
            for i in range(10)
        ]
        await asyncio.gather(*writes)
        assert len((await other.get(NETWORK, "demo", "web")).wire["metadata"]["labels"]) == 20


async def test_users_cannot_remove_the_systems_finalizers(store: Store) -> None:
    for write in (
        replace(store, wire("web", finalizers=["example.com/mine"])),
        merge(store, {"metadata": {"finalizers": None}}),
    ):
        with pytest.raises(Invalid) as error:
            await write
        assert "is removed by the system only" in causes(error)["metadata.finalizers"]


async def test_users_add_and_remove_finalizers_of_their_own(store: Store) -> None:
    mine = [*NETWORK.finalizers, "example.com/mine"]
    assert (await merge(store, {"metadata": {"finalizers": mine}})).wire["metadata"]["finalizers"] == mine
    after = await merge(store, {"metadata": {"finalizers": list(NETWORK.finalizers)}})
    assert after.wire["metadata"]["finalizers"] == list(NETWORK.finalizers)


async def test_a_deleting_object_gets_no_new_finalizers(store: Store) -> None:
    await store.delete(NETWORK, "demo", "web", actor=ADMIN)
    with pytest.raises(Invalid) as error:
        await merge(store, {"metadata": {"finalizers": [*NETWORK.finalizers, "example.com/late"]}})
    assert causes(error) == {"metadata.finalizers": "the object is being deleted: none can be added"}


async def test_removing_the_last_finalizer_by_an_update_removes_a_deleting_object(store: Store) -> None:
    await create(store, PROJECT, wire("p2", project=None, finalizers=["example.com/mine"]))
    await store.delete(PROJECT, None, "p2", actor=ADMIN)
    await store.finalize(PROJECT, None, "p2", list(PROJECT.finalizers), actor=CONTROLLER)
    gone = await store.merge_patch(PROJECT, None, "p2", {"metadata": {"finalizers": []}}, actor=ADMIN)
    assert gone.gone
    with pytest.raises(NotFound):
        await store.get(PROJECT, None, "p2")


async def test_a_dry_run_of_an_update_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    before = memory_etcd.snapshot()
    shown = await merge(store, {"spec": {"mtuBytes": 1400}}, dry_run=True)
    assert shown.wire["metadata"]["generation"] == 2
    assert memory_etcd.snapshot() == before
