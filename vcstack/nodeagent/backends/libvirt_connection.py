"""The one connection to libvirtd: kept, watched, opened again after libvirtd went away, with its events."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import libvirt

from vcstack.nodeagent.backends.threads import Threads
from vcstack.runtime.errors import (
    BackendAlreadyExists,
    BackendConflict,
    BackendError,
    BackendNotFound,
    BackendRefused,
    BackendUnavailable,
)

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 8
"""Calls at once; libvirtd works on different domains in parallel (its max_workers is 20)."""
CALL_SECONDS = 60.0
"""For one call; a start under load is the slowest."""
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts to reach libvirtd; the last one for ever."""
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
EVENT_LIMIT = 1024
"""Events that wait; when there are more, one that says that anything may have happened."""

_LOST = {
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
}
_ERRORS: dict[int, type[BackendError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: BackendNotFound,
    libvirt.VIR_ERR_OPERATION_INVALID: BackendConflict,
    libvirt.VIR_ERR_DOM_EXIST: BackendAlreadyExists,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: BackendUnavailable,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: BackendUnavailable,
}

_loop_started = threading.Lock()
_loop_runs = False


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread of its own, once a process. Must precede the first open."""
    global _loop_runs
    with _loop_started:
        if _loop_runs:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()
        _loop_runs = True


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class LibvirtConnection:
    """Opens on ``start``, again whenever it breaks, until ``close``."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._threads = Threads("libvirt", WORKERS, CALL_SECONDS)
        self._connection: Any = None
        self._callbacks: list[int] = []
        self._broken = asyncio.Event()
        self._opened = asyncio.Event()
        self._events: asyncio.Queue[str | None] = asyncio.Queue(EVENT_LIMIT)
        self._keeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def connected(self) -> bool:
        """Return whether libvirtd answered last time."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to connect, in the background."""
        start_event_loop()
        self._loop = asyncio.get_running_loop()
        self._keeper = asyncio.create_task(self._keep_open(), name="libvirt-connection")

    async def wait_connected(self) -> None:
        """Return as soon as libvirtd answers."""
        await self._opened.wait()

    async def close(self) -> None:
        """Let go of the connection; domains are not touched."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._threads.run(_close, connection, self._callbacks)
        self._threads.close()

    async def run(self, call: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns, given the connection, on a thread.

        Raises:
            BackendError: of the class that fits libvirt's error code.
        """
        connection = self._connection
        if connection is None:
            raise BackendUnavailable(f"libvirt at {self._uri} does not answer")
        try:
            return await self._threads.run(lambda: call(connection, *args, **kwargs))
        except libvirt.libvirtError as error:
            raise await self._translate(connection, error) from error

    async def events(self) -> AsyncIterator[str | None]:
        """Yield domain names as events come; None after a (re)connection: anything may have happened."""
        while True:
            yield await self._events.get()

    async def _translate(self, connection: Any, error: libvirt.libvirtError) -> BackendError:
        code = error.get_error_code()
        if code in _LOST and not await self._threads.run(_is_alive, connection):
            self._broken.set()
            return BackendUnavailable(f"libvirt at {self._uri} went away: {error}")
        return _ERRORS.get(code, BackendRefused)(f"libvirt: {error}")

    async def _keep_open(self) -> None:
        attempt = 0
        while True:
            try:
                await self._open()
            except (libvirt.libvirtError, BackendUnavailable):
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            attempt = 0
            await self._broken.wait()
            connection, self._connection = self._connection, None
            self._opened.clear()
            await self._discard(connection)

    async def _open(self) -> None:
        self._broken.clear()
        self._connection, self._callbacks = await self._threads.run(self._connect)
        self._opened.set()
        self._put(None)

    async def _discard(self, connection: Any) -> None:
        try:
            await self._threads.run(_close, connection, self._callbacks)
        except (libvirt.libvirtError, BackendUnavailable):
            return

    def _connect(self) -> tuple[Any, list[int]]:
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        connection.registerCloseCallback(self._on_close, None)
        kinds = (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR,
        )
        callbacks = [connection.domainEventRegisterAny(None, kind, self._on_event, None) for kind in kinds]
        return connection, callbacks

    def _on_close(self, connection: Any, reason: int, opaque: Any) -> None:
        self._call_soon(self._broken.set)

    def _on_event(self, connection: Any, domain: Any, *details: Any) -> None:
        self._call_soon(self._put, domain.name())

    def _call_soon(self, call: Callable[..., None], *args: Any) -> None:
        """Run the call on the agent's loop; libvirt's threads may outlive it."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    def _put(self, name: str | None) -> None:
        if self._events.full():
            while not self._events.empty():
                self._events.get_nowait()
            name = None
        self._events.put_nowait(name)


def _is_alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive()) and bool(connection.getLibVersion())
    except libvirt.libvirtError:
        return False


def _close(connection: Any, callbacks: list[int]) -> None:
    for callback in callbacks:
        try:
            connection.domainEventDeregisterAny(callback)
        except libvirt.libvirtError:
            break
    try:
        connection.unregisterCloseCallback()
    finally:
        connection.close()
