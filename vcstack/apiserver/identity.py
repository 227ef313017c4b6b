"""Who is asking: the administrator by token, a host by its client certificate, a user or service account by an
access token, or nobody.

An access token is good only while what it names is there: its session or API key, and the very account it was
issued for. That is asked of the watch cache at each request, so a deletion ends it on every replica at once.

uvicorn does not tell applications about client certificates; ``peer.py`` puts the verified one into the
scope, one object a connection.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from vcstack.apiserver.auth.bearers import NO_GROUPS, Bearers, Found, KeyTerms
from vcstack.apiserver.auth.tokens import NOT_VALID, Access, AccessTokens
from vcstack.clock import Clock
from vcstack.specs.errors import Unauthorized
from vcstack.specs.resource import Ref

HOST_PREFIX = "system:host:"
DOTS_OF_A_JWT = 2
CLAIMED_KEY = "vcstack.claimed"
"""Where an ASGI scope says whose a credential was that is genuine and yet refused, for the audit trail."""
PEER_KEY = "vcstack.peer"
"""Where the connection's verified certificate lies in an ASGI scope."""
SUBJECT_KEY = "vcstack.subject"
"""Where a websocket's caller is noted there."""


class Role(StrEnum):
    """What kind of caller it is."""

    ANONYMOUS = "Anonymous"
    ADMIN = "Admin"
    HOST = "Host"
    USER = "User"
    SERVICE_ACCOUNT = "ServiceAccount"


@dataclass(frozen=True, slots=True)
class Peer:
    """A client certificate that TLS has verified against our CA."""

    common_name: str
    not_after: datetime
    uid: str = ""
    """Of the object that it was issued for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller."""

    role: Role
    subject: str
    """As it stands in history and logs: admin, system:host:h1, user:alice, serviceaccount:demo/ci."""
    host: str = ""
    """The host's name, for hosts."""
    host_uid: str = ""
    """Of the Host object that its certificate was issued for; another one may have the name by now."""
    account: Ref | None = None
    """The user or service account."""
    access: Access | None = None
    """The access token it came with."""
    key: KeyTerms | None = None
    """The API key that the token was issued for."""
    groups: frozenset[str] = NO_GROUPS
    """Groups besides those that list the user: what its identity provider says."""

    @property
    def rights_until(self) -> datetime | None:
        """Until when what the caller may do lasts at most, whatever bindings say; None: as they say."""
        return None if self.access is None else self.access.rights_until

    @property
    def sender(self) -> str:
        """Return whom limits count: who had a host's name before uses up nothing of who has it now."""
        return f"{self.subject} {self.host_uid}" if self.host_uid else self.subject


ANONYMOUS = Identity(Role.ANONYMOUS, "anonymous")
ADMIN = Identity(Role.ADMIN, "admin")


class Attempts(Protocol):
    """Counts credentials that were not good, by where they come from."""

    def demand_attempt(self, scope: Any) -> None:
        """Return when another one may be checked. Raises RateLimited."""

    def note_refused(self, scope: Any) -> None:
        """Count one."""


class Authenticator:
    """Tells callers apart. A credential that is wrong is refused, not ignored."""

    def __init__(
        self, admin_token: str, clock: Clock, tokens: AccessTokens, bearers: Bearers, attempts: Attempts
    ) -> None:
        if len(admin_token) < 16:
            raise ValueError("the admin token has fewer than 16 characters; remove its file and run init")
        self._digest = hashlib.sha256(admin_token.encode()).digest()
        self._clock = clock
        self._tokens = tokens
        self._bearers = bearers
        self._attempts = attempts

    async def authenticate(self, scope: Any) -> Identity:
        """Return who sends the request.

        Raises:
            Unauthorized: a credential is wrong or has expired.
            RateLimited: there were too many of those from this address; only ones that are known are looked at.
            Unavailable: the store does not answer.
        """
        for name, value in scope["headers"]:
            if name == b"authorization":
                try:
                    return await self._by_header(value, scope)
                except Unauthorized:
                    self._attempts.note_refused(scope)
                    raise
        peer: Peer | None = scope.get(PEER_KEY)
        return ANONYMOUS if peer is None else self._by_certificate(peer)

    def still_holds(self, identity: Identity) -> bool:
        """Return whether the caller of a stream that goes on is still let in, but for the token's age."""
        return identity.access is None or self._bearers.find(identity.access) is not None

    async def _by_header(self, header: bytes, scope: Any) -> Identity:
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("only 'Authorization: Bearer TOKEN' is known")
        token = token.strip()
        if token.count(b".") == DOTS_OF_A_JWT:
            return await self._by_access_token(token, scope)
        if not hmac.compare_digest(hashlib.sha256(token).digest(), self._digest):
            raise Unauthorized("the token is not valid")
        return ADMIN

    async def _by_access_token(self, token: bytes, scope: Any) -> Identity:
        text = token.decode("latin-1")
        access = self._tokens.find(text)
        if access is None:
            self._attempts.demand_attempt(scope)  # checking a signature costs
            access = self._tokens.verify(text)
        found = self._bearers.find(access) or await self._bearers.find_fresh(access)
        if found is None:
            scope[CLAIMED_KEY] = access.subject
            raise Unauthorized(NOT_VALID)
        try:
            return identity_of(access, found, (scope.get("client") or ("",))[0])
        except Unauthorized:
            scope[CLAIMED_KEY] = access.subject
            raise

    def _by_certificate(self, peer: Peer) -> Identity:
        if peer.not_after <= self._clock.now():
            raise Unauthorized("the client certificate has expired; join again with a new token")
        host = peer.common_name.removeprefix(HOST_PREFIX)
        if host == peer.common_name or not host:
            raise Unauthorized(f"the client certificate of {peer.common_name} gives no access to the API")
        return Identity(Role.HOST, peer.common_name, host, peer.uid)


def identity_of(access: Access, found: Found, address: str) -> Identity:
    """Return the caller that a token stands for. Raises Unauthorized when it may not be used from the address."""
    account, key, groups = found
    if not access.may_come_from(address) or (key is not None and not key.may_be_used_from(address)):
        raise Unauthorized(f"the token may not be used from {address}")
    role = Role.USER if account.kind == "User" else Role.SERVICE_ACCOUNT
    return Identity(role, access.subject, account=account, access=access, key=key, groups=groups)
