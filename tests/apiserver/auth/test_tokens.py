"""Access tokens: what is accepted is exactly what we issue."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey

from tests.apiserver.auth.world import ISSUER, Replica
from vcstack.apiserver.auth.tokens import AccessTokens, Bearer, TokenSettings
from vcstack.specs.errors import Invalid, Unauthorized

ALICE = Bearer(subject="user:alice", uid="usr-1", session="s-1", methods=["pwd"])


def encode(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def claims_of(replica: Replica, **changes: Any) -> dict[str, Any]:
    now = int(replica.clock.now().timestamp())
    claims = {"iss": ISSUER, "aud": "vcstack-api", "sub": "user:alice", "uid": "usr-1", "sid": "s-1"}
    claims |= {"iat": now, "nbf": now, "exp": now + 600} | changes
    return {name: value for name, value in claims.items() if value is not None}


def sign(replica: Replica, claims: dict[str, Any], **header: Any) -> str:
    """Return a token signed by the real key, however odd what it says."""
    kid, key = replica.signing.signer()
    raw = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(key.as_dict(private=True)["d"] + "="))
    head = {"alg": "Ed25519", "kid": kid, "typ": "at+jwt"} | header
    signed = f"{encode({k: v for k, v in head.items() if v is not None})}.{encode(claims)}"
    return f"{signed}.{encode(raw.sign(signed.encode()))}"


def refused(replica: Replica, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        replica.tokens.verify(token)
    return caught.value.message


async def test_a_token_says_who_and_is_asymmetric_and_short(replica: Replica) -> None:
    token, expires_at = replica.tokens.issue(ALICE)
    access = replica.tokens.verify(token)
    assert (access.subject, access.user, access.uid, access.session) == ("user:alice", "alice", "usr-1", "s-1")
    assert access.rules is None
    head, body, _ = token.split(".")
    assert decode(head) == {"alg": "Ed25519", "typ": "at+jwt", "kid": replica.signing.signer()[0]}
    assert set(decode(body)) >= {"iss", "aud", "sub", "sid", "iat", "nbf", "exp"}
    assert expires_at - replica.clock.now() == timedelta(minutes=10)


async def test_the_control_is_accepted(replica: Replica) -> None:
    """The forgeries below differ from this one in one point each."""
    assert replica.tokens.verify(sign(replica, claims_of(replica))).user == "alice"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another-api"},
        {"aud": ["vcstack-api", "another-api"]},
        {"aud": None},
        {"sub": None},
        {"sub": 7},
        {"uid": None},
        {"exp": None},
        {"exp": "4102444800"},
        {"exp": 1e400},
        {"exp": -1},
        {"nbf": None},
        {"iat": None},
        {"admin": True},
        {"rules": "all"},
        {"networks": ["not a network"]},
    ],
)
async def test_a_token_that_says_anything_else_is_refused(replica: Replica, changes: dict[str, Any]) -> None:
    refused(replica, sign(replica, claims_of(replica, **changes)))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "NONE"},
        {"alg": "EdDSA"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"alg": None},
        {"alg": ["Ed25519"]},
        {"typ": "JWT"},
        {"typ": None},
        {"kid": None},
        {"kid": "../../etc/passwd"},
        {"kid": ""},
        {"kid": 7},
        {"crit": ["exp"]},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"b64": False},
        {"zip": "DEF"},
    ],
)
async def test_a_header_chooses_nothing(replica: Replica, header: dict[str, Any]) -> None:
    refused(replica, sign(replica, claims_of(replica), **header))


async def test_alg_none_without_signature_is_refused(replica: Replica) -> None:
    kid, _ = replica.signing.signer()
    for alg in ("none", "None", "nOnE", ""):
        head = encode({"alg": alg, "typ": "at+jwt", "kid": kid})
        refused(replica, f"{head}.{encode(claims_of(replica))}.")


async def test_the_public_key_is_no_secret_to_sign_with(replica: Replica) -> None:
    """Key confusion: HS256 with each of the public key's spellings as the secret."""
    kid, key = replica.signing.signer()
    public = key.public_key
    spellings = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        json.dumps(replica.signing.publish()["keys"][0]).encode(),
    ]
    for secret in spellings:
        for alg in ("HS256", "Ed25519"):
            signed = f"{encode({'alg': alg, 'typ': 'at+jwt', 'kid': kid})}.{encode(claims_of(replica))}"
            mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
            refused(replica, f"{signed}.{encode(mac)}")


async def test_a_key_brought_along_is_not_used(replica: Replica) -> None:
    kid, _ = replica.signing.signer()
    own = OKPKey.generate_key("Ed25519")
    for header in ({"kid": own.thumbprint()}, {"kid": kid}, {"kid": kid, "jwk": own.as_dict(private=False)}):
        head = {"alg": "Ed25519", "typ": "at+jwt", **header}
        refused(replica, jwt.encode(head, claims_of(replica), own, algorithms=["Ed25519"]))
    for alg, other in (("ES256", ECKey.generate_key("P-256")), ("HS256", OctKey.generate_key(256))):
        head = {"alg": alg, "typ": "at+jwt", "kid": kid}
        refused(replica, jwt.encode(head, claims_of(replica), other, algorithms=[alg]))


