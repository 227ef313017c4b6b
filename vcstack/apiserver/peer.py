"""uvicorn's HTTP protocol with what it lacks: the client's certificate, and answers sent at once.

TLS has verified the certificate against our CA before a connection is made, so its name can be trusted.
"""

import asyncio
import socket
import ssl
from typing import Any

from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vcstack.apiserver.identity import PEER_KEY, Peer
from vcstack.pki.keys import PkiError
from vcstack.pki.tls import certificate_common_name

DEAD_PEER_MILLISECONDS = 30_000
"""Sent data not acknowledged for that long ends the connection (tcp(7), TCP_USER_TIMEOUT), so that a
watcher that lost its network does not hold its stream for the kernel's quarter of an hour."""

GATHERED_BYTES = 64 * 1024
"""What waits for the end of a turn is no more than that, so that a slow reader is noticed."""

KEEPALIVE_SECONDS = 10
"""Idle connections are probed that often; three probes without answer end them."""


class PeerProtocol(HttpToolsProtocol):
    """Adds the peer's certificate to the scope of every request and websocket of its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate once a connection."""
        super().connection_made(transport)
        self.transport = Gathering(transport)
        _watch_for_death(transport)
        peer = find_peer(transport.get_extra_info("ssl_object"))
        if peer is None:
            return
        application = self.app

        async def with_peer(scope: Any, receive: Any, send: Any) -> None:
            scope[PEER_KEY] = peer
            await application(scope, receive, send)

        self.app = with_peer
        build = self.ws_protocol_class
        if build is not None:
            self.ws_protocol_class = lambda **kwargs: _with_application(build(**kwargs), with_peer)  # type: ignore[assignment]

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection itself to the websocket's protocol."""
        if isinstance(self.transport, Gathering):
            self.transport = self.transport.bare()
        super().handle_websocket_upgrade()


class Gathering(asyncio.Transport):
    """A transport that sends what is written within one turn of the event loop together.

    uvicorn writes an answer's head and its body each by itself: two TLS records and two system calls, which
    are a tenth of what a small answer costs.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the data at the end of this turn, large data at once."""
        if len(data) > GATHERED_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(bytes(data))
        self._size += len(data)
        if self._size > GATHERED_BYTES:
            self._flush()

    def bare(self) -> asyncio.Transport:
        """Return the transport itself, with nothing left to send."""
        self._flush()
        return self._transport

    def close(self) -> None:
        """Send what waits and end the connection."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is ending."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take no more data."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take data again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting and not self._transport.is_closing():
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))


def find_peer(connection: ssl.SSLObject | None) -> Peer | None:
    """Return the verified client certificate, None when none was shown or its subject is odd."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    try:
        return Peer(certificate_common_name(certificate), certificate.not_valid_after_utc)
    except PkiError:
        return Peer("", certificate.not_valid_after_utc)


def _with_application(protocol: Any, application: Any) -> Any:
    protocol.app = application
    return protocol


def _watch_for_death(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
