"""uvicorn's websocket protocol with what it lacks: a client that does not read is answered no pings, and ended."""

from collections.abc import Callable

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import Ping

from vcstack.apiserver.patience import Patience
from vcstack.apiserver.peer import Reader


class PeerSocket(WSProtocol):
    """One websocket. What the application sends waits by itself while the client does not read."""

    _reader: Reader | None = None
    on_lost: Callable[[], None] | None = None
    """Called when the connection is over."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is over."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def handle_ping(self, event: Ping) -> None:
        """Answer, unless answers wait already: who pings and never reads must not fill our memory."""
        if self.writable.is_set():
            super().handle_ping(event)

    def end_if_slow(self, now: float, patience: Patience) -> None:
        """End the connection when the client takes too long to read."""
        if self.writable.is_set():
            self._reader = None
        elif self._reader is None:
            self._reader = Reader(self.transport, now)
        elif self._reader.is_slow(now, patience):
            self.transport.abort()