async def test_a_truncated_or_changed_token_is_refused(replica: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    for end in range(len(token)):
        refused(replica, token[:end])
    head, body, signature = token.split(".")
    claims = decode(body)
    for change in ({"sub": "user:root"}, {"sid": "s-2"}, {"exp": claims["exp"] + 1}):
        refused(replica, f"{head}.{encode(claims | change)}.{signature}")
    for odd in (token + ".", token + ".x", "." + token, f"{head}..{signature}", "..", f"{token}\n", " " + token):
        refused(replica, odd)
    assert replica.tokens.verify(token)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.one_of(st.text(max_size=300), st.binary(max_size=200).map(lambda b: b.decode("latin-1"))))
async def test_junk_is_refused_and_nothing_else_happens(replica: Replica, junk: str) -> None:
    refused(replica, junk)


async def test_hostile_sizes_are_refused_before_they_are_read(replica: Replica) -> None:
    refused(replica, "a" * 10_000_000)
    refused(replica, "." * 8192)
    deep = base64.urlsafe_b64encode(b"[" * 4000).decode()
    refused(replica, f"{deep}.{deep[:100]}.x")


async def test_a_token_expires_and_the_leeway_is_half_a_minute(replica: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    replica.clock.skip(600 + 29)
    assert replica.tokens.verify(token)
    replica.clock.skip(1)
    assert "expired" in refused(replica, token)
    fresh = AccessTokens(replica.signing, replica.clock, TokenSettings(issuer=ISSUER))
    with pytest.raises(Unauthorized, match="expired"):
        fresh.verify(token)


@pytest.mark.parametrize(("days", "hours"), [(0, 1), (30, 0)])
async def test_a_replica_whose_clock_is_ahead_finds_the_token_expired(
    replica: Replica, other: Replica, days: int, hours: int
) -> None:
    token, _ = replica.tokens.issue(ALICE)
    other.clock.skip(timedelta(days=days, hours=hours).total_seconds())
    assert "expired" in refused(other, token)
    assert replica.tokens.verify(token)


@pytest.mark.parametrize(("days", "hours"), [(0, 1), (30, 0)])
async def test_a_replica_whose_clock_is_behind_finds_the_token_not_begun(
    replica: Replica, other: Replica, days: int, hours: int
) -> None:
    replica.clock.skip(timedelta(days=days, hours=hours).total_seconds())
    token, _ = replica.tokens.issue(ALICE)
    assert "not valid" in refused(other, token)
    assert replica.tokens.verify(token)


async def test_clocks_that_differ_by_little_do_no_harm(replica: Replica, other: Replica) -> None:
    replica.clock.skip(25)
    token, _ = replica.tokens.issue(ALICE)
    assert other.tokens.verify(token)


async def test_a_clock_that_is_set_back_ends_a_remembered_token_as_well(replica: Replica) -> None:
    token, _ = replica.tokens.issue(ALICE)
    assert replica.tokens.verify(token)
    replica.clock.skip(-3600)
    refused(replica, token)


async def test_another_cloud_s_token_is_refused(replica: Replica) -> None:
    """Same keys, as after a restored backup, but another address."""
    theirs = AccessTokens(replica.signing, replica.clock, TokenSettings(issuer="https://other.example"))
    refused(replica, theirs.issue(ALICE)[0])


async def test_a_token_ends_when_the_session_or_key_behind_it_does(replica: Replica) -> None:
    until = replica.clock.now() + timedelta(seconds=90)
    _, expires_at = replica.tokens.issue(Bearer(subject="user:alice", uid="usr-1", key="ak-1", until=until))
    assert expires_at == until


async def test_restrictions_travel_in_the_token(replica: Replica) -> None:
    rules = [{"verbs": ["get"], "kinds": ["Instance"]}]
    bearer = Bearer(subject="serviceaccount:demo/ci", uid="sa-1", key="ak-1", rules=rules, networks=["192.0.2.0/24"])
    access = replica.tokens.verify(replica.tokens.issue(bearer)[0])
    assert (access.user, access.key, access.rules) == ("", "ak-1", tuple(rules))
    assert access.may_come_from("192.0.2.9")
    assert access.may_come_from("::ffff:192.0.2.9")
    for elsewhere in ("192.0.3.9", "::1", "", "nonsense"):
        assert not access.may_come_from(elsewhere)


async def test_restrictions_that_fit_no_header_line_are_refused_when_issued(replica: Replica) -> None:
    rules = [{"verbs": ["get"], "kinds": ["Instance" + "x" * 50]}] * 200
    with pytest.raises(Invalid, match="too many"):
        replica.tokens.issue(Bearer(subject="user:alice", uid="usr-1", key="ak-1", rules=rules))


async def test_what_is_remembered_is_bounded(replica: Replica) -> None:
    few = AccessTokens(replica.signing, replica.clock, TokenSettings(issuer=ISSUER, remembered=3))
    for i in range(10):
        few.verify(few.issue(Bearer(subject=f"user:u{i}", uid="usr-1"))[0])
    assert len(few._known) == 3
