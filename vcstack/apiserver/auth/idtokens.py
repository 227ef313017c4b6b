"""ID tokens: what an OpenID Connect provider signs about a user (OpenID Connect Core, 3.1.3.7).

How a token is verified is decided here and by the provider's published keys; its header only names one of those
keys. Symmetric algorithms and "none" do not exist, so no public key can be taken for a shared secret.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from vcstack.specs.errors import Unauthorized

ALGORITHMS: Final[Mapping[str, tuple[type[Key], str]]] = {
    "RS256": (RSAKey, "sha256"),
    "RS384": (RSAKey, "sha384"),
    "RS512": (RSAKey, "sha512"),
    "PS256": (RSAKey, "sha256"),
    "PS384": (RSAKey, "sha384"),
    "PS512": (RSAKey, "sha512"),
    "ES256": (ECKey, "sha256"),
    "ES384": (ECKey, "sha384"),
    "ES512": (ECKey, "sha512"),
    "EdDSA": (OKPKey, "sha512"),
    "Ed25519": (OKPKey, "sha512"),
}
"""What is taken, with which keys; and with which hash at_hash is made."""
LONGEST: Final = 64 * 1024
MOST_KEYS: Final = 64
LEEWAY_SECONDS: Final = 60
OLDEST_SECONDS: Final = 600
"""A token was made for this very login."""
SMALLEST_RSA: Final = 2048
NOT_VALID: Final = "what the identity provider says is not valid"


class UnknownKey(Exception):
    """No key of that name is known; the provider may have a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token has to say."""

    issuer: str
    audience: str
    nonce: str = ""
    """Empty: none was sent (device flow)."""
    access_token: str = ""
    now: int


class ProviderKeys:
    """The keys that a provider has published."""

    def __init__(self, document: Any) -> None:
        """Take those that can sign. Raises ValueError for what is no JWK set, or has none of them."""
        found = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(found, list) or len(found) > MOST_KEYS:
            raise ValueError("no set of at most 64 keys")
        self._keys = [key for jwk in found if (key := _read_key(jwk)) is not None]
        if not self._keys:
            raise ValueError("none that tokens could be signed with")

    def find(self, kid: str | None, algorithm: str) -> Key:
        """Return the one key that is meant. Raises UnknownKey."""
        wanted, _ = ALGORITHMS[algorithm]
        fitting = [key for key in self._keys if isinstance(key, wanted) and key.get("alg") in (None, algorithm)]
        named = [key for key in fitting if key.get("kid") == kid] if kid is not None else fitting
        if len(named) != 1:
            raise UnknownKey(kid)
        return named[0]


def verify_id_token(token: str, keys: ProviderKeys, expected: Expected) -> Mapping[str, Any]:
    """Return the claims.

    Raises:
        UnknownKey: it names a key that is not among these.
        Unauthorized: it is not good.
    """
    if len(token) > LONGEST:
        raise Unauthorized(f"{NOT_VALID}: the ID token has {len(token)} characters, {LONGEST} at most are taken")

    def find(guest: GuestProtocol) -> Key:
        header = guest.headers()
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS or "crit" in header:
            raise ValueError("its algorithm is not taken")
        return keys.find(header.get("kid"), str(algorithm))

    try:
        decoded = jwt.decode(token, find, algorithms=list(ALGORITHMS))
        claims: dict[str, Any] = dict(decoded.claims)
        JWTClaimsRegistry(
            expected.now,
            LEEWAY_SECONDS,
            iss={"essential": True, "value": expected.issuer},
            sub={"essential": True},
            aud={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
        _check_rest(claims, expected, str(decoded.header["alg"]))
    except (JoseError, ValueError, TypeError) as error:
        raise Unauthorized(f"{NOT_VALID}: {_reason(error)}") from error
    return claims


def audiences(claims: Mapping[str, Any]) -> Sequence[str]:
    """Return for whom the token is."""
    found = claims.get("aud")
    return [found] if isinstance(found, str) else [a for a in found or () if isinstance(a, str)]


def _check_rest(claims: Mapping[str, Any], expected: Expected, algorithm: str) -> None:
    """Check what the library does not. Raises ValueError."""
    named = audiences(claims)
    if expected.audience not in named:
        raise ValueError("the ID token is for somebody else")
    if (len(named) > 1 or "azp" in claims) and claims.get("azp") != expected.audience:
        raise ValueError("the ID token was given to somebody else")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise ValueError("it names nobody")
    if claims["iat"] < expected.now - OLDEST_SECONDS - LEEWAY_SECONDS:
        raise ValueError("the ID token is of an earlier login")
    if expected.nonce and claims.get("nonce") != expected.nonce:
        raise ValueError("the nonce is of another login")
    if "at_hash" in claims and claims["at_hash"] != _half_hash(expected.access_token, algorithm):
        raise ValueError("the access token is another one")


def _half_hash(text: str, algorithm: str) -> str:
    digest = hashlib.new(ALGORITHMS[algorithm][1], text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _read_key(jwk: Any) -> Key | None:
    """Return the key, None when it does not sign or is of a kind that is not taken."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    public = {name: value for name, value in jwk.items() if name in ("kty", "kid", "alg", "n", "e", "crv", "x", "y")}
    try:
        if jwk["kty"] == "RSA" and _bits(str(jwk["n"])) < SMALLEST_RSA:
            return None
        return JWKRegistry.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None  # others may be good


def _bits(number: str) -> int:
    """Return how long a number is that a JWK has. Raises ValueError."""
    return int.from_bytes(base64.urlsafe_b64decode(number + "==")).bit_length()


def _reason(error: Exception) -> str:
    if getattr(error, "error", "") == "expired_token":
        return "the ID token has expired"
    if isinstance(error, JoseError):
        return "the ID token is not what was asked for"
    return str(error)[:200]
