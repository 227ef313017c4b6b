"""Access tokens: short-lived JWTs (RFC 9068) that every replica verifies by itself.

Accepted is exactly what we issue: one algorithm, a key that is ours by its ``kid``, one issuer, one audience,
the times with some leeway, no other header. What a header says never chooses how it is verified.

A verified token is remembered by its digest until it expires, so that a request costs a hash and a look-up.
That a session was revoked is not asked here but at each request, by the session that the token names.
"""

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OKPKey
from joserfc.jwt import JWTClaimsRegistry
from pydantic import Field, ValidationError

from vcstack.apiserver.auth.signing import ALGORITHM, SigningKeys
from vcstack.clock import Clock
from vcstack.specs.errors import Invalid, Unauthorized
from vcstack.specs.model import Model

TYPE: Final = "at+jwt"
LONGEST: Final = 8192
"""Bytes; a longer header line would not pass most proxies either."""
NOT_VALID: Final = "the access token is not valid; log in"
EXPIRED: Final = "the access token has expired; refresh it or log in"
_HEADER: Final = {"alg", "kid", "typ"}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """What tokens say and how long they are good."""

    issuer: str
    """The cloud's address, e.g. https://cloud.example:8443."""
    audience: str = "vcstack-api"
    lifetime: timedelta = timedelta(minutes=10)
    leeway_seconds: int = 30
    """For clocks that differ."""
    remembered: int = 8192
    """Verified tokens that are remembered; some kilobytes each."""


