"""A host writes what is its own at the moment of the write: what it was when the request began does not count.

Requests are held where they really wait: with ``Expect: 100-continue`` the server says when it begins to read the
body, which is after it has authorized. And where the store has decided and sends its transaction.
"""

import asyncio
import contextlib
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx2
import pytest

from tests.fakes.master_keys import open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, bind, create_samples, error_of
from vcstack.specs.kinds.instance import DOMAIN_FINALIZER
from vcstack.specs.registry import get_kind
from vcstack.store.etcd.ops import Compare, Op
from vcstack.store.etcd.records import TxnResult
from vcstack.store.keys import object_key, row_of

HOST, INSTANCE, EVENT = (get_kind(kind) for kind in ("Host", "Instance", "Event"))
MERGE = "application/merge-patch+json"
WEB = "/api/v1/projects/demo/instances/web-1"
EVENTS = "/api/v1/projects/demo/events"
PATIENCE = 60.0
Act = Callable[[], Awaitable[Any]]


@pytest.fixture
async def world(api: Api) -> Api:
    """Hosts h1 and h2, and instance web-1 bound to h1."""
    await create_samples(api)
    for host in ("h1", "h2"):
        await api.register(host)
    await bind(api, "Instance", "web-1", "h1")
    return api


@pytest.fixture
async def elsewhere(world: Api, memory_etcd: MemoryEtcd) -> AsyncIterator[Api]:
    """The same with the store of another replica, whose writes do not wait for those of this one."""
    async with open_store(memory_etcd) as store:
        yield dataclasses.replace(world, store=store)


def event_of(uid: str = "") -> dict[str, Any]:
    spec = {
        "regarding": {"kind": "Instance", "name": "web-1", **({"uid": uid} if uid else {})},
        "type": "Normal",
        "reason": "Started",
        "message": "It runs.",
        "actor": "vc-compute/h1",
        "firstTime": "2026-11-01T12:00:00Z",
        "lastTime": "2026-11-01T12:00:00Z",
    }
    return {"metadata": {"project": "demo", "name": "ev-x"}, "spec": spec}


@contextlib.asynccontextmanager
async def tls(api: Api, host: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    settings = api.host_settings(host)
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    assert settings.cert_file is not None
    context.load_cert_chain(settings.cert_file, settings.key_file)
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()


async def send_slowly(
    api: Api, method: str, path: str, body: dict[str, Any], meanwhile: Act
) -> tuple[int, dict[str, Any]]:
    """Send a request of h1, and do something between its authorization and its body."""
    raw = json.dumps(body).encode()
    kind = MERGE if method == "PATCH" else "application/json"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(raw)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE), tls(api, "h1") as (reader, writer):
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await meanwhile()
        writer.write(raw)
        answer = await reader.read()
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


async def send(api: Api, method: str, path: str, body: dict[str, Any]) -> httpx2.Response:
    headers = {"content-type": MERGE if method == "PATCH" else "application/json"}
    async with api.raw(api.host_settings("h1")) as http:
        return await http.request(method, path, json=body, headers=headers)


def before_the_write(monkeypatch: pytest.MonkeyPatch, etcd: MemoryEtcd, key: bytes, act: Act) -> list[bool]:
    """Do something once, when the first transaction that writes the key has been composed; return what came of each."""
    do, outcomes = etcd.txn, list[bool]()

    async def txn(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        writes = any(op.key == key for op in success)
        if writes and not outcomes:
            outcomes.append(False)
            monkeypatch.setattr(etcd, "txn", do)
            await act()
            monkeypatch.setattr(etcd, "txn", txn)
            outcomes.clear()
        result = await do(compares, success, failure)
        if writes:
            outcomes.append(result.succeeded)
        return result

    monkeypatch.setattr(etcd, "txn", txn)
    return outcomes


async def replace_host(api: Api) -> None:
    """Another machine gets the name."""
    host = await api.store.get(HOST, None, "h1")
    await api.store.delete(HOST, None, "h1", actor=SYSTEM)
    await api.store.finalize(HOST, None, "h1", host.wire["metadata"]["finalizers"], actor=SYSTEM)
    await api.store.create(HOST, {"metadata": {"name": "h1"}, "spec": {}}, actor=SYSTEM)


WRITES = (
    ("PATCH", f"{WEB}/status", {"status": {"powerState": "Running"}}),
    ("PUT", f"{WEB}/status", {"status": {"powerState": "Running", "host": "h1"}}),
    ("POST", f"{WEB}/finalize", {"remove": [DOMAIN_FINALIZER]}),
    ("POST", EVENTS, event_of()),
)
KEYS = {path: object_key(INSTANCE, row_of("demo", "web-1")) for _, path, _ in WRITES[:3]}
KEYS[EVENTS] = object_key(EVENT, row_of("demo", "ev-x"))
EACH_WRITE = pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=lambda x: x if isinstance(x, str) else "")


