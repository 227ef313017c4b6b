"""Claims: never taken twice, never leaked, refused with the field and without others' names."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    HOSTS,
    INSTANCE,
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
from vcstack.specs.errors import ClaimTaken, Conflict
from vcstack.store.records import Stored
from vcstack.store.store import Store

LIMITS = {"capacity/h1": {"vcpus": 4, "memoryMiB": 1024}}


def port(name: str, **spec: Any) -> dict[str, Any]:
    return wire(name, {"network": "web", **spec})


def claims_of(etcd: MemoryEtcd) -> dict[str, Any]:
    prefix = b"/vcstack/.claims/"
    return {k[len(prefix) :].decode(): orjson.loads(v) for k, v in etcd.snapshot().items() if k.startswith(prefix)}


async def bind(store: Store, name: str, host: str = "h1", vcpus: int = 1, **options: Any) -> Stored:
    status = {"host": host, "allocated": {"vcpus": vcpus, "memoryMiB": 128, "diskGiB": 1}}
    return await store.patch_status(
        INSTANCE, "demo", name, status, **{"actor": CONTROLLER, "limits": LIMITS, **options}
    )


async def remove(store: Store, name: str) -> None:
    await store.delete(PORT, "demo", name, actor=ADMIN)
    await store.finalize(PORT, "demo", name, list(PORT.finalizers), actor=CONTROLLER)


async def test_a_fixed_address_is_held_by_one(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, PORT, port("p1", address="10.10.0.5"))
    with pytest.raises(ClaimTaken) as error:
        await create(any_store, PORT, port("p2", address="10.10.0.5"))
    assert causes(error) == {"spec.address": "10.10.0.5 is held by Port p1; choose another or leave it out"}


async def test_a_refused_claim_leaves_nothing(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_world(memory_store)
    await create(memory_store, PORT, port("p1", address="10.10.0.5"))
    before = memory_etcd.snapshot()
    with pytest.raises(ClaimTaken):
        await create(memory_store, PORT, port("p2", address="10.10.0.5", mac="52:54:00:00:00:01"))
    assert memory_etcd.snapshot() == before


async def test_the_claim_tells_its_holder(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_world(memory_store)
    made = await create(memory_store, PORT, port("p1", address="10.10.0.5"))
    assert claims_of(memory_etcd)["addresses/demo/web/10.10.0.5"] == {
        "kind": "Port",
        "project": "demo",
        "name": "p1",
        "uid": made.wire["metadata"]["uid"],
    }


async def test_names_of_another_project_are_not_revealed(memory_store: Store) -> None:
    await make_world(memory_store)
    await make_project(memory_store, "other")
    await make_network(memory_store, "secret-net", project="other")
    mac = "52:54:00:00:00:01"
    await create(memory_store, PORT, wire("secret-port", {"network": "secret-net", "mac": mac}, project="other"))
    with pytest.raises(ClaimTaken) as error:
        await create(memory_store, PORT, port("p1", mac=mac))
    assert "an object of another project" in causes(error)["spec.mac"]
    assert "secret" not in error.value.to_status().to_json().decode()


async def test_the_same_address_in_another_network_is_another_claim(memory_store: Store) -> None:
    await make_world(memory_store)
    await make_network(memory_store, "lan")
    await create(memory_store, PORT, port("p1", address="10.10.0.5"))
    assert await create(memory_store, PORT, port("p2", network="lan", address="10.10.0.5"))


async def test_a_released_address_can_be_taken_again(any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, PORT, port("p1", address="10.10.0.5"))
    await remove(any_store, "p1")
    assert await create(any_store, PORT, port("p2", address="10.10.0.5"))


async def test_claims_follow_the_status(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_world(memory_store)
    await create(memory_store, PORT, port("p1"))

    async def hold(*addresses: str) -> list[str]:
        status = {"addresses": [{"subnet": "web-v4", "address": a} for a in addresses]}
        await memory_store.patch_status(PORT, "demo", "p1", status, actor=CONTROLLER)
        return sorted(k.rsplit("/", 1)[1] for k in claims_of(memory_etcd) if k.startswith("addresses/"))

    assert await hold("10.10.0.7") == ["10.10.0.7"]
    assert await hold("10.10.0.7", "10.10.0.8") == ["10.10.0.7", "10.10.0.8"]
    assert await hold("10.10.0.9") == ["10.10.0.9"]
    assert await hold() == []


async def test_a_taken_status_claim_names_the_status_field(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, PORT, port("p1", address="10.10.0.5"))
    await create(memory_store, PORT, port("p2"))
    status = {"addresses": [{"subnet": "web-v4", "address": "10.10.0.5"}]}
    with pytest.raises(ClaimTaken) as error:
        await memory_store.patch_status(PORT, "demo", "p2", status, actor=CONTROLLER)
    assert "status.addresses" in causes(error)


async def test_overlapping_ranges_of_one_network_are_refused(any_store: Store) -> None:
    await make_world(any_store)
    with pytest.raises(ClaimTaken) as error:
        await create(any_store, SUBNET, wire("s2", {"network": "web", "cidr": "10.10.0.128/25"}))
    assert causes(error)["spec.cidr"] == "10.10.0.128/25 overlaps 10.10.0.0/24 of subnet web-v4 in the same network"
    assert await create(any_store, SUBNET, wire("s3", {"network": "web", "cidr": "10.11.0.0/24"}))
    assert await create(any_store, SUBNET, wire("s6", {"network": "web", "cidr": "fd00::/64"}))


async def test_of_many_overlapping_ranges_at_once_one_wins(any_store: Store) -> None:
    await make_project(any_store)
    await make_network(any_store)
    bodies = [wire(f"s{i}", {"network": "web", "cidr": f"10.0.0.0/{20 + i % 5}"}) for i in range(20)]
    results = await asyncio.gather(*(create(any_store, SUBNET, b) for b in bodies), return_exceptions=True)
    assert sum(isinstance(r, Stored) for r in results) == 1
    assert all(isinstance(r, Stored | ClaimTaken) for r in results)


async def test_of_fifty_creators_of_one_address_one_wins(any_store: Store) -> None:
    await make_world(any_store)
    bodies = [port(f"p{i}", address="10.10.0.5") for i in range(50)]
    results = await asyncio.gather(*(create(any_store, PORT, b) for b in bodies), return_exceptions=True)
    assert sum(isinstance(r, Stored) for r in results) == 1
    assert all(isinstance(r, Stored | ClaimTaken) for r in results)
    assert len((await any_store.list(PORT)).items) == 1


async def test_fifty_bindings_never_exceed_the_capacity_and_fill_it(any_store: Store) -> None:
    await make_world(any_store)
    names = [f"i{n}" for n in range(50)]
    await asyncio.gather(*(create(any_store, INSTANCE, instance(n)) for n in names))
    results = await asyncio.gather(*(bind(any_store, n) for n in names), return_exceptions=True)
    assert sum(isinstance(r, Stored) for r in results) == 4
    refused = [r for r in results if isinstance(r, ClaimTaken)]
    assert len(refused) == 46
    assert refused[0].causes[0].message == "vcpus: 1 asked, 4 of 4 in use"
    assert refused[0].causes[0].field == "status.host"


async def test_two_stores_never_exceed_the_capacity_together(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_world(memory_store)
    for n in range(12):
        await create(memory_store, INSTANCE, instance(f"i{n}"))
    async with Store(memory_etcd) as other:
        stores = (memory_store, other)
        binds = [bind(stores[n % 2], f"i{n}") for n in range(12)]
        results = await asyncio.gather(*binds, return_exceptions=True)
    assert sum(isinstance(r, Stored) for r in results) == 4


async def test_moving_to_another_host_moves_the_claim(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_world(memory_store)
    made = await create(memory_store, INSTANCE, instance())
    uid = made.wire["metadata"]["uid"]
    await bind(memory_store, "web-1", "h1")
    await bind(memory_store, "web-1", "h2")
    assert [k for k in claims_of(memory_etcd) if k.startswith("capacity/")] == [f"capacity/h2/{uid}"]


async def test_growing_a_claim_is_checked_against_the_limit_and_shrinking_frees(memory_store: Store) -> None:
    await make_world(memory_store)
    for name in ("a", "b"):
        await create(memory_store, INSTANCE, instance(name))
        await bind(memory_store, name, vcpus=2)
    with pytest.raises(ClaimTaken):
        await bind(memory_store, "a", vcpus=3)
    await bind(memory_store, "b", vcpus=1)
    assert (await bind(memory_store, "a", vcpus=3)).wire["status"]["allocated"]["vcpus"] == 3


async def test_a_freed_capacity_is_seen_by_a_store_whose_cache_is_behind(
    memory_etcd: MemoryEtcd, memory_store: Store
) -> None:
    await make_world(memory_store)
    for name in ("a", "b"):
        await create(memory_store, INSTANCE, instance(name))
    async with Store(memory_etcd) as other:
        for _ in range(10):
            await bind(memory_store, "a", vcpus=4)
            with pytest.raises(ClaimTaken):
                await bind(other, "b", vcpus=1)
            await memory_store.patch_status(INSTANCE, "demo", "a", {"host": None, "allocated": None}, actor=CONTROLLER)
            await bind(other, "b", vcpus=4)
            await other.patch_status(INSTANCE, "demo", "b", {"host": None, "allocated": None}, actor=CONTROLLER)


async def test_an_unchanged_claim_is_not_judged_again(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, INSTANCE, instance())
    await bind(memory_store, "web-1", vcpus=4)
    after = await bind(memory_store, "web-1", vcpus=4, limits={"capacity/h1": {"vcpus": 1}})
    assert after.wire["status"]["host"] == "h1"
    patched = await memory_store.patch_status(
        INSTANCE, "demo", "web-1", {"powerState": "Running"}, actor=CONTROLLER, limits={"capacity/h1": {"vcpus": 1}}
    )
    assert patched.wire["status"]["powerState"] == "Running"


async def test_a_stale_binding_is_a_conflict_and_takes_no_capacity(
    memory_store: Store, memory_etcd: MemoryEtcd
) -> None:
    await make_world(memory_store)
    made = await create(memory_store, INSTANCE, instance())
    await memory_store.merge_patch(INSTANCE, "demo", "web-1", {"metadata": {"labels": {"a": "b"}}}, actor=ADMIN)
    with pytest.raises(Conflict):
        await bind(memory_store, "web-1", resource_version=str(made.revision))
    assert not [k for k in claims_of(memory_etcd) if k.startswith("capacity/")]


async def test_one_port_is_attached_to_one_instance(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, PORT, port("p1"))
    nic = {"networkInterfaces": [{"name": "eth0", "port": "p1"}]}
    await create(memory_store, INSTANCE, instance("a", **nic))
    with pytest.raises(ClaimTaken) as error:
        await create(memory_store, INSTANCE, instance("b", **nic))
    assert "spec.networkInterfaces[0].port" in causes(error)
    await memory_store.merge_patch(INSTANCE, "demo", "a", {"spec": {"networkInterfaces": []}}, actor=ADMIN)
    assert await create(memory_store, INSTANCE, instance("b", **nic))


class Overtaken:
    """An etcd before whose next transaction somebody else does something."""

    def __init__(self, etcd: Any) -> None:
        self._etcd = etcd
        self.first: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    async def txn(self, *args: Any, **kwargs: Any) -> Any:
        first, self.first = self.first, None
        if first is not None:
            await first()
        return await self._etcd.txn(*args, **kwargs)


async def remove_host(store: Store) -> Stored | None:
    await store.delete(HOSTS, None, "h1", actor=ADMIN)
    return await store.finalize(HOSTS, None, "h1", list(HOSTS.finalizers), actor=CONTROLLER)


async def test_an_instance_is_not_bound_to_a_host_that_went_a_moment_before(any_etcd: Any, any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    overtaken = Overtaken(any_etcd)
    async with Store(overtaken) as late:
        overtaken.first = lambda: remove_host(any_store)
        with pytest.raises(ClaimTaken) as error:
            await bind(late, "web-1")
    assert causes(error) == {"status.host": "there is no Host h1 any more"}
    assert (await any_store.get(INSTANCE, "demo", "web-1")).wire["status"].get("host") is None


async def test_a_host_to_which_an_instance_is_bound_while_it_is_removed_stays(any_etcd: Any, any_store: Store) -> None:
    await make_world(any_store)
    await create(any_store, INSTANCE, instance())
    decided, bound = asyncio.Event(), asyncio.Event()
    binders, removers = Overtaken(any_etcd), Overtaken(any_etcd)
    async with Store(binders) as binder, Store(removers) as remover, asyncio.TaskGroup() as group:

        async def wait_for_the_binding() -> None:
            decided.set()
            await bound.wait()

        async def remove() -> None:
            await remover.delete(HOSTS, None, "h1", actor=ADMIN)
            removers.first = wait_for_the_binding
            with pytest.raises(Conflict, match="claimed by Instance web-1"):
                await remover.finalize(HOSTS, None, "h1", list(HOSTS.finalizers), actor=CONTROLLER)

        async def begin_removal() -> None:
            group.create_task(remove())
            await decided.wait()

        binders.first = begin_removal
        await bind(binder, "web-1")
        bound.set()
    assert (await any_store.get(HOSTS, None, "h1")).wire["metadata"]["deletionTimestamp"]
    await any_store.patch_status(INSTANCE, "demo", "web-1", {"host": None, "allocated": None}, actor=CONTROLLER)
    assert await remove_host(any_store) is None


async def test_nothing_is_bound_to_a_host_that_is_being_deleted(memory_store: Store) -> None:
    await make_world(memory_store)
    await create(memory_store, INSTANCE, instance())
    await memory_store.delete(HOSTS, None, "h1", actor=ADMIN)
    with pytest.raises(ClaimTaken) as error:
        await bind(memory_store, "web-1")
    assert causes(error) == {"status.host": "Host h1 is being deleted"}
