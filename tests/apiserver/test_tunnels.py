# ruff: noqa: SIM117 (nested blocks read better here)
"""Logs and consoles through the hosts' tunnels, over real websockets and TLS."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.apiserver.test_accounts import ADMIN, log_in, put
from tests.apiserver.test_tenancy import PATIENCE, put_roles
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, bind, create_samples, serving
from tests.fixtures.etcd import eventually
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import TunnelStream
from vcstack.apiclient.tunnel import HostTunnel, open_console
from vcstack.apiclient.websocket import open_socket
from vcstack.specs.errors import ApiError, Conflict, Forbidden, NotFound, Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

TUNNEL = "/api/v1/hosts/h9/tunnel"
LOG = b"".join(b"line %d\n" % n for n in range(100_000))


class Agent:
    """What a host's agent does with streams: a long log, an echo for a console, errors for others."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int | None]] = []
        self.open = 0

    async def serve(self, stream: TunnelStream) -> None:
        request = stream.request
        self.asked.append((request.service, request.name, request.tail_lines))
        self.open += 1
        try:
            if request.service == "log":
                await stream.send(LOG if request.tail_lines is None else b"tail\n")
                while request.follow:
                    await asyncio.sleep(0.01)
                    await stream.send(b"more\n")
                return
            while data := await stream.receive():
                if data == b"quit":
                    return
                if data == b"fail":
                    raise Unavailable("the domain is gone")
                await stream.send(data.upper())
        finally:
            self.open -= 1


async def fail(connection: Connection) -> None:
    async with open_console(connection, "web-1", project="demo") as console:
        await console.send(b"fail")
        await console.receive()


@contextlib.asynccontextmanager
async def connected(api: Api, host: str = "h9") -> AsyncIterator[Agent]:
    agent = Agent()
    async with Connection(api.host_settings(host)) as connection:
        tunnel = HostTunnel(connection, host, agent.serve)
        task = asyncio.create_task(tunnel.run())
        async with asyncio.timeout(PATIENCE):
            await tunnel.connected.wait()
            while not api.application.tunnels.has(host):
                await asyncio.sleep(0.005)
        try:
            yield agent
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def agent(api: Api) -> AsyncIterator[Agent]:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    async with connected(api) as found:
        yield found


async def test_a_log_comes_whole(admin: ApiClient, agent: Agent) -> None:
    assert b"".join([c async for c in admin.follow_log("web-1", project="demo")]) == LOG
    assert b"".join([c async for c in admin.follow_log("web-1", project="demo", tail=1)]) == b"tail\n"
    assert agent.asked == [("log", "web-1", None), ("log", "web-1", 1)]


async def test_a_followed_log_goes_on_until_the_reader_leaves(admin: ApiClient, agent: Agent) -> None:
    seen = b""
    stream = admin.follow_log("web-1", project="demo", tail=1, follow=True)
    async with contextlib.aclosing(stream):  # type: ignore[type-var]
        async for chunk in stream:
            seen += chunk
            if seen.count(b"more") >= 3:
                break
    async with asyncio.timeout(PATIENCE):
        while agent.open:
            await asyncio.sleep(0.01)


async def test_a_console_goes_both_ways(admin: ApiClient, agent: Agent) -> None:
    async with open_console(admin.connection, "web-1", project="demo") as console:
        await console.send(b"hello")
        assert await console.receive() == b"HELLO"
        await console.send(b"quit")
        assert await console.receive() is None


async def test_an_error_of_the_host_reaches_who_asked(admin: ApiClient, agent: Agent) -> None:
    with pytest.raises(Unavailable, match="domain is gone"):
        await fail(admin.connection)


async def test_many_consoles_share_a_tunnel_without_mixing(admin: ApiClient, agent: Agent) -> None:
    async def talk(word: bytes) -> None:
        async with open_console(admin.connection, "web-1", project="demo") as console:
            for _ in range(20):
                await console.send(word)
                got = b""
                while len(got) < len(word):
                    part = await console.receive()
                    assert part is not None
                    got += part
                assert got == word.upper()

    await asyncio.gather(*(talk(b"word%d" % n) for n in range(10)))


