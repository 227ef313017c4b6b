"""Whatever is done in whatever order: no address held twice, no claim without its object, none lost."""

import asyncio
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import ADMIN, CONTROLLER, NETWORK, PORT, create, make_world, wire
from vcstack.specs.errors import ApiError, ClaimTaken, Conflict
from vcstack.specs.kinds.port import Port
from vcstack.store.etcd.errors import OutcomeUnknown
from vcstack.store.store import Store

NAMES = [f"p{i}" for i in range(4)]
ADDRESSES = [f"10.10.0.{i}" for i in range(10, 14)]

steps = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(NAMES), st.none() | st.sampled_from(ADDRESSES)),
    st.tuples(st.just("hold"), st.sampled_from(NAMES), st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
)


async def run_step(store: Store, step: tuple[str, str, Any]) -> None:
    verb, name, value = step
    try:
        if verb == "create":
            await create(store, PORT, wire(name, {"network": "web", **({"address": value} if value else {})}))
        elif verb == "hold":
            status = {"addresses": [{"subnet": "web-v4", "address": a} for a in value]}
            await store.patch_status(PORT, "demo", name, status, actor=CONTROLLER)
        else:
            await store.finalize(PORT, "demo", name, list(PORT.finalizers), actor=CONTROLLER)
            await store.delete(PORT, "demo", name, actor=ADMIN)
    except ApiError:
        return


def check_invariants(etcd: MemoryEtcd) -> None:
    """Claims are exactly those that the objects have by their own account."""
    wanted: dict[str, str] = {}
    held = {}
    for key, value in etcd.snapshot().items():
        if key.startswith(b"/vcstack/ports/"):
            found = orjson.loads(value)
            found.pop("actor")
            port = Port.from_wire(found)
            for claim in PORT.claims(port):
                place = f"{claim.pool}/{claim.key}"
                assert place not in wanted, f"{place} is held twice"
                wanted[place] = port.uid
        elif key.startswith(b"/vcstack/.claims/") and b"/subnets/" not in key:
            held[key.removeprefix(b"/vcstack/.claims/").decode()] = orjson.loads(value)["uid"]
    assert held == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=6))
def test_claims_and_objects_always_agree(rounds: list[list[tuple[str, str, Any]]]) -> None:
    async def run() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as one, Store(etcd) as two:
            await make_world(one)
            for together in rounds:
                await asyncio.gather(*(run_step((one, two)[i % 2], s) for i, s in enumerate(together)))
                check_invariants(etcd)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=12), st.integers(0, 40), st.sampled_from(["before", "after"]))
def test_a_crash_at_any_call_leaves_claims_and_objects_agreeing(
    plan: list[tuple[str, str, Any]], at: int, when: str
) -> None:
    """The process dies at one of its calls; another takes over and goes on."""

    class Killed(BaseException):
        pass

    async def run() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as first:
            await make_world(first)
            count = iter(range(10**9))

            def hook(call: str, phase: str) -> None:
                if call == "txn" and phase == when and next(count) == at % (len(plan) + 1):
                    raise Killed

            etcd.hook = hook
            try:
                for step in plan:
                    await run_step(first, step)
            except Killed:
                pass
            etcd.hook = lambda call, phase: None
        check_invariants(etcd)
        async with Store(etcd) as second:
            for step in plan:
                await run_step(second, step)
            check_invariants(etcd)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=12), st.sets(st.integers(0, 15)), st.booleans())
def test_lost_answers_neither_double_nor_leak(plan: list[tuple[str, str, Any]], lost: set[int], applied: bool) -> None:
    async def run() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as store:
            await make_world(store)
            count = iter(range(10**9))

            def hook(call: str, phase: str) -> None:
                if call == "txn" and phase == ("after" if applied else "before") and next(count) in lost:
                    raise OutcomeUnknown("cut")

            etcd.hook = hook
            for step in plan:
                await run_step(store, step)
            check_invariants(etcd)

    asyncio.run(run())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=25))
def test_exact_versions_admit_one_writer_each(attempts: list[tuple[int, bool]]) -> None:
    """However readers and writers interleave, every acknowledged write was based on the one before."""

    async def run() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as one, Store(etcd) as two:
            await make_world(one)
            base = str((await one.get(NETWORK, "demo", "web")).revision)
            seen = [base] * 4
            written = [base]
            for writer, refresh in attempts:
                store = (one, two)[writer % 2]
                if refresh:
                    seen[writer] = str((await store.get(NETWORK, "demo", "web")).revision)
                patch = {"metadata": {"resourceVersion": seen[writer], "labels": {"n": str(len(written))}}}
                try:
                    done = await store.merge_patch(NETWORK, "demo", "web", patch, actor=ADMIN)
                except Conflict:
                    assert seen[writer] != written[-1]
                else:
                    assert seen[writer] == written[-1]
                    written.append(str(done.revision))

    asyncio.run(run())


async def test_taken_means_taken_by_something_that_is_there(memory_etcd: MemoryEtcd, memory_store: Store) -> None:
    await make_world(memory_store)
    async with Store(memory_etcd) as other:
        for _ in range(20):
            await create(memory_store, PORT, wire("a", {"network": "web", "address": "10.10.0.9"}))
            await run_step(memory_store, ("delete", "a", None))
            try:
                await create(other, PORT, wire("b", {"network": "web", "address": "10.10.0.9"}))
            except ClaimTaken:
                raise AssertionError("the address had been released before") from None
            await run_step(other, ("delete", "b", None))
