"""uvicorn's HTTP protocol with the client's certificate: the one thing that it does not pass on.

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

KEEPALIVE_SECONDS = 10
"""Idle connections are probed that often; three probes without answer end them."""


class PeerProtocol(HttpToolsProtocol):
    """Adds the peer's certificate to the scope of every request and websocket of its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate once a connection."""
        super().connection_made(transport)
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
