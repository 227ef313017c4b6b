"""Reading a watch: JSON lines with bookmarks and keep-alives, from a connection that may silently die."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from vcstack.apiclient.connection import Connection, Params
from vcstack.apiclient.faults import read_error, transport_error
from vcstack.specs.access import EventType
from vcstack.specs.errors import InternalError, Unavailable

LINE_LIMIT = 4 * 1024 * 1024
"""An event is never longer; an object is limited to 1 MiB."""


@dataclass(frozen=True, slots=True)
class WireEvent:
    """One event of a watch; a bookmark's object carries nothing but the version."""

    type: EventType
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        """Return where to resume from."""
        version: str = self.object["metadata"]["resourceVersion"]
        return version


async def read_events(connection: Connection, path: str, params: Params) -> AsyncGenerator[WireEvent]:
    """Yield the stream's events; ends with the stream.

    Raises:
        ApiError: what the server says at the beginning or at the end (Expired).
        Unavailable: the connection broke or nothing came, not even a keep-alive.
    """
    silence = connection.settings.watch_silence_seconds
    async with connection.stream("GET", path, params=params, timeout_seconds=silence) as response:
        async for line in _lines(response, connection.url(path)):
            if line.strip():
                yield _parse(line)


async def _lines(response: httpx2.Response, url: str) -> AsyncIterator[bytes]:
    rest = b""
    try:
        async for chunk in response.aiter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > LINE_LIMIT:
                raise InternalError(f"{url} sent an event of more than {LINE_LIMIT} bytes")
    except httpx2.ReadTimeout as error:
        raise Unavailable(f"the watch on {url} is dead: not even a keep-alive came") from error
    except httpx2.TransportError as error:
        raise transport_error(error, url) from error


def _parse(line: bytes) -> WireEvent:
    event = orjson.loads(line)
    if event["type"] == "ERROR":
        raise read_error(event["object"].get("code", 500), orjson.dumps(event["object"]))
    return WireEvent(EventType(event["type"]), event["object"])
