"""Clients that do not read what they asked for: what waits for them is bounded, and they lose it. Real sockets."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import Ping, Request

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, error_of, serving
from tests.fixtures.etcd import eventually
from vcstack.apiserver.limits.settings import LimitSettings
from vcstack.apiserver.limits.unread import PART_BYTES, UnreadSettings
from vcstack.apiserver.patience import Patience
from vcstack.apiserver.peer import PeerProtocol
from vcstack.apiserver.peersocket import PeerSocket
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

COUNT, KILOBYTES = 40, 100
Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def serve(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> AsyncIterator[Serve]:
    """A function that starts the server with a list that is 4 MB long."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**unread: Any) -> Api:
            limits = LimitSettings(unread=UnreadSettings(**unread))
            api = await stack.enter_async_context(
                serving(memory_store, memory_etcd, pki_installation, tmp_path, limits=limits)
            )
            await fill(api, 0, COUNT)
            return api

        yield start


LIST = "/api/v1/domains"


async def fill(api: Api, first: int, behind: int) -> None:
    """Make objects of 100 kB each."""
    annotations = {f"filler-{part}": "x" * KILOBYTES * 500 for part in range(2)}
    for number in range(first, behind):
        wire = {"metadata": {"name": f"d{number}", "annotations": annotations}, "spec": {}}
        await api.store.create(get_kind("Domain"), wire, actor=SYSTEM)