async def instance_of(api: Api) -> dict[str, Any]:
    return (await api.store.get(INSTANCE, "demo", "web-1")).wire


async def nothing_was_written(api: Api) -> bool:
    found = await instance_of(api)
    events = [item for item in (await api.store.list(EVENT, "demo")).items if b'"ev-x"' in item]
    return "powerState" not in found["status"] and DOMAIN_FINALIZER in found["metadata"]["finalizers"] and not events


@EACH_WRITE
async def test_a_write_in_good_time_is_done(world: Api, method: str, path: str, body: dict[str, Any]) -> None:
    async def nothing() -> None:
        pass

    status, answer = await send_slowly(world, method, path, body, nothing)
    assert status < 300, answer
    assert not await nothing_was_written(world)


@EACH_WRITE
async def test_what_was_bound_to_another_host_before_the_body_came_is_not_written(
    world: Api, method: str, path: str, body: dict[str, Any]
) -> None:
    status, answer = await send_slowly(world, method, path, body, lambda: bind(world, "Instance", "web-1", "h2"))
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert "not bound to it" in answer["message"] or "only what is bound to it" in answer["message"]
    assert await nothing_was_written(world)


@EACH_WRITE
async def test_a_host_whose_name_went_to_another_machine_before_the_body_came_writes_nothing(
    world: Api, method: str, path: str, body: dict[str, Any]
) -> None:
    status, answer = await send_slowly(world, method, path, body, lambda: replace_host(world))
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert "another Host has the name now" in answer["message"]
    assert await nothing_was_written(world)


@EACH_WRITE
async def test_what_is_bound_to_another_host_while_it_is_written_is_not_written(
    world: Api,
    elsewhere: Api,
    memory_etcd: MemoryEtcd,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: dict[str, Any],
) -> None:
    outcomes = before_the_write(
        monkeypatch, memory_etcd, KEYS[path], lambda: bind(elsewhere, "Instance", "web-1", "h2")
    )
    answer = await send(world, method, path, body)
    assert answer.status_code == 403
    assert "bound to it" in error_of(answer)["message"]
    assert outcomes == [False], "it was composed while the host still might, and refused by the transaction"
    assert await nothing_was_written(world)


@EACH_WRITE
async def test_a_host_that_is_replaced_while_it_writes_writes_nothing(
    world: Api,
    elsewhere: Api,
    memory_etcd: MemoryEtcd,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: dict[str, Any],
) -> None:
    """Of an event nothing but this has changed: neither it nor what it regards."""
    outcomes = before_the_write(monkeypatch, memory_etcd, KEYS[path], lambda: replace_host(elsewhere))
    answer = await send(world, method, path, body)
    assert answer.status_code == 403
    assert "another Host has the name now" in error_of(answer)["message"]
    assert outcomes == [False]
    assert await nothing_was_written(world)


async def test_what_the_manager_wrote_meanwhile_is_not_undone(world: Api) -> None:
    """A host that writes a whole status gives the manager's part as it last saw it."""

    async def allocate() -> None:
        given = {"allocated": {"vcpus": 1, "memoryMiB": 128, "diskGiB": 1}}
        await world.store.patch_status(INSTANCE, "demo", "web-1", given, actor=SYSTEM)

    before = {**(await instance_of(world))["status"], "powerState": "Running"}
    status, answer = await send_slowly(world, "PUT", f"{WEB}/status", {"status": before}, allocate)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "status.allocated")
    assert (await instance_of(world))["status"]["allocated"]["memoryMiB"] == 128


async def test_writes_that_only_meet_changes_of_their_host_are_done(
    world: Api, elsewhere: Api, memory_etcd: MemoryEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Host changes often: what is there still is found out, and the write sent again."""

    async def report() -> None:
        await elsewhere.store.patch_status(HOST, None, "h1", {"instanceCount": 7}, actor=SYSTEM)

    outcomes = before_the_write(monkeypatch, memory_etcd, KEYS[f"{WEB}/status"], report)
    answer = await send(world, *WRITES[0])
    assert answer.status_code == 200
    assert outcomes == [False, True]
