"""Serving the application: sockets, TLS with optional client certificates, an orderly stop."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import uvicorn

from vcstack.apiserver.application import Application
from vcstack.apiserver.door import Door, DoorSettings
from vcstack.apiserver.patience import Patience, end_the_slow
from vcstack.apiserver.peer import PeerProtocol
from vcstack.apiserver.peersocket import PeerSocket
from vcstack.pki.tls import ReloadingContext, server_ssl_context

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than our clients keep idle connections, so that they never send into a closing one."""
DRAIN_SECONDS = 10
"""Requests under way get that long at the stop."""
LISTEN_FDS_START = 3
"""sd_listen_fds(3), SD_LISTEN_FDS_START."""


class ApiServer:
    """One process's API server on given sockets."""

    def __init__(
        self,
        application: Application,
        context: ssl.SSLContext,
        sockets: Sequence[socket.socket],
        patience: Patience | None = None,
        door: DoorSettings | None = None,
    ) -> None:
        self._application = application
        self._patience = patience or Patience()
        self._sockets = list(sockets)
        self._server = _Server(build_config(application), context, door or DoorSettings())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set; then end streams, finish requests and return."""
        serving = asyncio.create_task(self._server.serve(self._sockets))
        stopping = asyncio.create_task(stop.wait())
        notes = asyncio.create_task(self._application.run())
        watching = asyncio.create_task(end_the_slow(self.connections, self._patience))
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._application.drain.start()
            self._server.should_exit = True
            await serving
        finally:
            for task in (stopping, notes, watching, serving):
                task.cancel()
            await asyncio.gather(stopping, notes, watching, serving, return_exceptions=True)

    @property
    def connections(self) -> Collection[object]:
        """Return the connections that are open."""
        return self._server.server_state.connections

    @property
    def started(self) -> bool:
        """Return whether it accepts connections."""
        return self._server.started


class _Server(uvicorn.Server):
    """uvicorn with a door of ours, and without its signal handlers: the program has its own."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext, door: DoorSettings) -> None:
        super().__init__(config)
        self._context = context
        self._settings = door
        self._door: Door | None = None
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections on."""
        await self.lifespan.startup()
        self.servers = []  # those of asyncio, which take on whatever comes
        door = self._door = Door(self._settings, self._context, self._build_protocol)
        self._accepting = [asyncio.create_task(door.serve(listener)) for listener in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more on and end what is there."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._door is not None:
            await self._door.close()
        await super().shutdown(sockets)

    def _build_protocol(self) -> PeerProtocol:
        return PeerProtocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def build_config(application: Application) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        application,
        http=PeerProtocol,
        ws=PeerSocket,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,
    )


def build_tls(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return the server's context: TLS 1.2 or later, client certificates of our CA welcome, files as they are then."""

    def build() -> ssl.SSLContext:
        context = server_ssl_context(cert, key, ca)
        context.set_alpn_protocols(["http/1.1"])
        return context

    return ReloadingContext.of(build, cert, key, ca)


def open_sockets(addresses: Sequence[str], *, share: bool) -> list[socket.socket]:
    """Return listening sockets for HOST:PORT addresses; share: several processes listen on the same port.

    Raises:
        OSError: an address is taken or not ours.
        ValueError: an address cannot be read.
    """
    sockets: list[socket.socket] = []
    for address in addresses:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    return sockets


def inherited_sockets(environment: dict[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd (or a parent) passed on: LISTEN_FDS, if LISTEN_PID is ours or absent."""
    count = environment.get("LISTEN_FDS", "")
    owner = environment.get("LISTEN_PID", "")
    if not count.isdigit() or (owner and owner != str(os.getpid())):
        return []
    found = [socket.socket(fileno=LISTEN_FDS_START + i) for i in range(int(count))]
    for each in found:
        os.set_inheritable(each.fileno(), False)
        each.setblocking(False)
    return found


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or [IPv6]:PORT. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is no address; write HOST:PORT, e.g. 10.98.0.1:8443")
    return host, int(port)