class Raw:
    """A client on a small socket that reads only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, api: Api, path: str) -> None:
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.token}\r\n\r\n"
        self.writer.write(head.encode())

    async def read_answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self.reader.readexactly(size)


@contextlib.asynccontextmanager
async def raw(api: Api) -> AsyncIterator[Raw]:
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", int(api.url.rsplit(":", 1)[1])))
    reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="127.0.0.1", limit=4096)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def unread(api: Api) -> Any:
    return api.application.gate.unread


def waiting(api: Api) -> list[Any]:
    """The connections whose clients do not read."""
    return [
        c
        for c in api.server.connections
        if (isinstance(c, PeerProtocol) and c.flow.write_paused)
        or (isinstance(c, PeerSocket) and not c.writable.is_set())
    ]


def look(api: Api, *, seconds: float) -> None:
    """Look for who is slow as if it were that much later."""
    for connection in list(api.server.connections):
        connection.end_if_slow(asyncio.get_running_loop().time() + seconds, Patience())  # type: ignore[attr-defined]


async def test_a_large_answer_waits_outside_of_the_transport_and_comes_whole(serve: Serve) -> None:
    api = await serve()
    async with raw(api) as client, api.raw() as plain:
        whole = (await plain.get(LIST)).content
        assert len(whole) > COUNT * KILOBYTES * 1000
        await eventually(lambda: unread(api).bytes == 0)
        client.ask(api, LIST)
        await eventually(lambda: bool(waiting(api)))
        assert unread(api).bytes == len(whole), "it is counted as long as it waits"
        assert await client.read_answer() == whole
        await eventually(lambda: unread(api).bytes == 0)


async def test_who_reads_too_slowly_loses_the_connection(serve: Serve) -> None:
    api = await serve()
    async with raw(api) as client:
        client.ask(api, LIST)
        await eventually(lambda: bool(waiting(api)))
        look(api, seconds=0)
        look(api, seconds=25)
        assert len(waiting(api)) == 1, "half a minute is given"
        look(api, seconds=3600)
        await eventually(lambda: not waiting(api))
        assert unread(api).bytes == 0
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await client.read_answer()


async def test_who_reads_on_keeps_the_connection_however_long_it_takes(serve: Serve) -> None:
    api = await serve()
    async with raw(api) as client, api.raw() as plain:
        whole = (await plain.get(LIST)).content
        client.ask(api, LIST)
        await eventually(lambda: bool(waiting(api)))
        kernel = waiting(api)[0].transport.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # else it takes megabytes more, as it sees fit
        look(api, seconds=0)
        await client.reader.readuntil(b"\r\n\r\n")
        got = await client.reader.readexactly(1_000_000)
        await eventually(lambda: bool(waiting(api)))
        look(api, seconds=60)
        rest = await client.reader.readexactly(len(whole) - len(got))
        assert got + rest == whole


async def test_with_too_much_unread_nothing_large_is_begun_for_that_subject(serve: Serve) -> None:
    api = await serve(of_one=1_000_000, grace_seconds=3600)
    async with raw(api) as client, api.raw() as plain:
        client.ask(api, LIST)
        await eventually(lambda: unread(api).bytes > 0)
        answer = await plain.get(LIST)
        assert answer.status_code == 429
        assert error_of(answer)["details"]["limit"]["reason"] == "UnreadAnswers"
        assert (await plain.get(f"{LIST}/d1")).status_code == 200
        host = await api.register("h1")
        async with api.raw(host) as agent:
            path = "/api/v1/instances?fieldSelector=status.host%3Dh1"
            assert (await agent.get(path)).status_code == 200, "others read on"


@pytest.mark.parametrize("limits", [{"of_one": 1_000_000}, {"in_all": 1_000_000}])
async def test_what_has_waited_longest_gives_way(serve: Serve, limits: dict[str, int]) -> None:
    api = await serve(grace_seconds=0, **limits)
    async with raw(api) as client, api.raw() as plain:
        client.ask(api, LIST)
        await eventually(lambda: bool(waiting(api)))
        assert (await plain.get(LIST)).status_code == 200
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await client.read_answer()


async def test_a_watch_whose_client_does_not_read_holds_little_and_ends(serve: Serve) -> None:
    api = await serve()
    table = api.store.cache.table(get_kind("Domain"))
    async with raw(api) as client:
        client.ask(api, f"{LIST}?watch=true&resourceVersion=1")
        await eventually(lambda: bool(waiting(api)))
        assert unread(api).bytes < 2 * KILOBYTES * 1000, "one line at a time is on its way"
        look(api, seconds=0)
        look(api, seconds=3600)
        await eventually(lambda: not waiting(api) and not table.watcher_count)


async def test_who_pings_and_does_not_read_is_answered_no_more(serve: Serve) -> None:
    """Answers to pings are written past the application, so nothing else would hold them up."""
    api = await serve()
    await api.register("h1")
    settings = api.host_settings("h1")
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    assert settings.cert_file is not None
    context.load_cert_chain(settings.cert_file, settings.key_file)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", int(api.url.rsplit(":", 1)[1])))
    reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="127.0.0.1", limit=1024)
    client = WSConnection(ConnectionType.CLIENT)
    writer.write(client.send(Request(host="x", target="/api/v1/hosts/h1/tunnel")))
    client.receive_data(await reader.readuntil(b"\r\n\r\n"))
    list(client.events())
    pings = b"".join(client.send(Ping(payload=b"x" * 120)) for _ in range(1000))
    try:
        async with asyncio.timeout(60):
            while not waiting(api):
                writer.write(pings)
                await asyncio.sleep(0)
        held = waiting(api)[0]
        before = held.transport.get_write_buffer_size()
        for _ in range(20):
            writer.write(pings)
            await asyncio.sleep(0)
        await api.store.cache.fresh()
        assert held.transport.get_write_buffer_size() <= before + PART_BYTES
        look(api, seconds=0)
        look(api, seconds=3600)
        await eventually(lambda: held not in api.server.connections)
    finally:
        writer.transport.abort()


async def test_a_page_of_large_objects_ends_early_and_leads_on(serve: Serve) -> None:
    api = await serve()
    async with api.raw() as plain:
        names, token, pages = [], "", 0
        await fill(api, COUNT, COUNT * 3)
        while True:
            answer: httpx2.Response = await plain.get(LIST, params={"continue": token} if token else {})
            assert len(answer.content) < 9 * 1024 * 1024
            page = answer.json()
            pages += 1
            names += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue", "")
            if not token:
                break
        assert pages == 2
        assert sorted(names) == sorted(f"d{n}" for n in range(COUNT * 3))
