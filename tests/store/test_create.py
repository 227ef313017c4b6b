"""Creating objects: what is stored, what is chosen by the system, what is refused."""

import asyncio
from datetime import datetime

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    EVENT,
    FLAVOR,
    INSTANCE,
    NETWORK,
    PROJECT,
    SUBNET,
    TINY,
    causes,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound, TooLarge
from vcstack.store.store import Store


async def test_a_created_object_has_uid_generation_time_version_and_finalizers(memory_store: Store) -> None:
    made = await create(memory_store, FLAVOR, wire("tiny", TINY, project=None))
    meta = made.wire["metadata"]
    assert meta["uid"].startswith("fl-")
    assert len(meta["uid"]) == len("fl-") + 12
    assert meta["generation"] == 1
    assert meta["resourceVersion"] == str(made.revision)
    assert datetime.fromisoformat(meta["creationTimestamp"]).tzinfo is not None
    assert meta["finalizers"] == list(FLAVOR.finalizers)


async def test_what_was_created_can_be_read_at_once(any_store: Store) -> None:
    made = await create(any_store, FLAVOR, wire("tiny", TINY, project=None))
    found = await any_store.get(FLAVOR, None, "tiny")
    assert (found.json, found.revision) == (made.json, made.revision)


async def test_spec_is_stored_as_given_without_defaults(memory_store: Store) -> None:
    await make_world(memory_store)
    spec = {"networkInterfaces": [{"network": "web", "name": "eth0"}], "image": "tiny", "flavor": "tiny"}
    made = await create(memory_store, INSTANCE, wire("web-1", spec))
    assert made.wire["spec"] == spec
    assert list(made.wire["spec"]) == list(spec)
    assert made.wire["status"] == {}


async def test_null_stands_for_absent(memory_store: Store) -> None:
    await make_project(memory_store)
    made = await create(memory_store, NETWORK, wire("web", {"mtuBytes": None}, labels=None))
    assert made.wire["spec"] == {}
    assert "labels" not in made.wire["metadata"]


async def test_system_metadata_of_the_caller_is_ignored(memory_store: Store) -> None:
    body = wire("demo", project=None, uid="pr-mine", generation=7, creationTimestamp="2001-01-01T00:00:00Z")
    meta = (await create(memory_store, PROJECT, body)).wire["metadata"]
    assert meta["uid"] != "pr-mine"
    assert meta["generation"] == 1
    assert not meta["creationTimestamp"].startswith("2001")


async def test_an_object_is_created_once(any_store: Store) -> None:
    await make_project(any_store)
    with pytest.raises(AlreadyExists) as error:
        await make_project(any_store)
    assert error.value.details.name == "demo"


