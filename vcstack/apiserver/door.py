"""The door: which connections are taken on, and how many TLS handshakes are under way at once.

uvicorn takes whatever comes, and its loop waits a minute for each handshake: a client that opens connections and says
nothing would have all file descriptors, one that only makes handshakes the whole core. Nobody is known yet here, so all
of it goes by address. Who is sent away gets a reset, at once and for next to nothing.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from vcstack.apiserver import metrics
from vcstack.apiserver.auth.throttle import source_of
from vcstack.apiserver.auth.tokens import Network, is_within
from vcstack.apiserver.limits.buckets import OwnBuckets, Rule
from vcstack.specs.kinds.ratelimitpolicy import Per

logger = structlog.get_logger(__name__)

OTHER_FILES: Final = 512
"""File descriptors that are kept for all else: etcd, PostgreSQL, images, logs."""
BREATH_SECONDS: Final = 0.5
"""How long is waited when the machine has no file descriptor or memory for one more connection."""
TELL_SECONDS: Final = 10.0
"""How often the log tells that connections are refused."""
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that closes with a reset, socket(7): nothing of the connection stays with us."""
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """How many connections one process takes on."""

    in_all: int = 30_000
    """Open at once: room for all streams of hosts and tenants, and some more."""
    of_address: int = 2000
    """Open at once from one address, of IPv6 from one /64."""
    per_minute: int = 6000
    """New ones from one address, in the long run; each costs a handshake, about a millisecond."""
    burst: int = 2000
    """New ones from one address at once."""
    handshakes: int = 512
    """Handshakes under way; more wait for their turn."""
    handshakes_of_address: int = 64
    """The same of one address, so that one that does not go on keeps only itself waiting."""
    handshake_seconds: float = 10.0
    """From the connection to the end of its handshake, waiting included."""
    exempt: tuple[Network, ...] = ()
    """Proxies that bring many clients: the limits by address are not for them."""


class Door:
    """Takes connections on for as long as ``serve`` runs."""

    def __init__(self, settings: DoorSettings, context: ssl.SSLContext, build: Callable[[], Any]) -> None:
        """Args:
        settings: how many.
        context: for TLS.
        build: returns the protocol of one connection, which calls its ``on_lost`` when it is over.
        """
        self._settings = settings
        self._context = context
        self._build = build
        self._most = min(settings.in_all, max(1, _file_limit() - OTHER_FILES))
        self._loop = asyncio.get_running_loop()
        self._of: Counter[str] = Counter()
        self._open = 0
        self._handshakes = asyncio.Semaphore(settings.handshakes)
        self._own: dict[str, tuple[asyncio.Semaphore, int]] = {}
        self._rule = Rule(("", "address-connections"), "", Per.ADDRESS, settings.per_minute, settings.burst, 1)
        self._buckets = OwnBuckets(self._loop.time)
        self._tasks: set[asyncio.Task[None]] = set()
        self._told_at = -TELL_SECONDS
        self._untold = 0

    async def serve(self, listener: socket.socket) -> None:
        """Take on what comes to the listening socket, until cancelled."""
        while True:
            try:
                connection, peer = await self._loop.sock_accept(listener)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    logger.warning("no connection can be taken on", error=str(error))
                    await asyncio.sleep(BREATH_SECONDS)
                continue  # anything else: the client has gone already
            address = source_of(peer[0])
            exempt = is_within(peer[0], self._settings.exempt)
            reason = self._find_refusal(address, exempt=exempt)
            if reason is not None:
                self._refuse(connection, address, reason)
                continue
            self._open += 1
            self._of[address] += 1
            metrics.CONNECTIONS.inc()
            task = self._loop.create_task(self._shake_hands(connection, address, exempt=exempt))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up the handshakes under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _find_refusal(self, address: str, *, exempt: bool) -> str | None:
        if self._open >= self._most:
            return "TooManyConnections"
        if exempt:
            return None
        if self._of[address] >= self._settings.of_address:
            return "TooManyOfAddress"
        bucket = self._buckets.of(self._rule, address)
        return None if self._buckets.take((bucket,), self._loop.time()) is None else "TooOftenOfAddress"

    async def _shake_hands(self, connection: socket.socket, address: str, *, exempt: bool) -> None:
        """Make a connection of it; whatever happens, it is counted until it is over."""
        over = _Once(lambda: self._forget(address))
        protocol = self._build()
        protocol.on_lost = over
        settings, made = self._settings, False
        try:
            async with asyncio.timeout(settings.handshake_seconds), self._turn(address, exempt=exempt):
                await self._loop.connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=settings.handshake_seconds,
                )
                made = True
        except TimeoutError:
            metrics.CONNECTIONS_REFUSED.labels("SlowHandshake").inc()
        except OSError:
            metrics.CONNECTIONS_REFUSED.labels("NoHandshake").inc()  # ssl.SSLError is one, too
        finally:
            if not made:
                connection.close()
                over()

    @contextlib.asynccontextmanager
    async def _turn(self, address: str, *, exempt: bool) -> AsyncIterator[None]:
        """Wait for the turn of a handshake, first among those of the same address."""
        if exempt:
            async with self._handshakes:
                yield
            return
        own, users = self._own.get(address) or (asyncio.Semaphore(self._settings.handshakes_of_address), 0)
        self._own[address] = own, users + 1
        try:
            async with own, self._handshakes:
                yield
        finally:
            own, users = self._own.pop(address)
            if users > 1:
                self._own[address] = own, users - 1

    def _forget(self, address: str) -> None:
        self._open -= 1
        left = self._of[address] - 1
        if left:
            self._of[address] = left
        else:
            del self._of[address]
        metrics.CONNECTIONS.dec()

    def _refuse(self, connection: socket.socket, address: str, reason: str) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        metrics.CONNECTIONS_REFUSED.labels(reason).inc()
        self._untold += 1
        now = self._loop.time()
        if now - self._told_at >= TELL_SECONDS:
            logger.warning("connections refused", reason=reason, address=address, refused=self._untold)
            self._told_at, self._untold = now, 0


class _Once:
    """Calls something the first time that it is called."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def raise_file_limit() -> None:
    """Let this process have as many files open as it may: shells begin with 1024, as select(2) would need it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
