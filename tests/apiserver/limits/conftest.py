"""An API server whose clock stands still, so that no bucket fills by itself, with people to send requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, error_of, serving
from vcstack.pki.installation import Installation
from vcstack.store.store import Store

Http = httpx2.AsyncClient
Serve = Callable[..., Awaitable[Api]]
PROJECT, OTHERS = "mine", "theirs"
OBJECT = f"/api/v1/projects/{PROJECT}/networks"


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the server runs on: how connections end and what waits in their buffers is its affair."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def serve(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Serve]:
    """A function that starts the server with the settings given."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            api = await stack.enter_async_context(
                serving(memory_store, memory_etcd, pki_installation, tmp_path, clock=clock, **settings)
            )
            await fill(api)
            return api

        yield start


async def fill(api: Api) -> None:
    """Two projects; alice and bob are members of the first, mallory of the other one."""
    await put_roles(api)
    await put(api, "Domain", "acme", {})
    await put(api, "Project", PROJECT, {"domain": "acme"})
    await put(api, "Project", OTHERS, {})
    for name, project in (("alice", PROJECT), ("bob", PROJECT), ("mallory", OTHERS)):
        await put(api, "User", name, {})
        await bind(api, name, name, "member", project)


@contextlib.asynccontextmanager
async def users(api: Api, *names: str) -> AsyncIterator[list[Http]]:
    """Clients of these users, logged in."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(as_(api, await log_in(api, name))) for name in names]


async def policy(api: Api, name: str, per: str, burst: int, *routes: str, **spec: Any) -> None:
    """A policy with one limit of its own name that hardly fills again."""
    limit = {"name": name, "per": per, "routes": list(routes), "requestsPerMinute": 6, "burst": burst}
    await put(api, "RateLimitPolicy", name, {"limits": [limit], **spec})


async def count(client: Http, times: int, path: str = OBJECT, method: str = "GET", **options: Any) -> int:
    """Return how many of so many requests are let through; all others are refused by a limit."""
    passed = 0
    for _ in range(times):
        answer = await client.request(method, path, **options)
        if answer.status_code == 429:
            assert error_of(answer)["reason"] == "RateLimited"
        else:
            assert answer.status_code != 401 or "authorization" not in client.headers, answer.text
            passed += 1
    return passed
