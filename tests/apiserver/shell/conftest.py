"""A project with an instance whose SSH server trusts the project's authority, and Alice, a member."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.apiserver.shell.talking import Talk
from tests.apiserver.test_accounts import log_in, put
from tests.apiserver.test_tenancy import put_roles
from tests.fixtures.api import Api, bind, create_samples
from tests.fixtures.guest import SshGuest, Way, leading_to
from tests.fixtures.sshd import LOGIN
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.shell import open_shell

SECONDS = 120
"""Nothing waits for ever; nothing is measured by it."""
Talking = Callable[..., AbstractAsyncContextManager[Talk]]


@pytest.fixture
async def way(api: Api, guest: SshGuest) -> AsyncIterator[Way]:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    await put_roles(api)
    async with api.raw() as client:
        guest.trust((await client.get("/api/v1/projects/demo/sshauthority")).json()["publicKey"])
    async with leading_to(api, guest.port) as found:
        yield found


async def add_member(api: Api, name: str = "alice", role: str = "member") -> str:
    """Return an access token of somebody new in the project."""
    if name != "alice":
        await put(api, "User", name, {})
    await put(api, "RoleBinding", name, {"subject": {"kind": "User", "name": name}, "role": role}, "demo")
    return await log_in(api, name)


@pytest.fixture
async def alice(api: Api, way: Way) -> str:
    return await add_member(api)


@contextlib.asynccontextmanager
async def talking(api: Api, token: str | None, **how: Any) -> AsyncIterator[Talk]:
    """Yield a shell; anything but an end within two minutes is a failure."""
    async with (
        asyncio.timeout(SECONDS),
        Connection(api.settings(token=token)) as connection,
        open_shell(connection, "web-1", **{"project": "demo", "user": LOGIN, **how}) as socket,
    ):
        yield Talk(socket)
