"""Many byte streams over one message channel: frames, credit, and the two ends' bookkeeping.

A frame is one binary message: type (1 byte), stream id (4 bytes, big endian), payload. Streams are opened
by one side only (the API server), carry bytes both ways, and are closed as a whole, with an error or
without. Each side may send CREDIT bytes on a stream before the other has to grant more, so a slow reader
of one stream neither grows memory nor holds up the others.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Final

from pydantic import ValidationError

from vcstack.specs.errors import ApiError, BadRequest, Conflict, ErrorStatus, NotFound, Unavailable, from_status
from vcstack.specs.model import Model

CREDIT = 256 * 1024
"""Bytes in flight on one stream and direction: a console needs little, a log at 10 ms round trip 25 MB/s."""
PAYLOAD_LIMIT = 32 * 1024
"""Longest payload of a frame; below the websocket message limit of 64 KiB."""
STREAM_LIMIT = 256
"""Streams open at once on one tunnel."""
TOLD: Final[Sequence[type[ApiError]]] = (BadRequest, NotFound, Conflict, Unavailable)
"""What a stream may be closed with."""
MESSAGE_LIMIT: Final = 1024
_HEADER = struct.Struct(">BI")
_COUNT = struct.Struct(">I")


class FrameType(IntEnum):
    """What a frame says."""

    OPEN = 1
    """Payload: a StreamRequest as JSON."""
    DATA = 2
    """Payload: bytes."""
    CREDIT = 3
    """Payload: 4 bytes, how much more may be sent."""
    CLOSE = 4
    """Payload: nothing, or an ErrorStatus as JSON."""


class StreamRequest(Model):
    """What the API server asks the host's agent for."""

    service: str
    """log, console, vnc, screenshot, metrics or ssh."""
    project: str
    """The instance's project."""
    name: str
    """The instance's name."""
    uid: str
    """The instance's uid: another one of that name is not it."""
    tail_lines: int | None = None
    """For log: how many of the last lines; None: all."""
    follow: bool = False
    """For log: whether to go on with what comes."""
    on_behalf_of: str = ""
    """Who asked, when a replica asks another one."""


Send = Callable[[bytes], Awaitable[None]]


def _read_error(payload: bytes) -> ApiError:
    """Return why the other side closed a stream; it says so of the stream only, whatever it sends.

    Taken at its word a host could have people refused as not logged in, or wait as long as it likes.
    """
    error = from_status(ErrorStatus.from_wire(payload))
    told = next((each for each in TOLD if isinstance(error, each)), Unavailable)
    return told(error.message[:MESSAGE_LIMIT])


def encode(type_: FrameType, stream: int, payload: bytes = b"") -> bytes:
    """Return the message."""
    return _HEADER.pack(type_, stream) + payload


