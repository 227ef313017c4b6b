"""Load generators: as many callers as asked for, each with one request under way, in a process of their own.

HTTP is spoken by hand over asyncio's own transports, for a general client costs more than the server that
is to be measured; what the generator itself has used is part of the result.
"""

import asyncio
import multiprocessing
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

from bench.machine import read_usage

T = TypeVar("T")
Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load."""

    calls: int
    seconds: float
    cpu_seconds: float
    """Of the generator."""
    served_cpu_seconds: dict[int, float] = field(default_factory=dict)
    """Of the processes that were asked about, by pid, in the same span of time."""
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return calls a second."""
        return self.calls / self.seconds

    @property
    def busy(self) -> float:
        """Return what share of a core the generator used."""
        return self.cpu_seconds / self.seconds


def in_own_process(function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    """Run the coroutine function in a fresh process on uvloop and return what it returns."""
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1) as pool:
        return cast(T, pool.apply(_run, (function, arguments)))


def _run(function: Callable[..., Coroutine[Any, Any, T]], arguments: tuple[Any, ...]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(function(*arguments))


async def drive(
    callers: list[Call], seconds: float, *, warm_up_seconds: float = 1.0, pids: tuple[int, ...] = ()
) -> Load:
    """Have each caller call again and again; only what comes after the warm-up counts."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    begin = loop.time() + warm_up_seconds
    end = begin + seconds

    async def repeat(call: Call) -> None:
        while loop.time() < end:
            sent = time.perf_counter()  # the loop's own clock has milliseconds only
            await call()
            if begin <= loop.time() < end:
                latencies.append((time.perf_counter() - sent) * 1000)

    async def measure_cpu() -> tuple[float, dict[int, float]]:
        await asyncio.sleep(warm_up_seconds)
        own, others = time.process_time(), {pid: read_usage(pid).cpu_seconds for pid in pids}
        await asyncio.sleep(end - loop.time())
        return time.process_time() - own, {pid: read_usage(pid).cpu_seconds - others[pid] for pid in pids}

    measuring = asyncio.create_task(measure_cpu())
    await asyncio.gather(*(repeat(call) for call in callers))
    own, others = await measuring
    return Load(len(latencies), seconds, own, others, latencies)


def percentile(values: list[float], percent: float) -> float:
    """Return the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Http(asyncio.Protocol):
    """One kept connection that sends prepared requests and reads answers with a Content-Length."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._needed = 0
        self._body_at = 0
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._closed = False

    @classmethod
    async def connect(cls, port: int, ca_file: Path, token: str) -> "Http":
        """Return a connection with TLS."""
        context = ssl.create_default_context(cafile=str(ca_file))
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: cls(token), "127.0.0.1", port, ssl=context)
        return made

    async def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the answer's body. Raises RuntimeError unless it is a success."""
        who = f"Authorization: Bearer {self._token}\r\n" if self._token else ""
        media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{who}"
            f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head.encode() + body)
        status, answer = await self._answer
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Gather an answer."""
        self._buffer += data
        if not self._needed:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            line_end = head.find(b"\r\n", at)
            length = int(head[at : line_end if line_end > 0 else len(head)])
            self._body_at, self._needed = end + 4, end + 4 + length
        if len(self._buffer) >= self._needed and self._answer is not None:
            status, body = int(self._buffer[9:12]), bytes(self._buffer[self._body_at : self._needed])
            del self._buffer[: self._needed]
            self._needed = 0
            self._answer.set_result((status, body))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RuntimeError(f"the connection was closed: {error}"))
