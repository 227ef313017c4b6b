"""Seats, queues and streams at a real server: who waits, who is refused, and who is not touched by it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from tests.apiserver.limits.conftest import OBJECT, PROJECT, Serve, count, policy, users
from tests.apiserver.test_accounts import put
from tests.fixtures.api import Api, error_of
from tests.fixtures.etcd import eventually
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.websocket import open_socket
from vcstack.apiserver.limits.defaults import (
    ADMIN,
    HOSTS,
    LEVELS,
    LOGIN,
    OPERATORS,
    STREAMS,
    TENANTS,
    LevelSettings,
    StreamSettings,
)
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.specs.errors import NotFound, RateLimited

SMALL = LevelSettings(seats=2, most_of_one=1, queue_length=1, hand=1, queues=1, wait_seconds=600)


def limits(streams: dict[str, StreamSettings] | None = None, **levels: LevelSettings) -> LimitSettings:
    return LimitSettings(levels={**LEVELS, **levels}, streams={**STREAMS, **(streams or {})})


@contextlib.asynccontextmanager
async def slow_request(client: httpx2.AsyncClient) -> AsyncIterator[None]:
    """A write whose body does not come until the end: it has a seat all the time."""
    goes_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"metadata": {"name": "slow"},'
        await goes_on.wait()
        yield b'"spec": {}}'

    sending = asyncio.create_task(client.post(OBJECT, content=body(), headers={"content-type": "application/json"}))
    try:
        yield
    finally:
        goes_on.set()
        await sending


async def executing(api: Api, level: str, wanted: int) -> None:
    await eventually(lambda: api.application.gate.levels[level].executing == wanted)


async def queued(api: Api, level: str, wanted: int) -> None:
    await eventually(lambda: api.application.gate.levels[level].queued == wanted)


async def test_who_has_all_the_seats_he_may_have_waits_and_then_is_refused(serve: Serve) -> None:
    api = await serve(limits=limits(tenants=SMALL))
    async with users(api, "alice", "bob") as (alice, bob), api.raw() as admin:
        async with slow_request(alice):
            await executing(api, TENANTS, 1)
            waiting = asyncio.create_task(alice.get(OBJECT))
            await queued(api, TENANTS, 1)
            answer = await alice.get(OBJECT)
            body = error_of(answer)
            assert answer.status_code == 429
            assert "all seats of tenants that are for this caller are taken and the queue is full" in body["message"]
            assert body["details"]["limit"] == {
                "reason": "QueueFull", "name": "tenants", "policy": "", "per": "", "requestsPerMinute": 0, "burst": 0,
            }  # fmt: skip
            assert int(answer.headers["retry-after"]) >= 1
            assert await count(admin, 20) == 20, "the administrator has seats of his own"
            host = await api.register("h1")
            async with api.raw(host) as agent:
                assert await count(agent, 20, "/api/v1/hosts/h1/heartbeat", "POST") == 20
                assert await count(agent, 20, "/api/v1/hosts/h1") == 20
        assert (await waiting).status_code == 200, "it was its turn when the slow one was done"
        await executing(api, TENANTS, 0)
        assert await count(bob, 5) == 5


async def test_slow_requests_of_one_leave_seats_for_others(serve: Serve) -> None:
    api = await serve(limits=limits(tenants=SMALL))
    async with users(api, "alice", "bob") as (alice, bob), slow_request(alice):
        await executing(api, TENANTS, 1)
        assert await count(bob, 20) == 20


async def test_a_turn_that_does_not_come_is_refused_in_the_end(serve: Serve) -> None:
    quick = LevelSettings(seats=1, most_of_one=1, wait_seconds=0.02)
    api = await serve(limits=limits(tenants=quick))
    async with users(api, "alice") as (alice,), slow_request(alice):
        await executing(api, TENANTS, 1)
        answer = await alice.get(OBJECT)
        assert error_of(answer)["details"]["limit"]["reason"] == "QueueTimeout"


async def test_operators_have_seats_that_tenants_cannot_fill(serve: Serve) -> None:
    api = await serve(limits=limits(tenants=LevelSettings(seats=1, most_of_one=1, wait_seconds=0.02)))
    await put(api, "RateLimitPolicy", "ops", {"subject": {"kind": "User", "name": "bob"}, "seats": "Operators"})
    async with users(api, "alice", "bob") as (alice, bob), slow_request(alice):
        await executing(api, TENANTS, 1)
        assert await count(alice, 1) == 0
        assert await count(bob, 20) == 20
        assert api.application.gate.levels[OPERATORS].executing == 0, "each was given back"


async def test_logins_have_seats_of_their_own(serve: Serve) -> None:
    api = await serve(limits=limits(tenants=LevelSettings(seats=1, most_of_one=1, wait_seconds=0.02)))
    async with users(api, "alice") as (alice,), slow_request(alice):
        await executing(api, TENANTS, 1)
        async with users(api, "bob"):
            pass
    assert api.application.gate.levels[LOGIN].executing == 0


async def test_watches_are_limited_for_each_subject(serve: Serve) -> None:
    api = await serve(limits=limits({TENANTS: StreamSettings(of_one=2, in_all=100)}))
    async with users(api, "alice", "bob") as (alice, bob), contextlib.AsyncExitStack() as open_:
        first = await alice.send(alice.build_request("GET", f"{OBJECT}?watch=true"), stream=True)
        await open_.enter_async_context(alice.stream("GET", f"{OBJECT}?watch=true"))
        answer = await alice.get(f"{OBJECT}?watch=true")
        assert answer.status_code == 429
        assert error_of(answer)["details"]["limit"]["reason"] == "TooManyStreams"
        assert "2 are open" in error_of(answer)["message"]
        another = await open_.enter_async_context(bob.stream("GET", f"{OBJECT}?watch=true"))
        assert another.status_code == 200
        assert await count(alice, 5) == 5, "other requests are none of these"
        await first.aclose()
        await eventually(lambda: api.application.gate.streams[TENANTS].open == 2)
        again = await open_.enter_async_context(alice.stream("GET", f"{OBJECT}?watch=true"))
        assert again.status_code == 200


async def test_a_watch_is_one_however_it_is_written_and_nothing_else_is(serve: Serve) -> None:
    api = await serve(limits=limits({TENANTS: StreamSettings(of_one=1, in_all=100)}))
    async with users(api, "alice") as (alice,), alice.stream("GET", f"{OBJECT}?%77atch=%74rue") as first:
        assert first.status_code == 200
        for written in ("watch=true", "%77atch=true", "watch=1"):
            async with alice.stream("GET", f"{OBJECT}?{written}") as answer:
                assert answer.status_code == 429, written
        for written in ("watch=false", "labelSelector=watch=true", "limit=1"):
            assert (await alice.get(f"{OBJECT}?{written}")).status_code == 200, written


async def test_watches_are_limited_in_all_but_hosts_have_their_own(serve: Serve) -> None:
    api = await serve(limits=limits({TENANTS: StreamSettings(of_one=2, in_all=2)}))
    host = await api.register("h1")
    async with users(api, "alice", "bob") as (alice, bob), api.raw(host) as agent, contextlib.AsyncExitStack() as open_:
        for client in (alice, bob):
            await open_.enter_async_context(client.stream("GET", f"{OBJECT}?watch=true"))
        assert (await alice.get(f"{OBJECT}?watch=true")).status_code == 429
        path = "/api/v1/instances?watch=true&fieldSelector=status.host%3Dh1"
        assert (await open_.enter_async_context(agent.stream("GET", path))).status_code == 200


async def test_a_watch_that_ended_leaves_its_place(serve: Serve) -> None:
    api = await serve(limits=limits({TENANTS: StreamSettings(of_one=1, in_all=1)}))
    async with users(api, "alice") as (alice,):
        for _ in range(3):
            answer = await alice.get(f"{OBJECT}?watch=true&timeoutSeconds=1")
            assert answer.status_code == 200
    assert api.application.gate.streams[TENANTS].open == 0


async def test_a_refused_watch_leaves_no_place_taken(serve: Serve) -> None:
    api = await serve(limits=limits({TENANTS: StreamSettings(of_one=1, in_all=1)}))
    async with users(api, "alice") as (alice,):
        for _ in range(3):
            assert (await alice.get("/api/v1/projects/theirs/networks?watch=true")).status_code == 404
    assert api.application.gate.streams[TENANTS].open == 0


async def test_websockets_are_limited_like_all_else(serve: Serve) -> None:
    api = await serve()
    await policy(api, "consoles", "Subject", 1, "Stream")
    async with users(api, "alice") as (alice,):
        token = alice.headers["authorization"].removeprefix("Bearer ")
        path = f"/api/v1/projects/{PROJECT}/instances/none/console"
        for expected in (NotFound, RateLimited):
            async with Connection(api.settings(token=token)) as connection:
                with pytest.raises(expected):
                    async with open_socket(connection, path, {}):
                        pass


async def test_open_websockets_are_counted_as_streams(serve: Serve) -> None:
    api = await serve(limits=limits({HOSTS: StreamSettings(of_one=1, in_all=100)}))
    host = await api.register("h1")
    path = "/api/v1/hosts/h1/tunnel"
    async with Connection(host) as connection, Connection(host) as another:
        async with open_socket(connection, path, {}):
            await eventually(lambda: api.application.gate.streams[HOSTS].open == 1)
            with pytest.raises(RateLimited, match="may not open more streams"):
                async with open_socket(another, path, {}):
                    pass
        await eventually(lambda: api.application.gate.streams[HOSTS].open == 0)
        async with open_socket(another, path, {}):
            pass


def figure(name: str, **labels: str) -> Any:
    return REGISTRY.get_sample_value(name, labels)


async def test_prometheus_sees_who_has_seats_who_waits_and_who_was_refused(serve: Serve) -> None:
    api = await serve(limits=limits(tenants=SMALL))
    before = figure("vcstack_api_level_rejected_total", level=TENANTS, reason="QueueFull") or 0
    async with users(api, "alice") as (alice,), slow_request(alice):
        await executing(api, TENANTS, 1)
        waiting = asyncio.create_task(alice.get(OBJECT))
        await queued(api, TENANTS, 1)
        await alice.get(OBJECT)
        assert figure("vcstack_api_level_executing", level=TENANTS) == 1
        assert figure("vcstack_api_level_queued", level=TENANTS) == 1
        assert figure("vcstack_api_level_seats", level=TENANTS) == SMALL.seats
        assert figure("vcstack_api_level_rejected_total", level=TENANTS, reason="QueueFull") == before + 1
        waiting.cancel()
    for level in (HOSTS, ADMIN, LOGIN):
        assert figure("vcstack_api_level_executing", level=level) == 0


async def test_a_list_comes_in_pages_also_for_who_asks_for_none(serve: Serve) -> None:
    api = await serve(page_limit=3)
    async with api.raw() as admin:
        for n in range(5):
            await put(api, "Network", f"n{n}", {}, PROJECT)
        for query in ("", "?limit=4000"):
            page = (await admin.get(f"{OBJECT}{query}")).json()
            assert len(page["items"]) == 3
            assert page["metadata"]["remainingItemCount"] == 2
        rest = (await admin.get(OBJECT, params={"continue": page["metadata"]["continue"]})).json()
        assert [i["metadata"]["name"] for i in rest["items"]] == ["n3", "n4"]
