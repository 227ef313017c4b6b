"""Watch streams: JSON lines straight from the store's shared bytes, with keep-alives and an orderly end."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

import orjson
import structlog
from starlette.responses import Response

from vcstack.apiserver import metrics
from vcstack.apiserver.authz import Permit
from vcstack.apiserver.parts import ApiSettings
from vcstack.apiserver.shutdown import Drain
from vcstack.specs.access import EventType
from vcstack.specs.errors import ApiError, Unavailable
from vcstack.store.records import WatchItem

logger = structlog.get_logger(__name__)

BATCH_LINES, BATCH_BYTES = 256, 64 * 1024
"""Lines that are waiting already go out in one write, at most that many and, but for the last of them, that large."""
SEND_SECONDS = 30.0
"""A client that does not take data for that long is dead."""
KEEP_ALIVE = b"\n"

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


class Changes(Protocol):
    """Where a watch's events come from."""

    async def read(self, seconds: float, *, most: int) -> Sequence[WatchItem]:
        """Return what waits, at most so many. Raises StopAsyncIteration at the end."""

    async def aclose(self) -> None:
        """Stop."""


class WatchResponse(Response):
    """Streams one watch until the client goes, the store ends it, its time is over or the server stops."""

    media_type = "application/json"

    def __init__(
        self,
        items: Changes,
        *,
        bookmarks: bool,
        seconds: float,
        settings: ApiSettings,
        drain: Drain,
        permit: Permit | None = None,
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._items = items
        self._bookmarks = bookmarks
        self._seconds = seconds
        self._settings = settings
        self._drain = drain
        self._permit = permit
        self._told = False
        """Whether the watcher knows why it ends."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tasks: set[asyncio.Task[Any]] = {
            asyncio.create_task(self._stream(send)),
            asyncio.create_task(_until_disconnect(receive)),
            asyncio.create_task(self._drain.started.wait()),
        }
        lost = asyncio.create_task(self._permit.lost()) if self._permit is not None else None
        if lost is not None:
            tasks.add(lost)
        metrics.WATCHES.inc()
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            metrics.WATCHES.dec()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._items.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                if lost is not None and lost in done and not self._told:
                    await send({"type": "http.response.body", "body": _error_line(lost.result()), "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send) -> None:
        while True:
            try:
                items = await self._items.read(self._settings.keep_alive_seconds, most=BATCH_LINES)
            except StopAsyncIteration:
                return
            loss = self._permit.find_loss() if self._permit is not None else None
            if loss is not None:
                self._told = True
                await _send(send, _error_line(loss))
                return
            lines = [item.line for item in items if self._bookmarks or item.type is not EventType.BOOKMARK]
            for batch in _in_batches(lines):
                await _send(send, batch)


def watch_seconds(asked: int | None, settings: ApiSettings) -> float:
    """Return how long a watch lasts: as asked, at most as set; spread, so that not all end at once."""
    longest = settings.watch_seconds * random.uniform(0.8, 1.0)  # noqa: S311
    return min(asked, longest) if asked else longest


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, body: bytes) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": True})
    except TimeoutError as error:
        raise Unavailable("the watcher does not read") from error


def _in_batches(lines: list[bytes]) -> Iterator[bytes]:
    """Yield the lines, several together, one that is large by itself; a sign of life when there are none."""
    first, size = 0, 0
    for number, line in enumerate(lines):
        size += len(line)
        if size > BATCH_BYTES:
            yield b"".join(lines[first : number + 1])
            first, size = number + 1, 0
    if first < len(lines) or not lines:
        yield b"".join(lines[first:]) or KEEP_ALIVE


def _error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%b}\n' % orjson.dumps(error.to_status().to_wire())
