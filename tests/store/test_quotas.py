"""Quotas: limits of all levels hold, whoever races; what is used is what the objects are, and errors say it all."""

import asyncio
import contextlib
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.crash import Killed
from tests.fakes.memory_etcd import MemoryEtcd, Phase
from tests.fakes.recount import add_up, recount
from tests.fixtures.etcd import EtcdServer
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    FLAVOR,
    GROUP,
    IMAGE,
    INSTANCE,
    NETWORK,
    PORT,
    PROJECT,
    TINY,
    causes,
    create,
    instance,
    wire,
)
from vcstack.specs.errors import ApiError, Conflict, QuotaExceeded
from vcstack.specs.registry import KindDefinition, get_kind, load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store import quotasets
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd_api import Etcd
from vcstack.store.keys import turn_key
from vcstack.store.store import Store
from vcstack.store.validation import validate

DOMAIN, QUOTA, USER, KEY = (get_kind(k) for k in ("Domain", "Quota", "User", "APIKey"))
BIG = {"vcpus": 4, "memoryMiB": 1024, "rootDiskGiB": 8}


async def limit(store: Store, project: str | None = "demo", domain: str | None = None, **limits: int) -> None:
    spec = {"limits": limits, **({"domain": domain} if domain else {})}
    await store.apply(QUOTA, project, "q", wire("q", spec, project), actor=ADMIN, force=True)


async def make_tree(store: Store) -> None:
    """Make domain acme with domain dev in it, projects demo in dev and other in acme, flavors tiny and big."""
    await create(store, DOMAIN, wire("acme", project=None))
    await create(store, DOMAIN, wire("dev", {"parent": "acme"}, project=None))
    await create(store, PROJECT, wire("demo", {"domain": "dev"}, project=None))
    await create(store, PROJECT, wire("other", {"domain": "acme"}, project=None))
    await create(store, FLAVOR, wire("tiny", TINY, project=None))
    await create(store, FLAVOR, wire("big", BIG, project=None))
    await create(store, IMAGE, wire("tiny", {"format": "QCOW2"}, project=None))


def of(project: str, name: str = "web-1", **spec: Any) -> dict[str, Any]:
    return wire(name, {"flavor": "tiny", "image": "tiny", **spec}, project)


async def remove(store: Store, name: str, project: str = "demo") -> None:
    await store.delete(INSTANCE, project, name, actor=ADMIN)
    await store.finalize(INSTANCE, project, name, list(INSTANCE.finalizers), actor=CONTROLLER)


def used(store: Store, level: str = "quota/acme/dev/@demo") -> dict[str, int]:
    return dict(store.cache.uses.used(level))


def read_objects(snapshot: dict[bytes, bytes]) -> tuple[dict[Ref, AnyResource], dict[Ref, dict[str, int]]]:
    """Return the objects, and what is stored of what they take."""
    found, takes = {}, {}
    for key, value in snapshot.items():
        definition = next((d for d in load_kinds().values() if key.startswith(f"/vcstack/{d.plural}/".encode())), None)
        if definition is not None:
            decoded = orjson.loads(value)
            decoded.pop("actor")
            stored = decoded.pop("takes", None)
            resource = definition.model.from_wire(decoded)
            found[resource.ref] = resource
            if stored is not None:
                takes[resource.ref] = stored
    return found, takes


def check_recount(snapshot: dict[bytes, bytes], store: Store) -> None:
    """What is stored is what the objects take, and the sums are what is stored."""
    objects, takes = read_objects(snapshot)
    wanted = recount(objects)
    assert takes == {ref: counted.amounts for ref, counted in wanted.items() if counted.amounts}
    sums = add_up(wanted.values())
    assert {level: dict(store.cache.uses.used(level)) for level in sums} == sums
    assert set(store.cache.uses.levels_below("quota")) == {level for level in sums if level.count("/") == 1}
    unmeasured = {f"{r.project}/{r.name}" for r in objects if r.kind == "Instance" and r not in takes}
    assert set(store.cache.uses.unmeasured(INSTANCE)) == unmeasured
    assert not [key for key in snapshot if key.startswith(b"/vcstack/.claims/quota")]


