"""References must name what exists, at the very moment of the write."""

import asyncio
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    GROUP,
    IMAGE,
    INSTANCE,
    NETWORK,
    PORT,
    SUBNET,
    causes,
    create,
    instance,
    make_network,
    make_project,
    make_world,
    wire,
)
from vcstack.specs.errors import Invalid
from vcstack.store.store import Store


@pytest.fixture
async def store(memory_store: Store) -> Store:
    await make_world(memory_store)
    return memory_store


async def test_every_missing_reference_is_named_with_its_field(store: Store) -> None:
    body = instance(
        flavor="huge", networkInterfaces=[{"name": "eth0", "network": "nowhere", "securityGroups": ["a", "b"]}]
    )
    with pytest.raises(Invalid) as error:
        await create(store, INSTANCE, body)
    assert causes(error) == {
        "spec.flavor": "there is no Flavor huge; create it first",
        "spec.networkInterfaces[0].network": "there is no Network nowhere in project demo; create it first",
        "spec.networkInterfaces[0].securityGroups[0]": "there is no SecurityGroup a in project demo; create it first",
        "spec.networkInterfaces[0].securityGroups[1]": "there is no SecurityGroup b in project demo; create it first",
    }
    assert {c.reason for c in error.value.causes} == {"FieldValueNotFound"}


async def test_another_projects_objects_are_not_there(store: Store) -> None:
    await make_project(store, "other")
    await make_network(store, "secret", project="other")
    with pytest.raises(Invalid) as error:
        await create(store, PORT, wire("p1", {"network": "secret"}))
    assert causes(error)["spec.network"] == "there is no Network secret in project demo; create it first"


async def test_own_images_come_before_public_ones(store: Store) -> None:
    await create(store, IMAGE, wire("mine", {"format": "Raw"}))
    assert await create(store, INSTANCE, instance("a", image="mine"))
    assert await create(store, INSTANCE, instance("b", image="tiny"))
    await make_project(store, "other")
    with pytest.raises(Invalid) as error:
        await create(store, INSTANCE, wire("c", {"flavor": "tiny", "image": "mine"}, project="other"))
    assert "nor a public one" in causes(error)["spec.image"]


async def test_missing_references_may_be_allowed(store: Store) -> None:
    made = await create(store, PORT, wire("p1", {"network": "later"}), allow_missing_references=True)
    assert made.wire["spec"] == {"network": "later"}


async def test_what_is_being_deleted_cannot_be_referred_to(store: Store) -> None:
    await make_network(store, "old")
    await store.delete(NETWORK, "demo", "old", actor=ADMIN)
    with pytest.raises(Invalid) as error:
        await create(store, PORT, wire("p1", {"network": "old"}))
    assert causes(error)["spec.network"] == "Network old is being deleted; name another one"


async def test_a_label_called_like_the_deletion_time_deceives_nobody(store: Store) -> None:
    await create(store, NETWORK, wire("odd", labels={"deletionTimestamp": "x"}))
    assert await create(store, PORT, wire("p1", {"network": "odd"}))


async def test_an_unchanged_reference_may_dangle(store: Store) -> None:
    await create(store, GROUP, wire("g", {}))
    body = instance(networkInterfaces=[{"name": "eth0", "network": "web", "securityGroups": ["g"]}])
    await create(store, INSTANCE, body)
    await store.delete(GROUP, "demo", "g", actor=ADMIN)
    await store.finalize(GROUP, "demo", "g", list(GROUP.finalizers), actor=CONTROLLER)
    after = await store.merge_patch(INSTANCE, "demo", "web-1", {"spec": {"powerState": "Stopped"}}, actor=ADMIN)
    assert after.wire["metadata"]["generation"] == 2


async def test_a_changed_reference_is_checked(store: Store) -> None:
    await create(store, INSTANCE, instance())
    with pytest.raises(Invalid) as error:
        await store.merge_patch(INSTANCE, "demo", "web-1", {"spec": {"sshKeys": ["none"]}}, actor=ADMIN)
    assert "spec.sshKeys[0]" in causes(error)


async def test_an_object_may_refer_to_itself(store: Store) -> None:
    rule = {"name": "in", "direction": "Ingress", "remoteSecurityGroup": "g"}
    assert await create(store, GROUP, wire("g", {"rules": [rule]}))


async def test_rules_see_the_objects_referred_to(store: Store) -> None:
    body = {"network": "web", "subnet": "web-v4", "address": "10.99.0.1"}
    with pytest.raises(Invalid) as error:
        await create(store, PORT, wire("p1", body))
    assert "does not lie in 10.10.0.0/24" in causes(error)["spec.address"]


async def test_what_was_just_created_by_another_store_is_found(memory_etcd: MemoryEtcd, store: Store) -> None:
    async with Store(memory_etcd) as other:
        for i in range(10):
            await make_network(other, f"n{i}")
            assert await create(store, SUBNET, wire(f"s{i}", {"network": f"n{i}", "cidr": "10.0.0.0/24"}))


async def test_a_reference_removed_at_the_same_moment_is_never_left_dangling(
    memory_etcd: MemoryEtcd, store: Store
) -> None:
    async with Store(memory_etcd) as other:

        async def remove(name: str) -> int:
            marked = await other.delete(NETWORK, "demo", name, actor=ADMIN)
            assert marked is not None
            return marked.revision

        for i in range(15):
            await make_network(store, f"n{i}")
            made: Any
            removed, made = await asyncio.gather(
                remove(f"n{i}"), create(store, PORT, wire(f"p{i}", {"network": f"n{i}"})), return_exceptions=True
            )
            assert isinstance(made, Invalid) or made.revision < removed
