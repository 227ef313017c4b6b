"""Who is asking: the administrator by token, a host by its client certificate, or nobody.

uvicorn does not tell applications about client certificates; ``peer.py`` puts the verified one into the
scope, one object a connection.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from vcstack.clock import Clock
from vcstack.specs.errors import Unauthorized

HOST_PREFIX = "system:host:"
PEER_KEY = "vcstack.peer"
"""Where the connection's verified certificate lies in an ASGI scope."""


class Role(StrEnum):
    """What kind of caller it is."""

    ANONYMOUS = "Anonymous"
    ADMIN = "Admin"
    HOST = "Host"


@dataclass(frozen=True, slots=True)
class Peer:
    """A client certificate that TLS has verified against our CA."""

    common_name: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller."""

    role: Role
    subject: str
    """As it stands in history and logs: admin, system:host:h1."""
    host: str = ""
    """The host's name, for hosts."""


ANONYMOUS = Identity(Role.ANONYMOUS, "anonymous")
ADMIN = Identity(Role.ADMIN, "admin")


class Authenticator:
    """Tells callers apart. A credential that is wrong is refused, not ignored."""

    def __init__(self, admin_token: str, clock: Clock) -> None:
        if len(admin_token) < 16:
            raise ValueError("the admin token has fewer than 16 characters; remove its file and run init")
        self._digest = hashlib.sha256(admin_token.encode()).digest()
        self._clock = clock

    def authenticate(self, scope: Any) -> Identity:
        """Return who sends the request. Raises Unauthorized for a wrong or expired credential."""
        for name, value in scope["headers"]:
            if name == b"authorization":
                return self._by_token(value)
        peer: Peer | None = scope.get(PEER_KEY)
        return ANONYMOUS if peer is None else self._by_certificate(peer)

    def _by_token(self, header: bytes) -> Identity:
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("only 'Authorization: Bearer TOKEN' is known")
        if not hmac.compare_digest(hashlib.sha256(token.strip()).digest(), self._digest):
            raise Unauthorized("the token is not valid")
        return ADMIN

    def _by_certificate(self, peer: Peer) -> Identity:
        if peer.not_after <= self._clock.now():
            raise Unauthorized("the client certificate has expired; join again with a new token")
        host = peer.common_name.removeprefix(HOST_PREFIX)
        if host == peer.common_name or not host:
            raise Unauthorized(f"the client certificate of {peer.common_name} gives no access to the API")
        return Identity(Role.HOST, peer.common_name, host)
