"""Requests that take too long to arrive, or are too large to be any."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, serving
from vcstack.apiserver.patience import HEAD_BYTES, Patience
from vcstack.pki.installation import Installation
from vcstack.store.store import Store

HEAD = b"POST /api/v1/flavors HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"


@contextlib.asynccontextmanager
async def connected(api: Api) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    port = int(api.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to(api: Api, raw: bytes) -> bytes:
    """Send it, and return what comes until the server closes."""
    async with connected(api) as (reader, writer):
        writer.write(raw)
        return await reader.read()


async def reached(api: Api, size: int) -> None:
    """Return when that many bytes of a head or body have come to the server."""
    while not any(c.arrived >= size for c in api.server.connections):
        await asyncio.sleep(0.005)


def look(api: Api, *, seconds: float) -> None:
    """Look for what is slow as if it were that much later."""
    now = asyncio.get_running_loop().time() + seconds
    for connection in list(api.server.connections):
        connection.end_if_slow(now, Patience())


async def test_a_connection_on_which_nothing_comes_is_ended(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path
) -> None:
    patience = Patience(head_seconds=0.01, look_seconds=0.01)
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, patience=patience) as api:
        assert await answer_to(api, b"") == b""


async def test_a_head_that_does_not_end_is_answered_and_the_connection_ended(api: Api) -> None:
    async with connected(api) as (reader, writer):
        writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\nx-slow: a")
        await reached(api, 10)
        look(api, seconds=10)
        assert not reader.at_eof()
        look(api, seconds=30)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["reason"] == "RequestTimeout"


@pytest.mark.parametrize("framing", [b"content-length: 99000", b"transfer-encoding: chunked"])
async def test_a_body_that_comes_too_slowly_is_answered_and_the_connection_ended(api: Api, framing: bytes) -> None:
    async with connected(api) as (reader, writer):
        writer.write(HEAD % api.token.encode() + framing + b"\r\n\r\n")
        await writer.drain()
        while not any(c.cycle for c in api.server.connections):
            await asyncio.sleep(0.005)
        writer.write((b"4e20\r\n" if b"chunked" in framing else b"") + b" " * 20_000)
        await reached(api, 20_000)
        look(api, seconds=25)  # 800 bytes a second are enough
        assert not any(c.transport.is_closing() for c in api.server.connections)
        look(api, seconds=100)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_waits_for_its_next_request_is_left_alone(api: Api) -> None:
    """The head's time begins with its first byte; idle connections are uvicorn's affair."""
    async with connected(api) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            look(api, seconds=3600)


async def test_a_watch_is_no_slow_request(api: Api) -> None:
    raw = (
        f"GET /api/v1/flavors?watch=true&resourceVersion={api.store.cache.revision} HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {api.token}\r\n\r\n"
    )
    async with connected(api) as (reader, writer):
        writer.write(raw.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        look(api, seconds=3600)
        assert not any(c.transport.is_closing() for c in api.server.connections)


async def test_a_patient_server_takes_a_body_in_pieces(api: Api) -> None:
    body = json.dumps({"metadata": {"name": "slow"}, "spec": {"vcpus": 1, "memoryMiB": 64, "rootDiskGiB": 1}}).encode()
    async with connected(api) as (reader, writer):
        writer.write(HEAD % api.token.encode() + b"content-length: %d\r\n\r\n" % len(body))
        for i in range(0, len(body), 10):
            writer.write(body[i : i + 10])
            await writer.drain()
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize("ends", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("part", [b"GET /version?a=%b HTTP/1.1\r\nhost: x", b"GET /version HTTP/1.1\r\nx-long: %b"])
async def test_a_head_that_is_too_large_is_refused(api: Api, part: bytes, ends: bytes) -> None:
    answer = await answer_to(api, part % (b"a" * (HEAD_BYTES + 1)) + ends)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["reason"] == "HeadTooLarge"


async def test_many_small_headers_are_as_large_as_one(api: Api) -> None:
    many = b"".join(b"x-%d: %b\r\n" % (i, b"a" * 90) for i in range(HEAD_BYTES // 90))
    assert (await answer_to(api, b"GET /version HTTP/1.1\r\nhost: x\r\n" + many + b"\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_a_large_body_does_not_count_as_head(api: Api) -> None:
    """All of it comes at once, so that head and body arrive together."""
    spec = b'"spec":{"vcpus":1,"memoryMiB":64,"rootDiskGiB":1}}'
    body = b'{"metadata":{"name":"x"},' + b" " * (2 * HEAD_BYTES) + spec
    raw = HEAD % api.token.encode() + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert (await answer_to(api, raw)).startswith(b"HTTP/1.1 201 ")
