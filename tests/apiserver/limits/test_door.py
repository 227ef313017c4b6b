"""Connections: how many are taken on, of whom, and how long a handshake may take. Real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, serving
from tests.fixtures.etcd import eventually
from vcstack.apiserver.door import DoorSettings
from vcstack.pki.installation import Installation
from vcstack.store.store import Store

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[..., Awaitable[Streams]]
ANSWER = b"HTTP/1.1 200 "


@pytest.fixture
async def serve(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """A function that starts the server with that door."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**door: object) -> Api:
            settings = DoorSettings(**door)  # type: ignore[arg-type]
            return await stack.enter_async_context(
                serving(memory_store, memory_etcd, pki_installation, tmp_path, door=settings)
            )

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """A function that connects, from another address and without TLS if asked to; all ends with the test."""
    writers: list[asyncio.StreamWriter] = []

    async def open_(api: Api, source: str = "127.0.0.1", *, tls: bool = True) -> Streams:
        context = ssl.create_default_context(cafile=str(api.installation.ca_cert)) if tls else None
        port = int(api.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(source, 0))
        writers.append(writer)
        return reader, writer

    yield open_
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def is_answered(streams: Streams) -> bool:
    """Ask something; whether the server answers."""
    reader, writer = streams
    try:
        writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        return (await reader.readuntil(b"\r\n\r\n")).startswith(ANSWER)
    except (OSError, asyncio.IncompleteReadError):
        return False


async def is_refused(connecting: Awaitable[Streams]) -> bool:
    """Whether the server ends the connection instead of going on with it."""
    try:
        return not await is_answered(await connecting)
    except OSError:  # ssl.SSLError is one, too
        return True


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("vcstack_api_connections_refused_total", {"reason": reason}) or 0


def open_connections() -> float:
    return REGISTRY.get_sample_value("vcstack_api_connections") or 0


Serve = Callable[..., Awaitable[Api]]


async def test_an_address_may_have_so_many_connections_and_others_have_theirs(serve: Serve, connect: Open) -> None:
    api = await serve(of_address=2)
    before = refusals("TooManyOfAddress")
    first, second = await connect(api), await connect(api)
    assert await is_answered(first)
    assert await is_answered(second)
    assert await is_refused(connect(api))
    assert refusals("TooManyOfAddress") == before + 1
    assert await is_answered(await connect(api, "127.0.0.2"))
    already = open_connections()
    first[1].close()
    await eventually(lambda: open_connections() == already - 1)
    assert await is_answered(await connect(api)), "one that has ended leaves its place"


async def test_all_together_may_have_so_many(serve: Serve, connect: Open) -> None:
    api = await serve(in_all=2)
    held = [await connect(api, f"127.0.0.{n}") for n in (1, 2)]
    assert await is_refused(connect(api, "127.0.0.3"))
    for streams in held:
        assert await is_answered(streams)


async def test_proxies_bring_as_many_as_they_like(serve: Serve, connect: Open) -> None:
    api = await serve(of_address=1, burst=1, handshakes_of_address=1, exempt=(ip_network("127.0.0.9"),))
    assert all([await is_answered(await connect(api, "127.0.0.9")) for _ in range(3)])
    assert await is_answered(await connect(api))
    assert await is_refused(connect(api))


async def test_an_address_may_connect_so_often(serve: Serve, connect: Open) -> None:
    api = await serve(per_minute=1, burst=3)
    for _ in range(3):
        streams = await connect(api)
        assert await is_answered(streams)
        streams[1].close()
    assert await is_refused(connect(api))
    assert await is_answered(await connect(api, "127.0.0.2"))


async def test_a_handshake_that_does_not_go_on_is_ended(serve: Serve, connect: Open) -> None:
    api = await serve(handshake_seconds=0.3)
    before, already = refusals("SlowHandshake"), open_connections()
    reader, _ = await connect(api, tls=False)
    assert await reader.read() == b""
    await eventually(lambda: open_connections() == already)
    assert refusals("SlowHandshake") == before + 1


async def test_what_is_no_handshake_is_ended_at_once(serve: Serve, connect: Open) -> None:
    api = await serve(handshake_seconds=3600)
    already = open_connections()
    reader, writer = await connect(api, tls=False)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        await reader.read()
    await eventually(lambda: open_connections() == already)


async def test_handshakes_that_do_not_go_on_keep_only_their_own_address_waiting(serve: Serve, connect: Open) -> None:
    api = await serve(handshakes_of_address=2, handshake_seconds=3600)
    already = open_connections()
    silent = [await connect(api, "127.0.0.2", tls=False) for _ in range(3)]
    await eventually(lambda: open_connections() == already + 3)
    assert await is_answered(await connect(api))
    waiting = asyncio.create_task(connect(api, "127.0.0.2"))
    await eventually(lambda: open_connections() == already + 5)
    assert not waiting.done()
    for _, writer in silent:
        writer.close()
    assert await is_answered(await waiting)


async def test_handshakes_in_all_wait_for_their_turn(serve: Serve, connect: Open) -> None:
    api = await serve(handshakes=1, handshake_seconds=3600)
    already = open_connections()
    _, silent = await connect(api, "127.0.0.2", tls=False)
    await eventually(lambda: open_connections() == already + 1)
    waiting = asyncio.create_task(connect(api))
    await eventually(lambda: open_connections() == already + 2)
    assert not waiting.done()
    silent.close()
    assert await is_answered(await waiting)


async def test_a_server_that_stops_leaves_nothing_of_handshakes_under_way(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, connect: Open
) -> None:
    already = open_connections()
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path) as api:
        reader, _ = await connect(api, tls=False)
        await eventually(lambda: open_connections() == already + 1)
    assert await reader.read() == b""
    assert open_connections() == already


async def test_a_hundred_at_once_are_all_answered(serve: Serve, connect: Open) -> None:
    api = await serve(handshakes=4, handshakes_of_address=4, handshake_seconds=120)
    opened = await asyncio.gather(*(connect(api) for _ in range(100)))
    assert all(await asyncio.gather(*(is_answered(streams) for streams in opened)))
