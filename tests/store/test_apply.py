"""Server-side apply through the store: create or update, conflicts, dry run, unknown fields."""

import asyncio
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    FLAVOR,
    GROUP,
    NETWORK,
    TINY,
    causes,
    create,
    make_network,
    make_project,
    wire,
)
from vcstack.specs.errors import BadRequest, Conflict, Invalid
from vcstack.store.actor import Actor
from vcstack.store.records import Stored
from vcstack.store.store import Store

BOB = Actor("bob", "console")


async def apply(store: Store, body: dict[str, Any], **options: Any) -> Stored:
    name = body["metadata"]["name"]
    return await store.apply(NETWORK, "demo", name, body, **{"actor": ADMIN, **options})


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_project(memory_store)
    return memory_store


async def test_applying_creates_what_is_absent(store: Store) -> None:
    made = await apply(store, wire("web", {"mtuBytes": 1400}))
    assert made.wire["metadata"]["uid"].startswith("net-")
    assert made.wire["metadata"]["finalizers"] == list(NETWORK.finalizers)
    assert made.wire["spec"] == {"mtuBytes": 1400}
    [entry] = made.wire["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("vcctl", "Apply")


async def test_applying_the_same_again_writes_nothing(store: Store, memory_etcd: MemoryEtcd) -> None:
    first = await apply(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}))
    writes = memory_etcd.writes
    again = await apply(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}))
    assert (again.json, memory_etcd.writes) == (first.json, writes)


async def test_a_field_no_longer_applied_goes(store: Store) -> None:
    await apply(store, wire("web", {"mtuBytes": 1400}, labels={"a": "b"}))
    after = await apply(store, wire("web"))
    assert after.wire["spec"] == {}
    assert "labels" not in after.wire["metadata"]
    assert after.wire["metadata"]["generation"] == 2


async def test_a_field_of_another_manager_is_a_conflict_that_names_both(store: Store) -> None:
    await apply(store, wire("web", {"mtuBytes": 1400}))
    with pytest.raises(Conflict) as error:
        await apply(store, wire("web", {"mtuBytes": 1500}), actor=BOB)
    assert "vcctl" in causes(error)["spec.mtuBytes"]


async def test_force_takes_the_field_over(store: Store) -> None:
    await apply(store, wire("web", {"mtuBytes": 1400}))
    after = await apply(store, wire("web", {"mtuBytes": 1500}), actor=BOB, force=True)
    assert after.wire["spec"] == {"mtuBytes": 1500}
    assert [e["manager"] for e in after.wire["metadata"]["managedFields"]] == ["console"]


async def test_sharing_a_value_is_recorded_though_nothing_else_changes(store: Store) -> None:
    first = await apply(store, wire("web", {"mtuBytes": 1400}))
    after = await apply(store, wire("web", {"mtuBytes": 1400}), actor=BOB)
    assert after.revision > first.revision
    assert after.wire["metadata"]["generation"] == 1
    assert len(after.wire["metadata"]["managedFields"]) == 2


async def test_the_manager_may_be_given_apart_from_the_actor(store: Store) -> None:
    made = await apply(store, wire("web", {"mtuBytes": 1400}), manager="gitops")
    assert made.wire["metadata"]["managedFields"][0]["manager"] == "gitops"
    with pytest.raises(BadRequest):
        await apply(store, wire("web"), actor=Actor("admin", ""))


async def test_what_the_manager_did_not_apply_stays(store: Store) -> None:
    await apply(store, wire("web", {"mtuBytes": 1400}))
    after = await apply(store, wire("web", labels={"team": "a"}), actor=BOB)
    assert after.wire["spec"] == {"mtuBytes": 1400}


async def test_named_items_of_lists_merge(store: Store) -> None:
    def rule(name: str) -> dict[str, str]:
        return {"name": name, "direction": "Egress"}

    await store.apply(GROUP, "demo", "g", wire("g", {"rules": [rule("a")]}), actor=ADMIN)
    after = await store.apply(GROUP, "demo", "g", wire("g", {"rules": [rule("b")]}), actor=BOB)
    assert {r["name"] for r in after.wire["spec"]["rules"]} == {"a", "b"}


async def test_unknown_fields_are_refused_wherever_they_are(store: Store) -> None:
    for body, field in (
        ({**wire("web"), "specs": {}}, "specs"),
        (wire("web", {"mtu": 1}), "spec.mtu"),
        (wire("web", lables={"a": "b"}), "metadata.lables"),
    ):
        for _ in range(2):
            with pytest.raises(Invalid) as error:
                await apply(store, body)
            assert field in causes(error)
        await apply(store, wire("web"))


async def test_status_cannot_be_applied(store: Store) -> None:
    await make_network(store)
    with pytest.raises(Invalid) as error:
        await apply(store, {**wire("web"), "status": {"mtuBytes": 5}})
    assert "status" in causes(error)


async def test_status_survives_an_apply(store: Store) -> None:
    await apply(store, wire("web"))
    await store.patch_status(NETWORK, "demo", "web", {"mtuBytes": 1442}, actor=CONTROLLER)
    after = await apply(store, wire("web", {"mtuBytes": 1400}))
    assert after.wire["status"]["mtuBytes"] == 1442


async def test_the_result_is_validated_and_checked(store: Store) -> None:
    with pytest.raises(Invalid):
        await apply(store, wire("web", {"mtuBytes": 5}))
    await store.apply(FLAVOR, None, "tiny", wire("tiny", TINY, project=None), actor=ADMIN)
    body = wire("tiny", {**TINY, "vcpus": 2}, project=None)
    with pytest.raises(Invalid) as error:
        await store.apply(FLAVOR, None, "tiny", body, actor=ADMIN)
    assert "spec.vcpus" in causes(error)


async def test_a_stale_version_or_another_uid_is_a_conflict(store: Store) -> None:
    await apply(store, wire("web"))
    for given in ({"resourceVersion": "1"}, {"uid": "net-other"}):
        with pytest.raises(Conflict):
            await apply(store, wire("web", {"mtuBytes": 1400}, **given))


async def test_a_dry_run_shows_the_result(store: Store, memory_etcd: MemoryEtcd) -> None:
    before = memory_etcd.snapshot()
    shown = await apply(store, wire("web", {"mtuBytes": 1400}), dry_run=True)
    assert shown.wire["spec"] == {"mtuBytes": 1400}
    assert memory_etcd.snapshot() == before


async def test_updates_of_the_same_manager_never_conflict_with_its_apply(store: Store) -> None:
    await apply(store, wire("web", {"mtuBytes": 1400}))
    await store.merge_patch(NETWORK, "demo", "web", {"spec": {"mtuBytes": 1450}}, actor=ADMIN)
    assert (await apply(store, wire("web", {"mtuBytes": 1400}))).wire["spec"] == {"mtuBytes": 1400}


async def test_many_appliers_of_one_new_object_agree(any_store: Store) -> None:
    await make_project(any_store)
    results = await asyncio.gather(
        *(apply(any_store, wire("web", labels={f"l{i}": "x"}), actor=Actor("u", f"m{i}")) for i in range(15))
    )
    assert len({r.wire["metadata"]["uid"] for r in results}) == 1
    assert len((await any_store.get(NETWORK, "demo", "web")).wire["metadata"]["labels"]) == 15


async def test_created_by_post_and_applied_later_is_taken_over(store: Store) -> None:
    await create(store, NETWORK, wire("web", {"mtuBytes": 1400}))
    after = await apply(store, wire("web", {"mtuBytes": 1500}))
    assert after.wire["spec"] == {"mtuBytes": 1500}
