"""Streams over one channel: order, backpressure, errors, limits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcstack.apiclient.frames import (
    CREDIT,
    STREAM_LIMIT,
    FrameType,
    Multiplexer,
    OnOpen,
    StreamRequest,
    TunnelStream,
    encode,
)
from vcstack.specs.errors import (
    ApiError,
    ErrorDetails,
    Expired,
    Forbidden,
    InternalError,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
)

REQUEST = StreamRequest(service="log", project="demo", name="web-1", uid="i-1")


@asynccontextmanager
async def joined(on_open: OnOpen) -> AsyncIterator[Multiplexer]:
    """Two multiplexers with queues between them; yields the opening one."""
    to_agent: asyncio.Queue[bytes] = asyncio.Queue(64)
    to_server: asyncio.Queue[bytes] = asyncio.Queue(64)
    server, agent = Multiplexer(to_agent.put), Multiplexer(to_server.put, on_open)

    async def carry(queue: asyncio.Queue[bytes], receiver: Multiplexer) -> None:
        while True:
            await receiver.take(await queue.get())

    tasks = [asyncio.create_task(carry(to_agent, agent)), asyncio.create_task(carry(to_server, server))]
    try:
        yield server
    finally:
        await agent.aclose()
        await server.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_all(stream: TunnelStream) -> bytes:
    found = b""
    while data := await stream.receive():
        found += data
    return found


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=100_000), max_size=12))
async def test_what_is_sent_arrives_whole_and_in_order(chunks: list[bytes]) -> None:
    async def serve(stream: TunnelStream) -> None:
        for chunk in chunks:
            await stream.send(chunk)

    async with joined(serve) as server, asyncio.timeout(60):
        assert await read_all(await server.open(REQUEST)) == b"".join(chunks)


async def test_a_reader_that_stands_still_holds_its_sender_and_nobody_else() -> None:
    sent: dict[str, int] = {}

    async def serve(stream: TunnelStream) -> None:
        for _ in range(100):
            await stream.send(b"x" * 32_768)
            sent[stream.request.name] = sent.get(stream.request.name, 0) + 32_768

    async with joined(serve) as server, asyncio.timeout(60):
        slow = await server.open(REQUEST.model_copy(update={"name": "slow"}))
        fast = await server.open(REQUEST.model_copy(update={"name": "fast"}))
        assert len(await read_all(fast)) == 100 * 32_768
        assert sent["slow"] <= CREDIT
        assert len(await read_all(slow)) == 100 * 32_768


async def test_an_error_of_one_side_is_raised_on_the_other() -> None:
    async def serve(stream: TunnelStream) -> None:
        await stream.send(b"some")
        raise NotFound("no such log")

    async with joined(serve) as server, asyncio.timeout(60):
        stream = await server.open(REQUEST)
        assert await stream.receive() == b"some"
        with pytest.raises(NotFound, match="no such log"):
            await stream.receive()


@pytest.mark.parametrize("claimed", [Unauthorized, Forbidden, RateLimited, Expired, InternalError])
async def test_the_other_side_speaks_of_the_stream_only(claimed: type[ApiError]) -> None:
    """A host that says 401 would have the page that asked log its user out."""

    async def serve(stream: TunnelStream) -> None:
        raise claimed("no" * 10_000, details=ErrorDetails(retry_after_seconds=10**9))

    async with joined(serve) as server, asyncio.timeout(60):
        stream = await server.open(REQUEST)
        with pytest.raises(ApiError) as told:
            await stream.receive()
    assert type(told.value) is Unavailable
    assert len(told.value.message) <= 1024
    assert told.value.details == ErrorDetails()


async def test_nothing_is_not_the_end() -> None:
    async def nowhere(data: bytes) -> None:
        return

    server = Multiplexer(nowhere)
    stream = await server.open(REQUEST)
    async with asyncio.timeout(60):
        reading = asyncio.create_task(stream.receive())
        for payload in (b"", b"", b"some"):
            await server.take(encode(FrameType.DATA, 1, payload))
            for _ in range(5):
                await asyncio.sleep(0)
        assert await reading == b"some"


async def test_closing_wakes_the_other_side() -> None:
    ended = asyncio.Event()

    async def serve(stream: TunnelStream) -> None:
        assert await read_all(stream) == b"hello"
        ended.set()

    async with joined(serve) as server, asyncio.timeout(60):
        stream = await server.open(REQUEST)
        await stream.send(b"hello")
        await stream.close()
        await stream.close()
        await ended.wait()


async def test_sending_into_a_closed_stream_fails() -> None:
    async def serve(stream: TunnelStream) -> None:
        return

    async with joined(serve) as server, asyncio.timeout(60):
        stream = await server.open(REQUEST)
        assert await stream.receive() == b""
        with pytest.raises(Unavailable):
            await stream.send(b"x")


async def test_a_tunnel_that_breaks_ends_all_streams() -> None:
    async def serve(stream: TunnelStream) -> None:
        await asyncio.Event().wait()

    async with joined(serve) as server, asyncio.timeout(60):
        stream = await server.open(REQUEST)
        await server.aclose()
        with pytest.raises(Unavailable):
            await stream.receive()
        with pytest.raises(Unavailable):
            await server.open(REQUEST)


async def test_streams_are_limited() -> None:
    async def serve(stream: TunnelStream) -> None:
        await asyncio.Event().wait()

    async with joined(serve) as server, asyncio.timeout(60):
        streams = [await server.open(REQUEST) for _ in range(STREAM_LIMIT)]
        with pytest.raises(Unavailable):
            await server.open(REQUEST)
        await streams[0].close()
        assert await server.open(REQUEST)


async def test_a_peer_that_ignores_flow_control_is_dropped() -> None:
    async def nowhere(message: bytes) -> None:
        return

    server = Multiplexer(nowhere)
    await server.open(REQUEST)
    data = encode(FrameType.DATA, 1, b"x" * 32_768)
    for _ in range(CREDIT // 32_768):
        await server.take(data)
    with pytest.raises(Unavailable, match="flow control"):
        await server.take(data)


@given(message=st.binary(max_size=40))
async def test_junk_is_ignored_or_ends_the_tunnel_with_an_error_of_ours(message: bytes) -> None:
    async def nowhere(data: bytes) -> None:
        return

    server = Multiplexer(nowhere)
    await server.open(REQUEST)
    with contextlib.suppress(Unavailable):
        await server.take(message)


@pytest.mark.parametrize("frame", [b"", b"\1\0", encode(FrameType.CREDIT, 1, b"x"), encode(FrameType.CLOSE, 1, b"{")])
async def test_a_malformed_frame_ends_the_tunnel_with_an_error_of_ours(frame: bytes) -> None:
    async def nowhere(data: bytes) -> None:
        return

    server = Multiplexer(nowhere)
    await server.open(REQUEST)
    with pytest.raises(Unavailable):
        await server.take(frame)