async def test_of_many_creators_of_one_name_exactly_one_wins(any_store: Store) -> None:
    attempts = [make_project(any_store) for _ in range(30)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    made = [r for r in results if not isinstance(r, BaseException)]
    assert len(made) == 1
    assert all(isinstance(r, AlreadyExists) for r in results if isinstance(r, BaseException))
    assert (await any_store.get(PROJECT, None, "demo")).wire["metadata"]["uid"] == made[0].wire["metadata"]["uid"]


async def test_the_author_is_kept_but_not_shown(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    made = await make_project(memory_store)
    value = orjson.loads(memory_etcd.snapshot()[b"/vcstack/projects/-/demo"])
    assert value["actor"]["subject"] == "admin"
    assert value["actor"]["manager"] == "vcctl"
    assert "resourceVersion" not in value["metadata"]
    assert "actor" not in made.wire
    assert "actor" not in (await memory_store.get(PROJECT, None, "demo")).wire


async def test_a_creation_is_one_round_trip(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_world(memory_store)
    calls: list[str] = []
    memory_etcd.hook = lambda call, phase: calls.append(call) if phase == "before" else None
    await create(memory_store, INSTANCE, instance(networkInterfaces=[{"name": "eth0", "network": "web"}]))
    assert calls == ["txn"]


async def test_a_dry_run_returns_the_result_and_writes_nothing(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_project(memory_store)
    before = memory_etcd.snapshot()
    shown = await create(memory_store, NETWORK, wire("web", {"mtuBytes": 1400}), dry_run=True)
    assert shown.wire["spec"] == {"mtuBytes": 1400}
    assert shown.wire["metadata"]["uid"]
    assert memory_etcd.snapshot() == before


async def test_a_dry_run_refuses_what_the_write_would_refuse(memory_store: Store) -> None:
    await make_project(memory_store)
    await make_network(memory_store)
    with pytest.raises(AlreadyExists):
        await create(memory_store, NETWORK, wire("web"), dry_run=True)
    with pytest.raises(Invalid):
        await create(memory_store, SUBNET, wire("s", {"network": "no", "cidr": "10.0.0.0/24"}), dry_run=True)


async def test_nothing_is_created_in_a_project_that_does_not_exist(any_store: Store) -> None:
    with pytest.raises(NotFound) as error:
        await create(any_store, NETWORK, wire("web", project="nowhere"))
    assert error.value.causes[0].field == "metadata.project"


async def test_nothing_is_created_in_a_project_that_is_being_deleted(any_store: Store) -> None:
    await make_project(any_store)
    await any_store.delete(PROJECT, None, "demo", actor=ADMIN)
    with pytest.raises(Invalid) as error:
        await create(any_store, NETWORK, wire("web"))
    assert causes(error)["metadata.project"] == "project demo is being deleted; nothing can be created in it"


async def test_a_project_deleted_at_the_same_time_gets_no_orphans(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_project(memory_store)
    async with Store(memory_etcd) as other:
        deleted = asyncio.create_task(other.delete(PROJECT, None, "demo", actor=ADMIN))
        results = await asyncio.gather(
            *(make_network(memory_store, f"n{i}") for i in range(20)), return_exceptions=True
        )
        marked = await deleted
    assert marked is not None
    late = [r for r in results if not isinstance(r, BaseException) and r.revision > marked.revision]
    assert late == []


async def test_kinds_of_a_project_need_one_and_global_kinds_have_none(memory_store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, NETWORK, wire("web", project=None))
    assert "metadata.project" in causes(error)
    with pytest.raises(Invalid) as error:
        await create(memory_store, FLAVOR, wire("tiny", TINY, project="demo"))
    assert causes(error)["metadata.project"] == "must be left out: a Flavor is global"


async def test_a_name_is_required(memory_store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, PROJECT, {"metadata": {}})
    assert causes(error) == {"metadata.name": "is required"}


async def test_status_given_by_the_creator_is_refused(memory_store: Store) -> None:
    body = {**wire("tiny", TINY, project=None), "status": {"conditions": [{"type": "Ready"}]}}
    with pytest.raises(Invalid) as error:
        await create(memory_store, FLAVOR, body)
    assert causes(error) == {"status": "is written by the system only; leave it out"}


async def test_an_empty_status_is_no_status(memory_store: Store) -> None:
    body = {**wire("tiny", TINY, project=None), "status": {"observedGeneration": 0, "conditions": []}}
    assert (await create(memory_store, FLAVOR, body)).wire["status"] == {}


async def test_a_new_object_has_no_version_yet(memory_store: Store) -> None:
    with pytest.raises(Invalid) as error:
        await create(memory_store, PROJECT, wire("demo", project=None, resourceVersion="5"))
    assert "metadata.resourceVersion" in causes(error)


async def test_users_bring_their_own_finalizers_but_not_the_systems(memory_store: Store) -> None:
    made = await create(memory_store, PROJECT, wire("demo", project=None, finalizers=["example.com/mine"]))
    assert made.wire["metadata"]["finalizers"] == [*PROJECT.finalizers, "example.com/mine"]
    with pytest.raises(Invalid) as error:
        await create(memory_store, PROJECT, wire("other", project=None, finalizers=["vcstack.io/made-up"]))
    assert "metadata.finalizers" in causes(error)


async def test_users_do_not_write_kinds_of_the_system(memory_store: Store) -> None:
    spec = {
        "regarding": {"kind": "Flavor", "name": "tiny"},
        "type": "Normal",
        "reason": "Made",
        "message": "",
        "actor": "me",
        "firstTime": "2026-01-01T00:00:00Z",
        "lastTime": "2026-01-01T00:00:00Z",
    }
    with pytest.raises(Forbidden):
        await create(memory_store, EVENT, wire("e1", spec, project=None))
    assert await create(memory_store, EVENT, wire("e1", spec, project=None), actor=CONTROLLER)


async def test_an_object_beyond_the_size_limit_is_refused(any_store: Store) -> None:
    notes = {f"n{i}": "x" * 65000 for i in range(20)}
    with pytest.raises(TooLarge):
        await create(any_store, PROJECT, wire("demo", project=None, annotations=notes))


@pytest.mark.parametrize("body", [{"metadata": "x"}, {"metadata": {"name": 5}}, {"metadata": {"name": "a"}, "spec": 1}])
async def test_sections_of_the_wrong_type_are_named(memory_store: Store, body: dict[str, object]) -> None:
    with pytest.raises(Invalid) as error:
        await memory_store.create(PROJECT, body, actor=ADMIN)
    assert error.value.causes[0].field.startswith(("metadata", "spec"))


async def test_another_kind_or_version_is_refused(memory_store: Store) -> None:
    body = {"apiVersion": "v9", "kind": "Flavor", **wire("demo", project=None)}
    with pytest.raises(Invalid) as error:
        await create(memory_store, PROJECT, body)
    assert causes(error) == {"apiVersion": "write vcstack.io/v1", "kind": "must be Project here"}


async def test_what_json_cannot_hold_is_a_bad_request(memory_store: Store) -> None:
    with pytest.raises(BadRequest):
        await create(memory_store, PROJECT, wire("demo", {"description": 2**70}, project=None))
    with pytest.raises(BadRequest):
        await create(memory_store, PROJECT, wire("demo", {"description": "\ud800"}, project=None))
