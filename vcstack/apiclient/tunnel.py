"""The host's half of the tunnel, and the console for people.

The agent keeps one outbound websocket to the API server; over it the server opens streams to the host for
serial logs and consoles. So a host needs no listening port and may be behind NAT.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import Multiplexer, OnOpen
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.websocket import ByteSocket, open_socket
from vcstack.specs.errors import ApiError

logger = structlog.get_logger(__name__)

RECONNECT_SECONDS = (0.2, 15.0)
"""First and longest pause before the tunnel is opened again."""


class HostTunnel:
    """Keeps the tunnel open for ever; ``on_open`` serves each stream that the server opens.

    ``on_open`` reads ``stream.request`` (log or console of which instance), then sends and receives; its
    ApiErrors reach the one who asked; when it returns, the stream is closed.
    """

    def __init__(self, connection: Connection, host_name: str, on_open: OnOpen) -> None:
        self._connection = connection
        self._host_name = host_name
        self._on_open = on_open
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Open the tunnel, serve it, and open it again when it breaks; until cancelled."""
        pause = RECONNECT_SECONDS[0]
        while True:
            try:
                await self._serve_once()
                pause = RECONNECT_SECONDS[0]
            except ApiError as error:
                logger.info("tunnel is down", host=self._host_name, error=error.message)
                if self.connected.is_set():
                    pause = RECONNECT_SECONDS[0]
            self.connected.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_SECONDS[1])

    async def _serve_once(self) -> None:
        path = f"{API_ROOT}/hosts/{self._host_name}/tunnel"
        async with open_socket(self._connection, path) as socket:
            multiplexer = Multiplexer(socket.send, self._on_open)
            self.connected.set()
            try:
                while (message := await socket.receive()) is not None:
                    await multiplexer.take(message)
            finally:
                await multiplexer.aclose()


@contextlib.asynccontextmanager
async def open_console(connection: Connection, name: str, *, project: str) -> AsyncIterator[ByteSocket]:
    """Yield an instance's serial console: send what is typed, receive what is shown (None: it ended)."""
    async with open_socket(connection, f"{API_ROOT}/projects/{project}/instances/{name}/console") as socket:
        yield socket
