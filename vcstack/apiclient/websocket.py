"""Websockets of the API as plain byte messages, with the project's errors."""

import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, TypeVar

import httpx2

from vcstack.apiclient.connection import Connection, Params
from vcstack.apiclient.faults import read_error, transport_error
from vcstack.specs.errors import ApiError, Unavailable

if TYPE_CHECKING:
    from httpx2.websockets import AsyncWebSocketSession

T = TypeVar("T")
PING_SECONDS = 10.0
"""A peer that does not answer a ping for that long is dead."""
QUEUE_MESSAGES = 64
ORDERLY_CLOSES = (1000, 1001, 1012)
"""RFC 6455 section 7.4.1 and IANA: normal, going away, service restart."""


class ByteSocket:
    """A connected websocket that carries binary messages."""

    def __init__(self, session: "AsyncWebSocketSession", url: str) -> None:
        self._session = session
        self._url = url

    async def send(self, message: bytes) -> None:
        """Send a message. Raises Unavailable when the connection is gone."""
        from httpx2.websockets import HTTPXWSException

        try:
            await self._session.send_bytes(message)
        except (HTTPXWSException, _closed_already()) as error:
            raise Unavailable(f"the connection to {self._url} broke") from error

    async def send_text(self, message: str) -> None:
        """Send a message of text. Raises Unavailable when the connection is gone."""
        from httpx2.websockets import HTTPXWSException

        try:
            await self._session.send_text(message)
        except (HTTPXWSException, _closed_already()) as error:
            raise Unavailable(f"the connection to {self._url} broke") from error

    async def receive(self) -> bytes | None:
        """Return the next message; None when the other side closed in good order.

        Raises:
            Unavailable: when the connection broke or the other side closed it with a reason.
        """
        return await self._told(self._session.receive_bytes())

    async def receive_any(self) -> bytes | str | None:
        """Return the next message, of bytes or of text; as ``receive``."""
        event = await self._told(self._session.receive())
        data = getattr(event, "data", None)
        return data if isinstance(data, str) or data is None else bytes(data)

    async def _told(self, receiving: Awaitable[T]) -> T | None:
        """Return what comes; None when the other side closed in good order."""
        from httpx2.websockets import HTTPXWSException, WebSocketDisconnect

        try:
            return await receiving
        except WebSocketDisconnect as error:
            if error.code in ORDERLY_CLOSES:
                return None
            raise Unavailable(error.reason or f"{self._url} closed the connection ({error.code})") from error
        except HTTPXWSException as error:
            raise Unavailable(f"the connection to {self._url} broke") from error


def _closed_already() -> type[Exception]:
    """Return what wsproto raises for sending after the end; wsproto is imported only where a socket is open."""
    error: type[Exception] = importlib.import_module("wsproto.utilities").LocalProtocolError
    return error


@contextlib.asynccontextmanager
async def open_socket(connection: Connection, path: str, params: Params | None = None) -> AsyncIterator[ByteSocket]:
    """Yield a websocket to that path; error answers to the handshake are raised as what they say."""
    try:
        from httpx2.websockets import WebSocketUpgradeError
    except ImportError as error:
        raise Unavailable("websockets need the Python package wsproto; install it") from error
    client = await connection.current_client()
    url = connection.url(path)
    query = {k: str(v) for k, v in (params or {}).items() if v is not None}
    timeout = httpx2.Timeout(connection.settings.request_timeout_seconds)
    try:
        async with client.websocket(
            url,
            params=query,
            headers=await connection.authorization(),
            timeout=timeout,
            queue_size=QUEUE_MESSAGES,
            keepalive_ping_interval_seconds=PING_SECONDS,
            keepalive_ping_timeout_seconds=PING_SECONDS,
        ) as session:
            yield ByteSocket(session, url)
    except WebSocketUpgradeError as error:
        raise read_error(error.response.status_code, error.response.content) from error
    except httpx2.TransportError as error:
        raise transport_error(error, url) from error
    except BaseExceptionGroup as group:
        raise _only_api_error(group) from group


def _only_api_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of ours in what the websocket's task group wrapped, else the group."""
    matching = group.subgroup(ApiError)
    error: BaseException = matching if matching is not None else group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
