"""uvicorn's HTTP protocol with what it lacks: the client's certificate, answers sent at once, limits of what comes.

TLS has verified the certificate against our CA before a connection is made, so its name can be trusted.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from cryptography import x509
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from vcstack.apiserver import metrics
from vcstack.apiserver.edges import dress, request_id_of
from vcstack.apiserver.identity import PEER_KEY, Peer
from vcstack.apiserver.patience import HEAD_BYTES, Patience
from vcstack.apiserver.replies import status_reply
from vcstack.pki.keys import PkiError
from vcstack.pki.tls import certificate_common_name, certificate_uid
from vcstack.specs.errors import ErrorStatus

DEAD_PEER_MILLISECONDS = 30_000
"""Sent data not acknowledged for that long ends the connection (tcp(7), TCP_USER_TIMEOUT), so that a
watcher that lost its network does not hold its stream for the kernel's quarter of an hour."""

WAITING_BYTES = 64 * 1024
"""With so much waiting for the client whoever sends has to wait, too; the loop's own figure for TLS is 512 KiB."""

GATHERED_BYTES = 64 * 1024
"""What waits for the end of a turn is no more than that, so that a slow reader is noticed."""

_TCP_INFO_BYTES, _BYTES_ACKED_AT, _BYTES_ACKED = 192, 120, struct.Struct("=Q")
"""linux/tcp.h, struct tcp_info, as since Linux 4.1."""

KEEPALIVE_SECONDS = 10
"""Idle connections are probed that often; three probes without answer end them."""


class PeerProtocol(HttpToolsProtocol):
    """Adds the peer's certificate to the scope of every request and websocket of its connection.

    A request's head and body are timed from when they are awaited; 0 means that none is.
    """

    _head_since = 0.0
    _body_since = 0.0
    arrived = 0
    """Bytes of the head, then of the body; of what came in one piece with the other part maybe less."""
    _oversized = False
    _reader: "Reader | None" = None
    on_lost: Callable[[], None] | None = None
    """Called when the connection is over."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate once a connection."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self.transport = Gathering(transport)
        transport.set_write_buffer_limits(WAITING_BYTES)
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is over."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Take what came, unless the head grows too large."""
        self.arrived += len(data)
        super().data_received(data)
        if self._head_since and self.arrived > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head."""
        super().on_message_begin()
        self._head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        if self.arrived > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            self._oversized = True
            raise ValueError("the head is too large")  # the parser stops and asks for send_400_response
        self._head_since, self._body_since, self.arrived = 0.0, self.loop.time(), 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing: uvicorn itself ends idle connections."""
        self._body_since, self.arrived = 0.0, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request."""
        self._refuse(_HEAD_TOO_LARGE if self._oversized else _NO_HTTP)

    def end_if_slow(self, now: float, patience: Patience) -> None:
        """End the connection when its request takes too long to arrive, or its answer to be read."""
        if not self.flow.write_paused:
            self._reader = None
        elif self._reader is None:
            self._reader = Reader(self.transport, now)
        elif self._reader.is_slow(now, patience):
            self.transport.abort()
            return
        if self._head_since:
            if now - self._head_since > patience.head_seconds:
                self._refuse(_TOO_SLOW)
        elif self._body_since:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                self._body_since, self.arrived = now, 0  # it is us who are slow
                return
            waited = now - self._body_since
            if waited > patience.body_seconds and self.arrived < waited * patience.body_bytes_per_second:
                self._refuse(_TOO_SLOW)

    def _refuse(self, status: ErrorStatus) -> None:
        """Answer, if no other answer has begun and there was a request at all, and end the connection."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if (self.arrived or self._body_since) and not (busy and self.cycle.response_started):
            reply = status_reply(status, {"connection": "close"})
            message = {"headers": reply.raw_headers}
            dress(message, request_id_of({}))
            head = b"".join(b"%b: %b\r\n" % header for header in message["headers"])
            self.transport.write(STATUS_LINE[status.code] + head + b"\r\n" + bytes(reply.body))
        self.transport.close()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection itself to the websocket's protocol."""
        if isinstance(self.transport, Gathering):
            self.transport = self.transport.bare()
        build, on_lost = self.ws_protocol_class, self.on_lost

        def build_next(**options: Any) -> Any:
            assert build is not None
            protocol: Any = build(**options)
            protocol.on_lost = on_lost
            return protocol

        self.ws_protocol_class = build_next  # type: ignore[assignment]
        super().handle_websocket_upgrade()


_NO_HTTP = ErrorStatus(code=400, reason="BadRequest", message="this cannot be read as an HTTP request")
_TOO_SLOW = ErrorStatus(code=408, reason="RequestTimeout", message="the request took too long to arrive")
_HEAD_TOO_LARGE = ErrorStatus(
    code=431, reason="HeadTooLarge", message=f"request line and headers are larger than {HEAD_BYTES} bytes"
)


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

    def abort(self) -> None:
        """End the connection at once, whatever waits."""
        self._waiting, self._size = [], 0
        self._transport.abort()

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


class Reader:
    """A client that data waits for: how much of it has come there, as the kernel has it acknowledged."""

    def __init__(self, transport: asyncio.BaseTransport, now: float) -> None:
        self._transport = transport
        self._since = now
        self._had = _acknowledged(transport)

    def is_slow(self, now: float, patience: Patience) -> bool:
        """Return whether too little has come there since the last time that enough had."""
        waited = now - self._since
        if waited < patience.answer_seconds:
            return False
        had = _acknowledged(self._transport)
        if had - self._had < waited * patience.answer_bytes_per_second:
            metrics.ANSWERS_ENDED.labels("SlowReader").inc()
            return True
        self._since, self._had = now, had
        return False


def find_peer(connection: ssl.SSLObject | None) -> Peer | None:
    """Return the verified client certificate, None when none was shown or its subject is odd."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    try:
        name, uid = certificate_common_name(certificate), certificate_uid(certificate)
        return Peer(name, certificate.not_valid_after_utc, uid)
    except PkiError:
        return Peer("", certificate.not_valid_after_utc)


def _with_application(protocol: Any, application: Any) -> Any:
    protocol.app = application
    return protocol


def _acknowledged(transport: asyncio.BaseTransport) -> int:
    """Return tcpi_bytes_acked of tcp(7)'s TCP_INFO; 0 when there is no connection any more."""
    raw = transport.get_extra_info("socket")
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    acknowledged: int = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)[0]
    return acknowledged


def _watch_for_death(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