class Claims(Model):
    """What a token says."""

    iss: str
    """Who issued it."""
    aud: str
    """For whom."""
    sub: str
    """The subject: user:alice, serviceaccount:demo/ci."""
    uid: str
    """The subject's uid: another one of the same name is somebody else."""
    sid: str = ""
    """The session; empty for API keys."""
    key: str = ""
    """The API key's uid; empty for sessions."""
    src: str = ""
    """NAME/UID of the Git source, in the account's project, for which the cloud itself acts as the account."""
    amr: list[str] = Field(default_factory=list)
    """How the subject logged in (RFC 8176)."""
    rules: list[dict[str, Any]] | None = None
    """What the API key is restricted to."""
    networks: list[str] = Field(default_factory=list)
    """Where the token may be used from; empty: everywhere."""
    til: int | None = None
    """Until when what is done with it may last; absent: for good."""
    iat: int
    """When it was issued."""
    nbf: int
    """From when on it is good."""
    exp: int
    """Until when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A verified token."""

    subject: str
    uid: str
    session: str
    """The session's id; empty for API keys."""
    key: str
    """The API key's uid; empty for sessions."""
    source: str = ""
    """NAME/UID of the Git source for which the cloud acts as the account; empty for everybody else."""
    methods: Sequence[str]
    rules: Sequence[Mapping[str, Any]] | None
    """What it is restricted to; None: all that the subject may."""
    networks: Sequence[Network]
    rights_until: datetime | None = None
    """Whoever got the API key's secret had the right to it for so long, and so gives nothing for longer."""
    not_before: int
    expires: int
    kid: str

    @property
    def user(self) -> str:
        """Return the user's name; empty when it is no user's."""
        kind, _, name = self.subject.partition(":")
        return name if kind == "user" else ""

    def may_come_from(self, address: str) -> bool:
        """Return whether the token may be used from that address."""
        return not self.networks or is_within(address, self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """For whom a token is issued."""

    subject: str
    uid: str
    session: str = ""
    key: str = ""
    source: str = ""
    methods: Sequence[str] = ()
    rules: Sequence[Mapping[str, Any]] | None = None
    networks: Sequence[str] = ()
    until: datetime | None = None
    """The token ends then at the latest."""
    rights_until: datetime | None = None
    """What is done with it lasts no longer."""


class AccessTokens:
    """Issues and verifies."""

    def __init__(self, keys: SigningKeys, clock: Clock, settings: TokenSettings) -> None:
        self.settings = settings
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[bytes, Access] = OrderedDict()

    def issue(self, bearer: Bearer) -> tuple[str, datetime]:
        """Return a new token and when it expires.

        Raises:
            Unavailable: the signing keys are not known yet.
            Invalid: the key's restrictions do not fit into a token.
        """
        now = self._clock.now().replace(microsecond=0)
        expires = now + self.settings.lifetime
        if bearer.until is not None:
            expires = min(expires, bearer.until)
        claims = Claims(
            iss=self.settings.issuer,
            aud=self.settings.audience,
            sub=bearer.subject,
            uid=bearer.uid,
            sid=bearer.session,
            key=bearer.key,
            src=bearer.source,
            amr=list(bearer.methods),
            rules=None if bearer.rules is None else [dict(rule) for rule in bearer.rules],
            networks=list(bearer.networks),
            til=None if bearer.rights_until is None else int(bearer.rights_until.timestamp()),
            iat=int(now.timestamp()),
            nbf=int(now.timestamp()),
            exp=int(expires.timestamp()),
        )
        kid, key = self._keys.signer()
        header = {"alg": ALGORITHM, "kid": kid, "typ": TYPE}
        token = jwt.encode(header, claims.to_wire(), key, algorithms=[ALGORITHM])
        if len(token) > LONGEST:
            raise Invalid("the API key's rules and networks are too many for a token; grant less to its owner instead")
        return token, expires

    def find(self, token: str) -> Access | None:
        """Return what a token says that was verified before and is still good; None: ``verify`` it."""
        if len(token) > LONGEST:
            return None
        access = self._known.get(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())
        return access if access is not None and self._still_good(access) else None

    def verify(self, token: str) -> Access:
        """Return what the token says. Raises Unauthorized."""
        if len(token) > LONGEST:
            raise Unauthorized(NOT_VALID)
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        access = self._known.get(digest)
        if access is None:
            access = self._verify(token)
            self._known[digest] = access
            if len(self._known) > self.settings.remembered:
                self._known.popitem(last=False)
        elif not self._still_good(access):
            del self._known[digest]
            raise Unauthorized(EXPIRED)
        return access

    def _still_good(self, access: Access) -> bool:
        """What can have changed since: the time, and which keys are ours."""
        now, leeway = self._clock.now().timestamp(), self.settings.leeway_seconds
        in_time = access.not_before - leeway <= now < access.expires + leeway
        return in_time and self._keys.find(access.kid) is not None

    def _verify(self, token: str) -> Access:
        made = self.settings
        try:
            decoded = jwt.decode(token, self._find_key, algorithms=[ALGORITHM])
            rules = JWTClaimsRegistry(
                int(self._clock.now().timestamp()),
                made.leeway_seconds,
                iss={"essential": True, "value": made.issuer},
                aud={"essential": True, "value": made.audience},
                sub={"essential": True},
                iat={"essential": True},
                nbf={"essential": True},
                exp={"essential": True},
            )
            claims = Claims.from_wire(decoded.claims)
            rules.validate(decoded.claims)
            return _read(claims, str(decoded.header["kid"]))
        except (JoseError, ValidationError, ValueError, TypeError) as error:
            text = EXPIRED if getattr(error, "error", "") == "expired_token" else NOT_VALID
            raise Unauthorized(text) from error

    def _find_key(self, token: GuestProtocol) -> OKPKey:
        header = token.headers()
        key = self._keys.find(str(header.get("kid", "")))
        if key is None or header.keys() != _HEADER or header["typ"] != TYPE or header["alg"] != ALGORITHM:
            raise ValueError("no token of ours")
        return key


def _read(claims: Claims, kid: str) -> Access:
    return Access(
        subject=claims.sub,
        uid=claims.uid,
        session=claims.sid,
        key=claims.key,
        source=claims.src,
        methods=tuple(claims.amr),
        rules=None if claims.rules is None else tuple(claims.rules),
        networks=read_networks(claims.networks),
        rights_until=None if claims.til is None else datetime.fromtimestamp(claims.til, UTC),
        not_before=claims.nbf,
        expires=claims.exp,
        kid=kid,
    )


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks. Raises ValueError for what is none."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Return whether the address lies in one of the networks; an IPv4 address written as IPv6 counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)