async def test_a_host_without_tunnel_is_unavailable(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    with pytest.raises(Unavailable, match="not connected"):
        async for _ in admin.follow_log("web-1", project="demo"):
            pass


async def test_an_instance_without_host_has_no_console(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    with pytest.raises(Conflict, match="on no host yet"):
        async with open_console(admin.connection, "web-1", project="demo"):
            pass
    with pytest.raises(NotFound):
        async with open_console(admin.connection, "web-7", project="demo"):
            pass


@pytest.mark.parametrize(
    ("who", "path", "error"),
    [
        ("nobody", "/api/v1/hosts/h9/tunnel", Unauthorized),
        ("nobody", "/api/v1/projects/demo/instances/web-1/console", Unauthorized),
        ("h2", "/api/v1/hosts/h9/tunnel", Forbidden),
        ("h2", "/api/v1/projects/demo/instances/web-1/console", Forbidden),
        ("h9", "/api/v1/projects/demo/instances/web-1/console", Forbidden),
        ("admin", "/api/v1/hosts/h9/tunnel", Forbidden),
        ("admin", "/api/v1/flavors", NotFound),
        ("admin", "/nowhere", NotFound),
    ],
)
async def test_nobody_else_opens_a_websocket(
    api: Api, agent: Agent, who: str, path: str, error: type[ApiError]
) -> None:
    await api.register("h2")
    settings = api.host_settings(who) if who.startswith("h") else api.settings()
    settings = api.settings(token=None) if who == "nobody" else settings
    async with Connection(settings) as connection:
        with pytest.raises(error):
            async with open_socket(connection, path):
                pass


async def test_a_newer_tunnel_takes_over(api: Api, admin: ApiClient) -> None:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    # An agent would come back, and take over in its turn.
    async with Connection(api.host_settings("h9")) as connection, open_socket(connection, TUNNEL) as older:
        await eventually(lambda: api.application.tunnels.has("h9"))
        async with connected(api) as newer:
            async with asyncio.timeout(PATIENCE):
                assert await older.receive() is None
            async with open_console(admin.connection, "web-1", project="demo") as console:
                await console.send(b"x")
                assert await console.receive() == b"X"
            assert newer.asked == [("console", "web-1", None)]


async def test_a_tunnel_comes_back_after_the_server_was_away(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, admin: ApiClient, agent: Agent
) -> None:
    for multiplexer in list(api.application.tunnels._local.values()):
        await multiplexer.aclose()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with open_console(admin.connection, "web-1", project="demo") as console:
                    await console.send(b"x")
                    assert await console.receive() == b"X"
                    break
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_another_replica_reaches_the_host_through_the_one_that_has_its_tunnel(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    folders = [tmp_path_factory.mktemp(n) for n in ("one", "two")]
    async with (
        serving(memory_store, memory_etcd, api.installation, folders[0], peers=True) as one,
        serving(memory_store, memory_etcd, api.installation, folders[1], peers=True) as two,
        connected(one) as agent,
        Connection(two.settings()) as connection,
    ):
        assert not two.application.tunnels.has("h9")
        client = ApiClient(connection)
        assert b"".join([c async for c in client.follow_log("web-1", project="demo")]) == LOG
        async with open_console(connection, "web-1", project="demo") as console:
            await console.send(b"hello")
            assert await console.receive() == b"HELLO"
        with pytest.raises(Unavailable, match="domain is gone"):
            await fail(connection)
        assert len(agent.asked) == 3


async def test_a_stop_of_the_server_ends_consoles_and_tunnels_in_order(
    memory_store: Store, memory_etcd: MemoryEtcd, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await create_samples(api)
    await bind(api, "Instance", "web-1", "h9")
    async with serving(memory_store, memory_etcd, api.installation, tmp_path_factory.mktemp("x")) as other:
        async with connected(other), Connection(other.settings()) as connection:
            async with open_console(connection, "web-1", project="demo") as console:
                await console.send(b"x")
                assert await console.receive() == b"X"
                other.stop.set()
                assert await console.receive() is None


@pytest.mark.parametrize("lost", ["binding", "session"])
async def test_consoles_and_logs_end_with_the_right_to_them(api: Api, agent: Agent, lost: str) -> None:
    await put_roles(api)
    subject = {"kind": "User", "name": "alice"}
    await put(api, "RoleBinding", "alice", {"subject": subject, "role": "member"}, "demo")
    before = {name_of(session) for session in (await api.store.list(get_kind("Session"))).items}
    async with Connection(api.settings(token=await log_in(api, "alice"))) as connection:
        async with open_console(connection, "web-1", project="demo") as console, asyncio.timeout(PATIENCE):
            await console.send(b"hello")
            assert await console.receive() == b"HELLO"
            log = ApiClient(connection).follow_log("web-1", project="demo", tail=1, follow=True)
            assert await anext(log)
            if lost == "binding":
                await api.store.delete(get_kind("RoleBinding"), "demo", "alice", actor=ADMIN)
            else:
                after = {name_of(session) for session in (await api.store.list(get_kind("Session"))).items}
                for name in after - before:
                    await api.store.delete(get_kind("Session"), None, name, actor=ADMIN)
            with pytest.raises((Forbidden, Unauthorized, Unavailable)):
                await console.receive()  # all that was sent has been answered
            with pytest.raises(httpx2.RemoteProtocolError):  # broken off, for it has not come to its end
                async for _ in log:
                    pass
    async with asyncio.timeout(PATIENCE):
        while agent.open:
            await asyncio.sleep(0.01)


def name_of(session: bytes) -> str:
    name: str = json.loads(session)["metadata"]["name"]
    return name