class TunnelStream:
    """One end of one stream."""

    def __init__(self, number: int, send: Send, request: StreamRequest) -> None:
        self.request = request
        self._number = number
        self._send = send
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._granted = CREDIT
        self._allowance = CREDIT
        self._changed = asyncio.Event()
        self._error: ApiError | None = None
        self.closed = False

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting for credit. Raises the error that the stream was closed with."""
        view = memoryview(data)
        while view:
            await self._wait(lambda: self._allowance > 0)
            if self.closed:
                raise self._error or Unavailable("the stream was closed by the other side")
            part = view[: min(self._allowance, PAYLOAD_LIMIT)]
            self._allowance -= len(part)
            await self._send(encode(FrameType.DATA, self._number, bytes(part)))
            view = view[len(part) :]

    async def receive(self) -> bytes:
        """Return the next bytes; b"" at the end. Raises the error that the stream was closed with."""
        await self._wait(lambda: bool(self._chunks))
        if not self._chunks:
            if self._error is not None:
                raise self._error
            return b""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._granted += len(data)
        if not self.closed:
            await self._send(encode(FrameType.CREDIT, self._number, _COUNT.pack(len(data))))
        return data

    async def close(self, error: ApiError | None = None) -> None:
        """Close it, telling the other side why. Closing twice is nothing."""
        if not self.closed:
            self.end(error)
            payload = error.to_status().to_json() if error else b""
            await self._send(encode(FrameType.CLOSE, self._number, payload))

    def end(self, error: ApiError | None) -> None:
        """Note that it is over; what has come can still be received."""
        if not self.closed:
            self.closed, self._error = True, error
        self._changed.set()

    def take(self, data: bytes) -> bool:
        """Note bytes that came; False when they exceed the credit given."""
        self._granted -= len(data)
        if data:  # nothing would be taken for the end, and costs no credit however often it comes
            self._chunks.append(data)
            self._changed.set()
        return self._granted >= 0

    def grant(self, count: int) -> None:
        """Note that so much more may be sent."""
        self._allowance += count
        self._changed.set()

    async def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready() and not self.closed:
            self._changed.clear()
            await self._changed.wait()


OnOpen = Callable[[TunnelStream], Awaitable[None]]


class Multiplexer:
    """One end of a tunnel. The opening side has no ``on_open``; the other runs it as a task a stream."""

    def __init__(self, send: Send, on_open: OnOpen | None = None) -> None:
        self._raw_send = send
        self._on_open = on_open
        self._lock = asyncio.Lock()
        self._streams: dict[int, TunnelStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 1
        self.ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Return whether the tunnel is over."""
        return self.ended.is_set()

    async def open(self, request: StreamRequest) -> TunnelStream:
        """Return a new stream. Raises Unavailable when the tunnel is gone or has too many."""
        self._forget_closed()
        if self.closed:
            raise Unavailable("the host's tunnel is gone; try again")
        if len(self._streams) >= STREAM_LIMIT:
            raise Unavailable(f"{STREAM_LIMIT} streams are open to the host already; close some")
        number, self._next = self._next, self._next + 1
        stream = self._streams[number] = TunnelStream(number, self._send, request)
        await self._send(encode(FrameType.OPEN, number, request.to_json()))
        return stream

    async def take(self, message: bytes) -> None:
        """Act on a message that came. Raises Unavailable when the peer breaks the protocol: drop the tunnel."""
        if len(message) < _HEADER.size:
            raise Unavailable("a tunnel frame without a header came")
        kind, number = _HEADER.unpack_from(message)
        try:
            await self._act(kind, number, message[_HEADER.size :])
        except (struct.error, ValidationError) as error:
            raise Unavailable("a malformed tunnel frame came") from error

    async def _act(self, kind: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if kind == FrameType.OPEN and self._on_open is not None:
            await self._opened(number, payload)
        elif stream is None:
            return  # closed here while the frame was on its way
        elif kind == FrameType.DATA:
            if not stream.take(payload):
                raise Unavailable("the tunnel's other side ignores flow control")
        elif kind == FrameType.CREDIT:
            stream.grant(_COUNT.unpack(payload)[0])
        elif kind == FrameType.CLOSE:
            stream.end(_read_error(payload) if payload else None)
            del self._streams[number]

    async def aclose(self, error: ApiError | None = None) -> None:
        """End all streams; the channel below is the caller's."""
        self.ended.set()
        for stream in self._streams.values():
            stream.end(error or Unavailable("the host's tunnel broke; try again"))
        self._streams.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _opened(self, number: int, payload: bytes) -> None:
        self._forget_closed()
        stream = TunnelStream(number, self._send, StreamRequest.from_wire(payload))
        if number in self._streams or len(self._streams) >= STREAM_LIMIT:
            await stream.close(Unavailable("too many streams"))
            return
        self._streams[number] = stream
        task = asyncio.create_task(self._serve(stream), name=f"tunnel-stream-{number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: TunnelStream) -> None:
        assert self._on_open is not None
        try:
            await self._on_open(stream)
        except ApiError as error:
            await stream.close(error)
        finally:
            await stream.close()

    async def _send(self, message: bytes) -> None:
        if self.closed:
            raise Unavailable("the host's tunnel broke; try again")
        async with self._lock:
            await self._raw_send(message)

    def _forget_closed(self) -> None:
        for number in [n for n, s in self._streams.items() if s.closed]:
            del self._streams[number]
