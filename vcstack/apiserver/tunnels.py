"""The server's half of the hosts' tunnels: who is connected here, and streams to any host.

A host keeps one tunnel to one replica. A stream asked for at another replica goes through that one: each
replica notes its hosts in the store under a lease, with the address where it can be reached itself.
"""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.frames import PAYLOAD_LIMIT, Multiplexer, StreamRequest
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.websocket import ByteSocket, open_socket
from vcstack.apiserver import metrics
from vcstack.apiserver.audit.entry import find_subject
from vcstack.apiserver.authz import Permit, until_lost
from vcstack.apiserver.racing import first_of
from vcstack.apiserver.replicas import ReplicaDirectory
from vcstack.apiserver.shutdown import Drain
from vcstack.specs.errors import ApiError, Forbidden, Unavailable

logger = structlog.get_logger(__name__)

GOING_AWAY, POLICY_VIOLATION = 1001, 1008
REASON_BYTES = 120
"""RFC 6455 section 5.5: a close frame has at most 125 bytes, 2 of them the code."""


class HostStream(Protocol):
    """A byte stream to a host, wherever its tunnel ends."""

    async def send(self, data: bytes) -> None:
        """Send. Raises ApiError when it is closed."""

    async def receive(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises the ApiError that it was closed with."""


class Tunnels:
    """The tunnels that end here, and the way to the others."""

    def __init__(self, replicas: ReplicaDirectory, peer_settings: ConnectionSettings | None, drain: Drain) -> None:
        self._replicas = replicas
        self._peer_settings = peer_settings
        self._drain = drain
        self._local: dict[str, Multiplexer] = {}

    async def serve(self, host: str, socket: WebSocket, permit: Permit | None = None) -> None:
        """Keep the host's tunnel until it breaks, a newer one comes, the host may not or the server stops."""
        await socket.accept()
        multiplexer = Multiplexer(socket.send_bytes)
        older, self._local[host] = self._local.get(host), multiplexer
        if older is not None:
            await older.aclose(Unavailable("the host opened a new tunnel; try again"))
        metrics.TUNNELS.inc()
        logger.info("tunnel opened", host=host)
        try:
            await self._replicas.announce(host)
            await self._pump(host, socket, multiplexer, permit)
        except ApiError as error:
            logger.warning("tunnel dropped", host=host, error=error.message)
        finally:
            metrics.TUNNELS.dec()
            await multiplexer.aclose()
            if self._local.get(host) is multiplexer:
                del self._local[host]
                await self._replicas.withdraw(host)
            logger.info("tunnel closed", host=host)

    async def _pump(self, host: str, socket: WebSocket, multiplexer: Multiplexer, permit: Permit | None) -> None:
        """Take frames until the host goes, the tunnel is given up, the host was removed or the server stops."""

        async def take() -> None:
            while True:
                await multiplexer.take(await socket.receive_bytes())

        try:
            await first_of(take(), multiplexer.ended.wait(), self._drain.started.wait(), until_lost(permit))
            await socket.close(GOING_AWAY, "the server stops" if self._drain.started.is_set() else "replaced")
        except Forbidden as error:
            logger.warning("tunnel ended", host=host, error=error.message)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the host was faster
                await socket.close(POLICY_VIOLATION, error.message.encode()[:REASON_BYTES].decode("utf-8", "ignore"))
        except WebSocketDisconnect:
            return

    def has(self, host: str) -> bool:
        """Return whether the host's tunnel ends here."""
        return host in self._local

    @contextlib.asynccontextmanager
    async def open(self, host: str, request: StreamRequest) -> AsyncIterator[HostStream]:
        """Yield a stream to the host. Raises Unavailable when it has no tunnel anywhere."""
        local = self._local.get(host)
        if local is None:
            async with self._open_remote(host, request) as remote:
                yield remote
            return
        stream = await local.open(request)
        try:
            yield stream
        finally:
            with contextlib.suppress(Unavailable):
                await stream.close()

    @contextlib.asynccontextmanager
    async def _open_remote(self, host: str, request: StreamRequest) -> AsyncIterator[HostStream]:
        url = await self._replicas.find(host)
        if url is None or self._peer_settings is None or url == self._peer_settings.api_url:
            raise Unavailable(f"host {host} is not connected at the moment; is its vc-compute running?")
        settings = dataclasses.replace(self._peer_settings, api_url=url)
        asked = request.model_copy(update={"on_behalf_of": find_subject()})
        params = {"open": asked.to_json().decode()}
        path = f"{API_ROOT}/hosts/{host}/tunnel"
        async with Connection(settings) as connection, open_socket(connection, path, params) as socket:
            yield RemoteStream(socket)


class RemoteStream:
    """A stream through the replica that has the host's tunnel."""

    def __init__(self, socket: ByteSocket) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send in messages of a size that both sides take."""
        for start in range(0, len(data), PAYLOAD_LIMIT):
            await self._socket.send(data[start : start + PAYLOAD_LIMIT])

    async def receive(self) -> bytes:
        """Return the next bytes, b"" at the end."""
        return await self._socket.receive() or b""
