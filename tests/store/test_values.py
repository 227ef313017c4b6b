"""Secret values: nowhere but in their envelope, through every way of writing an object."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.master_keys import MasterKeys, open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import ADMIN, CONTROLLER, causes, condition, make_project, wire
from vcstack.specs.errors import Conflict, Invalid, NotFound, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.specs.sensitive import is_stand_in
from vcstack.store.actor import Actor
from vcstack.store.store import Store

SECRET = get_kind("Secret")
VALUE, OTHER = "correct horse battery staple", "an entirely different one"
BOB = Actor("user:bob", "console")


@pytest.fixture
async def store(any_store: Store) -> Store:
    await make_project(any_store)
    return any_store


def secret(name: str = "db", **data: Any) -> dict[str, Any]:
    return wire(name, {"data": data})


async def make(store: Store, **data: Any) -> dict[str, Any]:
    return (await store.create(SECRET, secret(**data), actor=ADMIN)).wire


async def values(store: Store, name: str = "db") -> dict[str, str]:
    found: dict[str, str] = (await store.reveal(SECRET, "demo", name))["spec"]["data"]
    return found


async def everything(etcd: Any) -> bytes:
    """All that etcd holds now, and the cache shows."""
    return b"\n".join([part async for page in etcd.pages(b"/") for kv in page.kvs for part in (kv.key, kv.value)])


async def test_the_object_shows_a_stand_in_and_only_reveal_the_value(store: Store, any_etcd: Any) -> None:
    made = await make(store, password=VALUE)
    assert is_stand_in(made["spec"]["data"]["password"])
    assert await values(store) == {"password": VALUE}
    assert VALUE.encode() not in await everything(any_etcd)
    listed = await store.list(SECRET, "demo")
    assert VALUE.encode() not in b"".join(listed.items)


async def test_two_values_that_are_the_same_cannot_be_told_so(store: Store) -> None:
    made = await make(store, one=VALUE, two=VALUE)
    assert made["spec"]["data"]["one"] != made["spec"]["data"]["two"]


async def test_applying_the_same_values_again_writes_nothing(store: Store) -> None:
    options = {"actor": ADMIN, "manager": "vcctl"}
    first = await store.apply(SECRET, "demo", "db", secret(password=VALUE), **options)
    again = await store.apply(SECRET, "demo", "db", secret(password=VALUE), **options)
    assert again.revision == first.revision
    changed = await store.apply(SECRET, "demo", "db", secret(password=OTHER), **options)
    assert changed.wire["spec"] != first.wire["spec"]
    assert changed.wire["metadata"]["generation"] == 2
    assert await values(store) == {"password": OTHER}


async def test_another_manager_conflicts_over_another_value_but_not_over_the_same(store: Store) -> None:
    await store.apply(SECRET, "demo", "db", secret(password=VALUE), actor=ADMIN, manager="vcctl")
    await store.apply(SECRET, "demo", "db", secret(password=VALUE), actor=BOB)
    with pytest.raises(Conflict) as refused:
        await store.apply(SECRET, "demo", "db", secret(password=OTHER), actor=BOB)
    assert OTHER not in str(refused.value.to_status().to_json())
    await store.apply(SECRET, "demo", "db", secret(password=OTHER), actor=BOB, force=True)
    assert await values(store) == {"password": OTHER}


async def test_what_apply_no_longer_gives_is_gone_with_its_value(store: Store, any_etcd: Any) -> None:
    options = {"actor": ADMIN, "manager": "vcctl"}
    await store.apply(SECRET, "demo", "db", secret(one=VALUE, two=OTHER), **options)
    await store.apply(SECRET, "demo", "db", secret(two=OTHER), **options)
    assert await values(store) == {"two": OTHER}
    await store.apply(SECRET, "demo", "db", wire("db", {}), **options)
    assert await values_kept(any_etcd) == 0


async def values_kept(etcd: Any) -> int:
    return sum([len(page.kvs) async for page in etcd.pages(b"/vcstack/.credentials/values/")])


async def test_an_object_that_was_read_can_be_written_back(store: Store) -> None:
    made = await make(store, one=VALUE, two=OTHER)
    made["metadata"]["labels"] = {"tier": "db"}
    await store.replace(SECRET, "demo", "db", made, actor=ADMIN)
    assert await values(store) == {"one": VALUE, "two": OTHER}


async def test_a_merge_patch_keeps_what_it_does_not_name(store: Store) -> None:
    await make(store, one=VALUE, two=VALUE)
    await store.merge_patch(SECRET, "demo", "db", {"spec": {"data": {"two": OTHER, "three": "x"}}}, actor=ADMIN)
    assert await values(store) == {"one": VALUE, "two": OTHER, "three": "x"}
    await store.merge_patch(SECRET, "demo", "db", {"spec": {"data": {"one": None}}}, actor=ADMIN)
    assert await values(store) == {"two": OTHER, "three": "x"}


async def test_a_stand_in_may_move_within_its_object(store: Store) -> None:
    made = await make(store, one=VALUE)
    patch = {"spec": {"data": {"one": None, "two": made["spec"]["data"]["one"]}}}
    await store.merge_patch(SECRET, "demo", "db", patch, actor=ADMIN)
    assert await values(store) == {"two": VALUE}


@pytest.mark.parametrize("stand_in", ["***", "***:0123456789ab"])
async def test_a_stand_in_of_elsewhere_or_of_a_former_value_is_refused(store: Store, stand_in: str) -> None:
    with pytest.raises(Invalid) as refused:
        await make(store, password=stand_in)
    assert "give the value itself" in causes(refused)["spec.data.password"]
    await make(store, password=VALUE)
    with pytest.raises(Invalid):
        await store.replace(SECRET, "demo", "db", secret(password=stand_in), actor=ADMIN)
    assert await values(store) == {"password": VALUE}


async def test_a_stand_in_of_another_object_reveals_nothing(store: Store) -> None:
    made = await make(store, password=VALUE)
    with pytest.raises(Invalid):
        await store.create(SECRET, wire("mine", made["spec"]), actor=BOB)


@pytest.mark.parametrize("value", [4711, 1.5, True, [VALUE], {"a": VALUE}, "x" * 65537])
async def test_a_value_that_is_no_text_or_too_long_is_refused_without_being_repeated(store: Store, value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        await make(store, password=value)
    told = refused.value.to_status().to_json()
    assert b"spec.data.password" in told
    assert b"4711" not in told
    assert VALUE.encode() not in told


async def test_other_faults_do_not_repeat_values_either(store: Store) -> None:
    specs: list[Any] = [{"data": {"bad name!": VALUE}}, {"data": VALUE}, {"date": VALUE}, {"data": [VALUE]}, VALUE]
    for body in (wire("db", spec) for spec in specs):
        with pytest.raises(Invalid) as refused:
            await store.create(SECRET, body, actor=ADMIN)
        assert VALUE.encode() not in refused.value.to_status().to_json()


async def test_a_dry_run_keeps_nothing(store: Store, any_etcd: Any) -> None:
    shown = await store.create(SECRET, secret(password=VALUE), actor=ADMIN, dry_run=True)
    assert is_stand_in(shown.wire["spec"]["data"]["password"])
    assert await values_kept(any_etcd) == 0


async def test_a_status_write_leaves_the_values_alone(store: Store) -> None:
    await make(store, password=VALUE)
    await store.patch_status(SECRET, "demo", "db", {"conditions": [condition("Accepted")]}, actor=CONTROLLER)
    assert await values(store) == {"password": VALUE}


async def test_the_values_go_with_the_object(store: Store, any_etcd: Any) -> None:
    await make(store, password=VALUE)
    await store.delete(SECRET, "demo", "db", actor=ADMIN)
    assert await values_kept(any_etcd) == 1  # a finalizer holds both
    await store.finalize(SECRET, "demo", "db", list(SECRET.finalizers), actor=CONTROLLER)
    assert await values_kept(any_etcd) == 0
    with pytest.raises(NotFound):
        await values(store)


async def test_the_values_of_one_object_do_not_open_as_those_of_another(store: Store, any_etcd: Any) -> None:
    uids = [(await store.create(SECRET, secret(n, password=v), actor=ADMIN)).wire["metadata"]["uid"]
            for n, v in (("mine", VALUE), ("theirs", OTHER))]  # fmt: skip
    mine, theirs = (f"/vcstack/.credentials/values/{uid}".encode() for uid in uids)
    await any_etcd.put(mine, (await any_etcd.get(theirs)).kv.value)
    with pytest.raises(Unavailable):
        await values(store, "mine")


async def test_many_writers_at_once_leave_values_that_fit_the_object(store: Store) -> None:
    await make(store, start="x")
    writes = [
        store.merge_patch(SECRET, "demo", "db", {"spec": {"data": {f"k{i}": f"value {i}"}}}, actor=ADMIN)
        for i in range(12)
    ]
    await asyncio.gather(*writes)
    assert await values(store) == {"start": "x", **{f"k{i}": f"value {i}" for i in range(12)}}


@pytest.fixture
async def two(memory_etcd: MemoryEtcd) -> AsyncIterator[tuple[Store, Store]]:
    keys = MasterKeys()
    async with open_store(memory_etcd, keys) as one, open_store(memory_etcd, keys) as other:
        await make_project(one)
        yield one, other


async def test_what_one_replica_wrote_another_reads(two: tuple[Store, Store]) -> None:
    await make(two[0], password=VALUE)
    assert await values(two[1]) == {"password": VALUE}


async def test_without_a_master_key_nothing_secret_is_written(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd) as store:
        await make_project(store)
        with pytest.raises(Unavailable):
            await make(store, password=VALUE)