async def test_the_limit_of_a_project_is_reached_and_not_passed(any_store: Store) -> None:
    await make_tree(any_store)
    await limit(any_store, instances=2)
    for name in ("a", "b"):
        await create(any_store, INSTANCE, instance(name))
    with pytest.raises(QuotaExceeded) as error:
        await create(any_store, INSTANCE, instance("c"))
    fault = "instances: 1 asked, 2 of 2 in use (quota q of project demo)"
    assert causes(error) == {"metadata.project": fault}
    assert error.value.message == f"Instance c exceeds a quota: {fault}"
    assert (error.value.CODE, error.value.REASON) == (403, "QuotaExceeded")
    await create(any_store, INSTANCE, of("other", "c"))


async def test_a_domains_limit_holds_for_all_below_together_and_names_no_other_project(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, None, "acme", vcpus=5)
    await create(memory_store, INSTANCE, of("other", flavor="big"))
    await create(memory_store, INSTANCE, instance("a"))
    with pytest.raises(QuotaExceeded) as error:
        await create(memory_store, INSTANCE, instance("b"))
    assert causes(error) == {"spec.flavor": "vcpus: 1 asked, 5 of 5 in use (quota q of domain acme)"}


async def test_all_limits_that_are_reached_are_told_at_once(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=0, memoryMiB=100)
    await limit(memory_store, None, instances=0)
    with pytest.raises(QuotaExceeded) as error:
        await create(memory_store, INSTANCE, instance("a"))
    assert [c.message for c in error.value.causes] == [
        "instances: 1 asked, 0 of 0 in use (quota q of project demo)",
        "instances: 1 asked, 0 of 0 in use (quota q of the whole cloud)",
        "memoryMiB: 128 asked, 0 of 100 in use (quota q of project demo)",
    ]


async def test_what_is_removed_can_be_used_again(any_store: Store) -> None:
    await make_tree(any_store)
    await limit(any_store, instances=1)
    for _ in range(3):
        await create(any_store, INSTANCE, instance("a"))
        await remove(any_store, "a")
    assert used(any_store) == {}


async def test_what_is_being_deleted_still_counts(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=1)
    await create(memory_store, INSTANCE, instance("a"))
    await memory_store.delete(INSTANCE, "demo", "a", actor=ADMIN)
    with pytest.raises(QuotaExceeded):
        await create(memory_store, INSTANCE, instance("b"))


