"""Whatever comes in: a refusal of the API's own kind or a valid object, never a fault, never half a write."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.samples import sample
from tests.store.objects import (
    ADMIN,
    CONTROLLER,
    EVENT,
    GROUP,
    HOST,
    HOSTS,
    INSTANCE,
    PORT,
    SUBNET,
    create,
    instance,
    make_world,
    wire,
)
from vcstack.specs.errors import ApiError, BadRequest, InternalError, Invalid
from vcstack.specs.kinds.host import Host
from vcstack.specs.registry import load_kinds
from vcstack.store.store import Store

# fmt: off
FIELDS = [
    "metadata", "spec", "status", "name", "project", "labels", "annotations", "finalizers", "ownerReferences",
    "managedFields", "uid", "kind", "apiVersion", "resourceVersion", "network", "networks", "cidr", "rules",
    "networkInterfaces", "address", "subnet", "securityGroups", "mac", "flavor", "image", "conditions",
    "type", "addresses", "host", "allocated", "actor", "schemaVersion",
]
# fmt: on
WORDS = (
    "",
    "web",
    "web-v4",
    "tiny",
    "demo",
    "p1",
    "10.10.0.5",
    "10.0.0.0/24",
    "vcstack.io/x",
    "a/b",
    "..",
    "\0",
    "é",
    "Ready",
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
junk = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=15,
)
objects = st.dictionaries(st.sampled_from(FIELDS[:3]) | st.sampled_from(FIELDS) | st.text(max_size=4), junk, max_size=5)
bodies = st.builds(
    lambda rest, meta, spec: {**rest, "metadata": {"project": "demo", "name": "p1", **meta}, "spec": spec},
    objects,
    st.dictionaries(st.sampled_from(FIELDS), junk, max_size=3),
    junk,
)

Write = Callable[[Store, Any], Awaitable[object]]
WRITES: dict[str, Write] = {
    "create": lambda s, b: s.create(PORT, b, actor=ADMIN),
    "create subnet": lambda s, b: s.create(SUBNET, b, actor=ADMIN),
    "create group": lambda s, b: s.create(GROUP, b, actor=CONTROLLER),
    "replace": lambda s, b: s.replace(INSTANCE, "demo", "web-1", b, actor=ADMIN),
    "merge": lambda s, b: s.merge_patch(INSTANCE, "demo", "web-1", b, actor=ADMIN),
    "apply new": lambda s, b: s.apply(PORT, "demo", "p1", b, actor=ADMIN),
    "apply": lambda s, b: s.apply(INSTANCE, "demo", "web-1", b, actor=ADMIN, force=True),
    "patch status": lambda s, b: s.patch_status(PORT, "demo", "p0", b, actor=CONTROLLER),
    "replace status": lambda s, b: s.replace_status(INSTANCE, "demo", "web-1", b, actor=CONTROLLER),
}


@pytest.mark.parametrize("verb", WRITES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(bodies, objects))
def test_junk_is_refused_or_stored_whole(verb: str, body: Any) -> None:
    async def run() -> None:
        etcd = MemoryEtcd()
        async with Store(etcd) as store:
            await make_world(store)
            await create(store, INSTANCE, instance())
            await create(store, PORT, wire("p0", {"network": "web"}))
            before = etcd.snapshot()
            try:
                await WRITES[verb](store, body)
            except InternalError:
                raise
            except ApiError:
                assert etcd.snapshot() == before
            check_all_valid(etcd)

    asyncio.run(run())


def check_all_valid(etcd: MemoryEtcd) -> None:
    plurals = {d.plural: d for d in load_kinds().values()}
    for key, value in etcd.snapshot().items():
        definition = plurals.get(key.split(b"/")[2].decode())
        if definition is not None:
            found = orjson.loads(value)
            del found["actor"]
            found.pop("takes", None)
            definition.model.from_wire(found)


@pytest.mark.parametrize("verb", WRITES)
async def test_what_is_nested_without_end_is_a_bad_request(memory_store: Store, verb: str) -> None:
    await make_world(memory_store)
    await create(memory_store, INSTANCE, instance())
    deep: Any = {}
    for _ in range(900):
        deep = {"spec": deep}
    with pytest.raises((BadRequest, Invalid)):
        await WRITES[verb](memory_store, {**wire("p1"), "spec": deep, "x": deep})


@pytest.mark.parametrize("finalizers", ["x", 5, {"a": 1}, [5], [None], [["x"]]])
async def test_finalizers_of_the_wrong_type_are_refused(memory_store: Store, finalizers: Any) -> None:
    await make_world(memory_store)
    with pytest.raises(Invalid):
        await create(memory_store, GROUP, wire("g", {}, finalizers=finalizers))
    await create(memory_store, GROUP, wire("g", {}))
    for write in (
        memory_store.merge_patch(GROUP, "demo", "g", {"metadata": {"finalizers": finalizers}}, actor=CONTROLLER),
        memory_store.replace(GROUP, "demo", "g", wire("g", {}, finalizers=finalizers), actor=CONTROLLER),
    ):
        with pytest.raises(Invalid):
            await write


@pytest.mark.parametrize(
    "time", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789+05:30", "9999-12-31T23:59:59Z"]
)
async def test_a_time_is_one_of_rfc_3339(memory_store: Store, time: str) -> None:
    await make_world(memory_store)
    found = await memory_store.patch_status(HOSTS, None, "h1", {"joinedAt": time}, actor=HOST)
    assert Host.from_wire(found.json).to_wire()["status"]["joinedAt"].endswith("Z")


@pytest.mark.parametrize(
    "time",
    [
        "1700000000",
        "1700000000.5",
        "-1",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05z",
        "2026-13-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        "\u0662026-01-02T03:04:05Z",
        "",
    ],
)
async def test_other_times_are_refused(memory_store: Store, time: str) -> None:
    """pydantic takes some of them, and PostgreSQL and pages do not read them, or otherwise."""
    await make_world(memory_store)
    with pytest.raises(Invalid) as refused:
        await memory_store.patch_status(HOSTS, None, "h1", {"joinedAt": time}, actor=HOST)
    (cause,) = refused.value.causes
    assert cause.field == "status.joinedAt"
    assert "2026-01-02T03:04:05Z" in cause.message


@pytest.mark.parametrize("amount", [-1, 2**31, 2**63, 2**64 - 1])
async def test_no_host_has_a_capacity_that_cannot_be_reckoned_with(memory_store: Store, amount: int) -> None:
    await make_world(memory_store)
    with pytest.raises(Invalid) as refused:
        await memory_store.patch_status(HOSTS, None, "h1", {"capacity": {"memoryMiB": amount}}, actor=HOST)
    (cause,) = refused.value.causes
    assert cause.field == "status.capacity"
    assert "memoryMiB must be 0 to 2147483647" in cause.message


@pytest.mark.parametrize("count", [-1, 2**53 + 1, 2**64 - 1])
async def test_an_event_is_counted_in_numbers_that_all_can_read(memory_store: Store, count: int) -> None:
    await make_world(memory_store)
    happened = sample("Event")
    happened["spec"]["count"] = count
    with pytest.raises(Invalid) as refused:
        await memory_store.create(EVENT, happened, actor=HOST)
    assert [c.field for c in refused.value.causes] == ["spec.count"]
