"""The typed view that controllers have: the runtime's client protocol on the store."""

import asyncio

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import CONTROLLER, NETWORK, condition, make_project
from vcstack.runtime.client import ResourceClient
from vcstack.specs.access import EventType, Propagation
from vcstack.specs.errors import ClaimTaken, Conflict, Expired, Invalid, NotFound
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.port import Port, PortSpec
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.task import RebootMode, Task, TaskSpec, TaskTarget, TaskType
from vcstack.store.cache import CacheSettings
from vcstack.store.store import Store, StoreSettings


@pytest.fixture
async def client(memory_store: Store) -> ResourceClient:
    await make_project(memory_store)
    return memory_store.bound(CONTROLLER)


def network(name: str = "web", **spec: int) -> Network:
    return Network.new(name, NetworkSpec(**spec), project="demo")


def task(name: str = "t1") -> Task:
    target = TaskTarget(kind="Instance", name="web-1")
    return Task.new(name, TaskSpec(type=TaskType.REBOOT, target=target, mode=RebootMode.HARD), project="demo")


async def test_objects_go_in_and_come_out_typed(client: ResourceClient) -> None:
    made = await client.create(network(mtu_bytes=1400))
    assert made.uid.startswith("net-")
    assert made.spec == NetworkSpec(mtu_bytes=1400)
    assert await client.get(Network, "web", "demo") == made
    assert (await client.get(Project, "demo")).kind == "Project"
    with pytest.raises(NotFound):
        await client.get(Network, "none", "demo")


async def test_defaults_that_code_did_not_give_stay_out_of_spec(client: ResourceClient, memory_store: Store) -> None:
    await client.create(network())
    assert (await memory_store.get(NETWORK, "demo", "web")).wire["spec"] == {}


async def test_owners_are_kept(client: ResourceClient) -> None:
    owner = await client.create(network())
    child = await client.create(Port.new("p1", PortSpec(network="web"), project="demo", owners=(owner,)))
    assert [(o.kind, o.uid, o.controller) for o in child.metadata.owner_references] == [("Network", owner.uid, True)]


async def test_lists_are_typed_with_a_version_to_watch_from(client: ResourceClient) -> None:
    await client.create(network("a"))
    page = await client.list(Network, project="demo", fields="metadata.name=a")
    assert [n.metadata.name for n in page.items] == ["a"]
    await client.create(network("b"))
    async with asyncio.timeout(60):
        event = await anext(client.watch(Network, since=page.resource_version))
    assert event.type is EventType.ADDED
    assert event.object is not None
    assert (event.object.metadata.name, event.resource_version) == ("b", event.object.metadata.resource_version)


async def test_a_watch_that_was_too_slow_goes_on_by_itself(memory_etcd: MemoryEtcd) -> None:
    settings = StoreSettings(cache=CacheSettings(watcher_limit=2), bookmark_seconds=0.01)
    async with Store(memory_etcd, settings=settings) as store:
        await make_project(store)
        client = store.bound(CONTROLLER)
        events = client.watch(Network, since=str(store.cache.revision))
        await client.create(network("first"))
        seen = [(await anext(events)).object]
        for i in range(10):
            await client.create(network(f"n{i}"))
        async with asyncio.timeout(60):
            while len(seen) < 11:
                event = await anext(events)
                if event.type is not EventType.BOOKMARK:
                    seen.append(event.object)
        assert [o.metadata.name for o in seen if o] == ["first", *(f"n{i}" for i in range(10))]


async def test_a_watch_from_too_far_back_is_expired(client: ResourceClient) -> None:
    with pytest.raises(Expired):
        await anext(client.watch(Network, since="999999"))