async def test_a_larger_flavor_is_checked_and_a_smaller_one_never_refused(memory_store: Store) -> None:
    await make_tree(memory_store)
    await create(memory_store, INSTANCE, instance("a"))
    await limit(memory_store, vcpus=3)
    patch = {"spec": {"flavor": "big"}}
    with pytest.raises(QuotaExceeded) as error:
        await memory_store.merge_patch(INSTANCE, "demo", "a", patch, actor=ADMIN)
    assert causes(error) == {"spec.flavor": "vcpus: 3 asked, 1 of 3 in use (quota q of project demo)"}
    await limit(memory_store, vcpus=4)
    await memory_store.merge_patch(INSTANCE, "demo", "a", patch, actor=ADMIN)
    await limit(memory_store, vcpus=0, memoryMiB=0, instances=0)
    await memory_store.merge_patch(INSTANCE, "demo", "a", {"spec": {"flavor": "tiny"}}, actor=ADMIN)
    assert used(memory_store) == {"instances": 1, "vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1}


async def test_what_is_there_stays_when_a_limit_is_lowered_and_can_be_changed(memory_store: Store) -> None:
    await make_tree(memory_store)
    await create(memory_store, INSTANCE, instance("a"))
    await limit(memory_store, instances=0, vcpus=0)
    await memory_store.merge_patch(INSTANCE, "demo", "a", {"spec": {"powerState": "Stopped"}}, actor=ADMIN)
    await memory_store.patch_status(INSTANCE, "demo", "a", {"powerState": "Stopped"}, actor=CONTROLLER)
    assert used(memory_store)["instances"] == 1


async def test_what_controllers_make_is_limited_as_well(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, ports=0)
    await create(memory_store, NETWORK, wire("web"))
    with pytest.raises(QuotaExceeded):
        await create(memory_store, PORT, wire("p1", {"network": "web"}), actor=CONTROLLER)


async def test_an_instance_whose_flavor_is_missing_is_measured_as_soon_as_it_is_written_again(
    memory_store: Store,
) -> None:
    await make_tree(memory_store)
    await limit(memory_store, vcpus=3)
    await create(memory_store, INSTANCE, instance("a", flavor="later"), allow_missing_references=True)
    assert used(memory_store) == {"instances": 1}
    await create(memory_store, FLAVOR, wire("later", BIG, project=None))
    with pytest.raises(QuotaExceeded):  # as when the scheduler binds it
        await memory_store.patch_status(INSTANCE, "demo", "a", {"powerState": "Stopped"}, actor=CONTROLLER)
    await limit(memory_store, vcpus=4)
    await memory_store.patch_status(INSTANCE, "demo", "a", {"powerState": "Stopped"}, actor=CONTROLLER)
    assert used(memory_store)["vcpus"] == 4


async def test_a_dry_run_is_told_of_the_limit_and_takes_nothing(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=1)
    await create(memory_store, INSTANCE, instance("a"), dry_run=True)
    await create(memory_store, INSTANCE, instance("a"))
    with pytest.raises(QuotaExceeded):
        await create(memory_store, INSTANCE, instance("b"), dry_run=True)


async def test_users_and_their_keys_count_in_their_domain(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, None, "acme", users=1, apikeys=1)
    await create(memory_store, USER, wire("alice", {"domain": "dev"}, None))
    await create(memory_store, KEY, wire("k1", {"user": "alice"}, None))
    with pytest.raises(QuotaExceeded):
        await create(memory_store, USER, wire("bob", {"domain": "acme"}, None))
    with pytest.raises(QuotaExceeded):
        await create(memory_store, KEY, wire("k2", {"user": "alice"}, None))
    await create(memory_store, USER, wire("carol", {}, None))


async def test_a_removed_project_leaves_nothing_of_its_quotas(memory_store: Store, memory_etcd: MemoryEtcd) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=1)
    await create(memory_store, INSTANCE, instance("a"))
    await remove(memory_store, "a")
    await memory_store.delete(QUOTA, "demo", "q", actor=ADMIN)
    await memory_store.delete(PROJECT, None, "demo", actor=ADMIN)
    await memory_store.finalize(PROJECT, None, "demo", list(PROJECT.finalizers), actor=CONTROLLER)
    assert not [k for k in memory_etcd.snapshot() if b"@demo" in k]


async def test_projects_that_come_and_go_leave_nothing_in_memory(memory_store: Store) -> None:
    cache = memory_store.cache
    await make_tree(memory_store)
    for n in range(4):
        await create(memory_store, PROJECT, wire(f"p{n}", {"domain": "dev"}, project=None))
        await limit(memory_store, f"p{n}", networks=200)
        for name in ("a", "b"):
            await create(memory_store, NETWORK, wire(name, project=f"p{n}"))
        assert f"quota/acme/dev/@p{n}" in cache.allowances._taken
        for name in ("a", "b"):
            await memory_store.delete(NETWORK, f"p{n}", name, actor=ADMIN)
            await memory_store.finalize(NETWORK, f"p{n}", name, list(NETWORK.finalizers), actor=CONTROLLER)
        await memory_store.delete(QUOTA, f"p{n}", "q", actor=ADMIN)
        await memory_store.delete(PROJECT, None, f"p{n}", actor=ADMIN)
        await memory_store.finalize(PROJECT, None, f"p{n}", list(PROJECT.finalizers), actor=CONTROLLER)
        await cache.fresh()
    assert not cache.allowances._taken
    assert len(cache.limits._levels) <= len(cache.table(PROJECT).objects)


