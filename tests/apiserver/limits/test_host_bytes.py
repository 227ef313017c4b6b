"""What a host may write, in one request and in a time: a broken one fills neither etcd nor the history."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.apiserver.limits.conftest import Serve
from tests.fakes.manual_clock import ManualClock
from tests.fixtures.api import Api, error_of
from vcstack.apiserver.limits import defaults
from vcstack.apiserver.limits.buckets import AnyBucket, Buckets, OwnBuckets, Rule
from vcstack.apiserver.limits.shared import SharedBuckets, SharedTable
from vcstack.apiserver.ownfields import HOST_LIMIT
from vcstack.specs.kinds.ratelimitpolicy import Per

MERGE = {"content-type": "application/merge-patch+json"}
STATUS = "/api/v1/hosts/h1/status"
EVENTS = "/api/v1/events"
TIME = "2026-01-02T03:04:05Z"


@contextlib.asynccontextmanager
async def hosts(api: Api, *names: str) -> AsyncIterator[list[httpx2.AsyncClient]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(api.raw(await api.register(name))) for name in names]


def condition(type_: str, message: str, status: str = "True") -> dict[str, Any]:
    return {"type": type_, "status": status, "message": message, "lastTransitionTime": TIME, "observedGeneration": 1}


async def report(host: httpx2.AsyncClient, path: str = STATUS, **status: Any) -> httpx2.Response:
    return await host.patch(path, json={"status": status}, headers=MERGE)


def event(name: str, message: str = "It runs.", count: int = 1) -> dict[str, Any]:
    spec = {"type": "Normal", "reason": "Started", "message": message, "actor": "vc-compute/h1", "count": count}
    times = {"firstTime": TIME, "lastTime": TIME}
    return {"metadata": {"name": name}, "spec": {"regarding": {"kind": "Host", "name": "h1"}, **spec, **times}}


async def test_a_request_of_a_host_is_no_larger_than_what_honest_ones_send(serve: Serve) -> None:
    api = await serve()
    async with hosts(api, "h1") as (h1,):
        answer = await report(h1, address="x" * HOST_LIMIT)
        assert answer.status_code == 413
        assert "exceeds the limit of 131072 bytes" in error_of(answer)["message"]
        answer = await h1.post(EVENTS, json=event("ev-1", "x" * HOST_LIMIT))
        assert answer.status_code == 413


async def test_many_small_requests_do_not_make_a_large_status(serve: Serve) -> None:
    api = await serve()
    async with hosts(api, "h1") as (h1,):
        for i in range(4):
            assert (await report(h1, conditions=[condition(f"Aspect{i}", "x" * 31_000)])).status_code == 200
        answer = await report(h1, conditions=[condition("OneMore", "x" * 31_000)])
        assert answer.status_code == 422
        cause = error_of(answer)["details"]["causes"][0]
        assert (cause["field"], cause["reason"]) == ("status", "FieldValueTooLong")
        assert cause["message"].startswith("a host may make it 131072 bytes large at most, not 155")
        assert (await report(h1, conditions=[condition("Aspect0", "short")])).status_code == 200


async def test_a_host_that_writes_too_much_is_held_up_and_no_other(serve: Serve, clock: ManualClock) -> None:
    api = await serve()
    api.application.gate.book.host_bytes.change(60, 500, 1)
    async with hosts(api, "h1", "h2") as (h1, h2):
        for i in range(3):
            assert (await report(h1, conditions=[condition(f"Aspect{i}", "x" * 32_000)])).status_code == 200
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:  # a short patch of what is large writes all of it
            answer = await report(h1, virtType=f"kvm{len(statuses)}")
            statuses.append(answer.status_code)
        assert len(statuses) < 6
        assert answer.status_code == 429
        error = error_of(answer)
        assert error["details"]["limit"]["reason"] == "TooManyBytes"
        assert error["message"].startswith(
            "system:host:h1 has written as much as limit 'host-bytes' that is built in allows: 60 KiB a minute, "
            "500 at once; try again in "
        )
        assert (await h1.post("/api/v1/hosts/h1/heartbeat")).status_code == 200, "it is alive"
        assert (await h1.get("/api/v1/hosts/h1")).status_code == 200
        assert (await report(h2, "/api/v1/hosts/h2/status", virtType="kvm")).status_code == 200
        clock.skip(float(answer.headers["retry-after"]))
        assert (await report(h1, virtType="kvm")).status_code == 200


async def test_new_events_have_less_room_than_what_is_told_again(serve: Serve, clock: ManualClock) -> None:
    api = await serve()
    api.application.gate.book.host_new_events.change(60, 8, 1)
    async with hosts(api, "h1") as (h1,):
        assert (await h1.post(EVENTS, json=event("ev-1", "x" * 5000))).status_code == 201
        assert (await h1.post(EVENTS, json=event("ev-2", "x" * 5000))).status_code == 201
        answer = await h1.post(EVENTS, json=event("ev-3"))
        assert (answer.status_code, error_of(answer)["details"]["limit"]["name"]) == (429, "host-new-events")
        for count in range(2, 6):
            assert (await h1.put(f"{EVENTS}/ev-1", json=event("ev-1", "x" * 5000, count))).status_code == 200
        assert (await report(h1, virtType="kvm")).status_code == 200
        clock.skip(60.0)
        assert (await h1.post(EVENTS, json=event("ev-3"))).status_code == 201


@pytest.mark.parametrize("shared", [False, True])
def test_what_was_taken_beyond_what_was_there_is_owed(shared: bool) -> None:
    buckets: Buckets[Any] = SharedBuckets(SharedTable.create(), lambda: 0.0) if shared else OwnBuckets(lambda: 0.0)
    bucket: AnyBucket = buckets.of(Rule(("", "r"), "", Per.SUBJECT, 60, 100, 1), "h1")
    for _ in range(3):
        buckets.charge(bucket, 80, 0.0)
    assert bucket.fill(139.0) <= 0
    assert bucket.fill(141.0) > 0
    assert bucket.fill(1000.0) == 100


async def test_managers_share_what_a_host_may_write(serve: Serve) -> None:
    book = (await serve()).application.gate.book
    book.share(2)
    assert book.host_bytes.burst == defaults.HOST_BYTES.kib_at_once / 2
    assert book.host_new_events.burst == defaults.HOST_NEW_EVENTS.kib_at_once / 2