async def test_updates_write_labels_and_spec_and_leave_status_and_finalizers(client: ResourceClient) -> None:
    made = await client.create(network())
    made = await client.patch_status(made, {"mtuBytes": 1442})
    made.metadata.labels["a"] = "b"
    made.metadata.finalizers.clear()
    made.status.mtu_bytes = 1
    changed = await client.update(made.model_copy(update={"spec": NetworkSpec(mtu_bytes=1400)}))
    assert changed.metadata.labels == {"a": "b"}
    assert changed.metadata.finalizers == list(NETWORK.finalizers)
    assert (changed.spec.mtu_bytes, changed.status.mtu_bytes) == (1400, 1442)


async def test_updating_without_a_change_writes_nothing(client: ResourceClient, memory_etcd: MemoryEtcd) -> None:
    made = await client.create(network(mtu_bytes=1400))
    writes = memory_etcd.writes
    assert await client.update(made) == made
    assert memory_etcd.writes == writes


async def test_a_stale_update_is_a_conflict_and_one_of_a_former_object_not_found(client: ResourceClient) -> None:
    old = await client.create(task())
    await client.patch_status(old, {"progressPercent": 5})
    old.metadata.labels["a"] = "b"
    with pytest.raises(Conflict):
        await client.update(old)
    await client.delete(old.ref)
    await client.create(task())
    with pytest.raises(NotFound):
        await client.update(old)
    with pytest.raises(NotFound):
        await client.patch_status(old, {"progressPercent": 6})


async def test_a_status_patch_lands_on_the_newest_version_unless_an_exact_one_is_asked(
    client: ResourceClient,
) -> None:
    old = await client.create(network())
    await client.patch_status(old, {"conditions": [condition("Realized")]})
    assert (await client.patch_status(old, {"mtuBytes": 1442})).is_true("Ready")
    with pytest.raises(Conflict):
        await client.patch_status(old, {"mtuBytes": 1443}, exact_version=True)


async def test_limits_are_checked_in_the_writing_transaction(client: ResourceClient) -> None:
    await client.create(network())
    first = await client.create(Port.new("p1", PortSpec(network="web"), project="demo"))
    status = {"addresses": [{"subnet": "s", "address": "10.0.0.5"}]}
    await client.patch_status(first, status, limits={"addresses/demo/web": {"addresses": 1}})
    second = await client.create(Port.new("p2", PortSpec(network="web"), project="demo"))
    with pytest.raises(ClaimTaken):
        await client.patch_status(second, status)


async def test_removing_finalizers_and_deleting_are_idempotent(client: ResourceClient) -> None:
    made = await client.create(network())
    await client.delete(made.ref, uid=made.uid)
    await client.delete(made.ref, uid=made.uid)
    await client.remove_finalizer(made, *NETWORK.finalizers)
    await client.remove_finalizer(made, *NETWORK.finalizers)
    await client.delete(made.ref)
    with pytest.raises(NotFound):
        await client.get(Network, "web", "demo")


async def test_another_object_of_that_name_is_left_alone(client: ResourceClient) -> None:
    old = await client.create(task())
    await client.delete(old.ref)
    new = await client.create(task())
    await client.delete(old.ref, uid=old.uid)
    await client.remove_finalizer(old, "vcstack.io/task")
    assert (await client.get(Task, "t1", "demo")).uid == new.uid


async def test_a_finalizer_may_be_removed_at_an_exact_version_only(client: ResourceClient) -> None:
    old = await client.create(network())
    await client.patch_status(old, {"mtuBytes": 1442})
    with pytest.raises(Conflict):
        await client.remove_finalizer(old, *NETWORK.finalizers, exact_version=True)


async def test_foreground_deletion_is_passed_on(client: ResourceClient) -> None:
    made = await client.create(task())
    await client.delete(made.ref, propagation=Propagation.FOREGROUND)
    assert (await client.get(Task, "t1", "demo")).metadata.finalizers == ["foregroundDeletion"]


async def test_controllers_are_validated_like_everybody(client: ResourceClient) -> None:
    with pytest.raises(Invalid):
        await client.create(Port.new("p1", PortSpec(network="none"), project="demo"))
    with pytest.raises(Invalid):
        await client.create(task("t2").model_copy(update={"kind": "Other"}))