async def test_a_set_is_refused_as_a_whole_when_it_asks_for_more_than_is_left(
    memory_store: Store, memory_etcd: MemoryEtcd
) -> None:
    await make_tree(memory_store)
    await create(memory_store, NETWORK, wire("web"))
    await limit(memory_store, instances=3, ports=4)
    await limit(memory_store, None, "acme", vcpus=4)
    await create(memory_store, INSTANCE, instance("a"))
    before = memory_etcd.snapshot()
    cards = [{"name": f"eth{n}", "network": "web"} for n in range(3)]
    wires = [(INSTANCE, of("demo", name, networkInterfaces=cards)) for name in ("a", "b", "c")]
    wires += [(INSTANCE, of("other", "d", flavor="huge")), (FLAVOR, wire("huge", BIG, None))]
    wires.append((INSTANCE, of("demo", "broken", powerState="Nonsense")))
    with pytest.raises(QuotaExceeded) as error:
        await memory_store.check_quotas(wires, actor=ADMIN)
    assert causes(error) == {
        "ports": "ports: 9 asked, 0 of 4 in use (quota q of project demo)",
        "vcpus": "vcpus: 6 asked, 1 of 4 in use (quota q of domain acme)",
    }
    assert memory_etcd.snapshot() == before
    await memory_store.check_quotas(wires[:1], actor=ADMIN)


async def test_a_set_with_its_own_project_is_counted_in_the_projects_domain(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, None, "acme", instances=1, projects=3)
    wires = [
        (DOMAIN, wire("new", {"parent": "acme"}, None)),
        (PROJECT, wire("fresh", {"domain": "new"}, None)),
        *((INSTANCE, of("fresh", name)) for name in ("a", "b")),
    ]
    with pytest.raises(QuotaExceeded) as error:
        await memory_store.check_quotas(wires, actor=ADMIN)
    assert causes(error) == {"instances": "instances: 2 asked, 0 of 1 in use (quota q of domain acme)"}


async def test_however_many_sets_are_checked_others_wait_for_a_few_objects_only(
    memory_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_tree(memory_store)
    looked_at: list[str] = []
    at_once: list[int] = []

    def look(definition: KindDefinition, project: str | None, name: str, text: bytes) -> AnyResource:
        looked_at.append(name)
        return validate(definition, project, name, text)

    async def others() -> None:
        while True:
            before = len(looked_at)
            await asyncio.sleep(0)
            at_once.append(len(looked_at) - before)

    monkeypatch.setattr(quotasets, "validate", look)
    wires = [(NETWORK, wire(f"n{n}")) for n in range(100)]
    running = asyncio.create_task(others())
    await asyncio.gather(*(memory_store.check_quotas(wires, actor=ADMIN) for _ in range(5)))
    running.cancel()
    assert len(looked_at) == 500
    assert max(at_once) <= quotasets.IN_A_TURN


async def test_usage_says_what_is_used_and_who_takes_most(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=3, vcpus=9)
    await limit(memory_store, None, "acme", vcpus=20)
    await create(memory_store, INSTANCE, instance("a"))
    await create(memory_store, INSTANCE, instance("b", flavor="big"))
    await create(memory_store, INSTANCE, of("other"))
    mine = (await memory_store.quota_usage("demo", "q")).to_wire()["items"]
    assert mine == [
        {"name": "instances", "limit": 3, "used": 2, "largest": []},
        {
            "name": "vcpus",
            "limit": 9,
            "used": 5,
            "largest": [{"kind": "Instance", "name": "b", "amount": 4}, {"kind": "Instance", "name": "a", "amount": 1}],
        },
    ]
    domains = (await memory_store.quota_usage(None, "q")).to_wire()["items"]
    assert domains == [
        {
            "name": "vcpus",
            "limit": 20,
            "used": 6,
            "largest": [
                {"kind": "Domain", "name": "dev", "amount": 5},
                {"kind": "Project", "name": "other", "amount": 1},
            ],
        }
    ]


async def test_objects_from_before_they_were_measured_are_when_they_are_written(
    memory_store: Store, memory_etcd: MemoryEtcd
) -> None:
    await make_tree(memory_store)
    await create(memory_store, INSTANCE, instance("a"))
    await forget_takes(memory_etcd, "demo/a")
    await memory_store.cache.fresh()
    assert used(memory_store) == {"instances": 1}
    await memory_store.patch_status(INSTANCE, "demo", "a", {"powerState": "Stopped"}, actor=CONTROLLER)
    assert used(memory_store) == {"instances": 1, "vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1}


async def forget_takes(etcd: MemoryEtcd, row: str) -> None:
    """Write an instance as it was before it was stored what it takes."""
    key = f"/vcstack/instances/{row}".encode()
    value = etcd.snapshot()[key]
    await etcd.put(key, value[: value.index(b',"takes":')] + b"}")


@pytest.mark.daemons
async def test_200_creates_at_once_by_two_replicas_pass_no_limit(etcd_server: EtcdServer) -> None:
    async with (
        EtcdClient(etcd_server.settings) as one,
        EtcdClient(etcd_server.settings) as two,
        Store(one) as first,
        Store(two) as second,
    ):
        await make_tree(first)
        await limit(first, instances=70)
        await limit(first, None, "acme", vcpus=60)
        await second.cache.fresh()
        calls = [create((first, second)[n % 2], INSTANCE, instance(f"i{n}")) for n in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [r for r in results if isinstance(r, BaseException) and not isinstance(r, QuotaExceeded)] == []
        assert sum(not isinstance(r, BaseException) for r in results) == 60
        await first.cache.fresh()
        await second.cache.fresh()
        assert used(first) == used(second) == {"instances": 60, "vcpus": 60, "memoryMiB": 7680, "rootDiskGiB": 60}


async def test_a_limit_that_comes_while_creates_are_under_way_holds_for_all_that_come_after_it(
    any_etcd: MemoryEtcd | EtcdClient,
) -> None:
    async with Store(any_etcd) as first, Store(any_etcd) as second:
        await make_tree(first)
        await second.cache.fresh()
        creates = [create((first, second)[n % 2], INSTANCE, instance(f"i{n}")) for n in range(40)]
        results = await asyncio.gather(*creates[:20], limit(first, instances=5), *creates[20:], return_exceptions=True)
        quota = (await first.get(QUOTA, "demo", "q")).revision
        late = sorted(r.revision for r in results if r is not None and not isinstance(r, BaseException))
        early = sum(revision < quota for revision in late)
        assert len(late) == max(early, 5)
        assert all(isinstance(r, QuotaExceeded) for r in results if isinstance(r, BaseException))


async def test_turns_end_with_whom_they_wait_for(memory_store: Store) -> None:
    await make_tree(memory_store)
    await limit(memory_store, instances=50)
    tasks = [asyncio.create_task(create(memory_store, INSTANCE, instance(f"i{n}"))) for n in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [r for r in results if isinstance(r, Exception)]
    await create(memory_store, INSTANCE, instance("last"))


async def test_many_creates_at_once_pass_no_limit_that_leaves_room_for_allowances(any_etcd: Etcd) -> None:
    async with Store(any_etcd) as first, Store(any_etcd) as second:
        await make_tree(first)
        await limit(first, networks=300)
        await limit(first, None, networks=320)
        await second.cache.fresh()
        calls = [create((first, second)[n % 2], NETWORK, wire(f"n{n}")) for n in range(400)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [r for r in results if isinstance(r, BaseException) and not isinstance(r, QuotaExceeded)] == []
        assert sum(not isinstance(r, BaseException) for r in results) == 300
        for store in (first, second):
            await store.cache.fresh()
            assert used(store) == {"networks": 300}
        mark = await any_etcd.get(turn_key("quota"))
        assert mark.kv is not None
        assert mark.kv.version < 250, mark.kv.version  # most are made without a turn


PHASES: tuple[Phase, ...] = ("before", "after")


async def live(store: Store) -> None:
    """Take and free: by turns, within allowances, near a limit."""
    await create(store, INSTANCE, instance("a"))
    await asyncio.gather(*(create(store, NETWORK, wire(f"n{n}")) for n in range(4)))
    await store.merge_patch(INSTANCE, "demo", "a", {"spec": {"flavor": "big"}}, actor=ADMIN)
    await remove(store, "a")
    await create(store, INSTANCE, instance("b", flavor="big"))


class Death:
    """Comes at the k-th call to etcd, before or after it has any effect, and lets none be made any more."""

    def __init__(self, phase: Phase, k: int) -> None:
        self.came = False
        self._phase, self._left = phase, k

    def __call__(self, call: str, phase: Phase) -> None:
        self._left -= phase == self._phase
        self.came |= self._left <= 0
        if self.came:
            raise Killed


async def test_a_process_killed_before_or_after_any_call_leaves_nothing_counted_wrong_and_no_room_lost() -> None:
    killed = 0
    for phase in PHASES:
        for k in itertools.count(1):
            etcd = MemoryEtcd()
            async with Store(etcd) as store:
                await make_tree(store)
                await limit(store, networks=132, vcpus=5)
            death = Death(phase, k)
            async with Store(etcd) as store:
                etcd.hook, before = death, asyncio.all_tasks()
                with contextlib.suppress(Killed):
                    await live(store)
                if left := asyncio.all_tasks() - before:
                    await asyncio.wait(left)  # what was under way beside it finds itself dead
                etcd.hook = lambda call, at: None
            async with Store(etcd) as store:
                check_recount(etcd.snapshot(), store)
                made = used(store).get("networks", 0)
                for n in range(132 - made):
                    await create(store, NETWORK, wire(f"more{n}"))
                with pytest.raises(QuotaExceeded):
                    await create(store, NETWORK, wire("one-too-many"))
                check_recount(etcd.snapshot(), store)
            killed += death.came
            if not death.came:
                break
    assert killed > 10


async def test_what_a_dead_process_might_have_taken_is_free_when_it_is_needed(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd) as dead:
        await make_tree(dead)
        await limit(dead, networks=200)
        await create(dead, NETWORK, wire("first"))
        assert b"networks" in memory_etcd.snapshot()[turn_key("quota/acme/dev/@demo")]
    async with Store(memory_etcd) as store:
        for n in range(199):
            await create(store, NETWORK, wire(f"n{n}"))
        with pytest.raises(QuotaExceeded):
            await create(store, NETWORK, wire("more"))


async def test_who_asks_for_nearly_all_that_is_left_first_ends_what_others_may_take() -> None:
    made_huge = 0
    for delay in range(30):
        etcd = MemoryEtcd()
        async with Store(etcd) as first, Store(etcd) as second:
            await make_tree(first)
            await create(first, FLAVOR, wire("huge", {**BIG, "vcpus": 250}, project=None))
            await limit(first, vcpus=256)
            await create(first, INSTANCE, instance("a"))
            await second.cache.fresh()
            many = [asyncio.create_task(create(first, INSTANCE, instance(f"i{n}"))) for n in range(10)]
            for _ in range(delay):
                await asyncio.sleep(0)
            huge = asyncio.create_task(create(second, INSTANCE, instance("huge", flavor="huge")))
            results = await asyncio.gather(huge, *many, return_exceptions=True)
            assert all(isinstance(r, QuotaExceeded) for r in results if isinstance(r, BaseException))
            made_huge += not isinstance(results[0], BaseException)
            await first.cache.fresh()
            assert used(first)["vcpus"] <= 256
            check_recount(etcd.snapshot(), first)
    assert 0 < made_huge < 30


async def test_a_lowered_limit_ends_what_was_allowed_under_the_former_one(memory_etcd: MemoryEtcd) -> None:
    async with Store(memory_etcd) as first, Store(memory_etcd) as second:
        await make_tree(first)
        await limit(first, networks=1000)
        await create(first, NETWORK, wire("a"))
        await create(first, NETWORK, wire("b"))
        await limit(second, networks=3)
        results = await asyncio.gather(
            *(create(first, NETWORK, wire(f"n{n}")) for n in range(20)), return_exceptions=True
        )
        assert sum(not isinstance(r, BaseException) for r in results) == 1


async def test_a_limit_holds_for_every_create_that_comes_after_it_whatever_the_other_replica_knows() -> None:
    before = after = 0
    for delay in range(24):
        etcd = MemoryEtcd()
        async with Store(etcd) as first, Store(etcd) as second:
            await make_tree(first)
            await second.cache.fresh()
            making = asyncio.create_task(create(second, NETWORK, wire("late")))
            for _ in range(delay):
                await asyncio.sleep(0)
            await limit(first, networks=0)
            made = (await asyncio.gather(making, return_exceptions=True))[0]
            limited = (await first.get(QUOTA, "demo", "q")).revision
            if isinstance(made, BaseException):
                assert isinstance(made, QuotaExceeded)
                after += 1
            else:
                assert made.revision < limited
                before += 1
    assert before, "some came before the limit"
    assert after, "and some while the other replica did not know of it"


STEPS = st.tuples(
    st.sampled_from(["create", "resize", "remove", "group", "limit", "lift", "missing", "flavor"]),
    st.sampled_from(["demo", "other"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["tiny", "big"]),
)


async def run_step(store: Store, step: tuple[str, str, str, str]) -> None:
    verb, project, name, flavor = step
    try:
        match verb:
            case "create":
                await create(store, INSTANCE, of(project, name, flavor=flavor))
            case "resize":
                await store.merge_patch(INSTANCE, project, name, {"spec": {"flavor": flavor}}, actor=ADMIN)
            case "remove":
                await remove(store, name, project)
            case "group":
                await create(store, GROUP, wire(name, project=project))
            case "limit":
                await limit(store, project, instances=2, vcpus=5)
            case "lift":
                await store.delete(QUOTA, project, "q", actor=ADMIN)
            case "missing":
                await create(store, INSTANCE, of(project, name, flavor=f"no-{name}"), allow_missing_references=True)
            case "flavor":
                await create(store, FLAVOR, wire(f"no-{name}", BIG, None))
    except (QuotaExceeded, Conflict, ApiError):
        return


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=40), st.booleans())
def test_after_any_history_a_recount_finds_what_was_claimed(
    history: list[tuple[str, str, str, str]], at_once: bool
) -> None:
    async def live() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as store, Store(etcd) as other:
            await make_tree(store)
            await limit(store, None, "acme", instances=4)
            await other.cache.fresh()
            calls = [run_step((store, other)[n % 2], step) for n, step in enumerate(history)]
            if at_once:
                await asyncio.gather(*calls)
            else:
                for call in calls:
                    await call
            for project in ("demo", "other"):  # who could not be measured is by his next write
                for name in ("a", "b", "c"):
                    await run_step(store, ("resize", project, name, "tiny"))
            await store.cache.fresh()
            check_recount(etcd.snapshot(), store)
            assert used(store, "quota/acme").get("instances", 0) <= 4
            await other.cache.fresh()
            check_recount(etcd.snapshot(), other)
        async with Store(etcd) as anew:
            check_recount(etcd.snapshot(), anew)

    asyncio.run(live())
