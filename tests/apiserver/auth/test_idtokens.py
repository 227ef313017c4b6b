"""ID tokens that a dishonest or broken provider, or somebody in between, could send."""

import base64
import hashlib
import hmac
import warnings
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from vcstack.apiserver.auth.idtokens import LONGEST, MOST_KEYS, Expected, ProviderKeys, UnknownKey, verify_id_token
from vcstack.specs.errors import Unauthorized

NOW = 1_800_000_000
ISSUER, CLIENT = "https://id.example", "cloud"
RSA = RSAKey.generate_key(2048, {"kid": "r1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "e1", "alg": "ES256"})
ED = OKPKey.generate_key("Ed25519", {"kid": "d1"})
EXPECTED = Expected(issuer=ISSUER, audience=CLIENT, nonce="n", access_token="at", now=NOW)
GOOD: Mapping[str, Any] = {"iss": ISSUER, "aud": CLIENT, "sub": "42", "iat": NOW, "exp": NOW + 300, "nonce": "n"}


def keys(*more: Any) -> ProviderKeys:
    return ProviderKeys({"keys": [key.as_dict(private=False) for key in (RSA, EC, ED)] + list(more)})


def sign(claims: Mapping[str, Any], key: Key = RSA, alg: str = "RS256", **header: Any) -> str:
    headers = {"alg": alg, "kid": key.get("kid"), **header}
    headers = {name: value for name, value in headers.items() if value is not None}
    return jwt.encode(headers, dict(claims), key, algorithms=[alg])


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "Ed25519")])
def test_a_good_token_of_each_kind_of_key_is_taken(key: Key, alg: str) -> None:
    assert verify_id_token(sign(GOOD, key, alg), keys(), EXPECTED)["sub"] == "42"


@pytest.mark.parametrize(
    "claims",
    [
        {**GOOD, "aud": "another"},
        {**GOOD, "aud": []},
        {**GOOD, "aud": [CLIENT, "another"]},
        {**GOOD, "aud": [CLIENT, "another"], "azp": "another"},
        {**GOOD, "azp": "another"},
        {**GOOD, "iss": "https://id.example/"},
        {**GOOD, "iss": "https://evil.example"},
        {**GOOD, "nonce": "of another login"},
        without("nonce"),
        without("exp"),
        without("iat"),
        without("sub"),
        without("aud"),
        without("iss"),
        {**GOOD, "sub": ""},
        {**GOOD, "sub": 42},
        {**GOOD, "exp": NOW - 61},
        {**GOOD, "exp": "never"},
        {**GOOD, "iat": NOW + 61},
        {**GOOD, "iat": NOW - 3600, "exp": NOW + 3600},
        {**GOOD, "iat": NOW - 30 * 86400, "exp": NOW + 30 * 86400},
        {**GOOD, "nbf": NOW + 3600},
        {**GOOD, "at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
def test_what_is_not_said_of_this_very_login_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        verify_id_token(sign(claims), keys(), EXPECTED)


def test_an_expired_token_is_told_as_such() -> None:
    with pytest.raises(Unauthorized, match="expired"):
        verify_id_token(sign({**GOOD, "exp": NOW - 3600}), keys(), EXPECTED)


def test_the_access_token_that_belongs_to_it_is_taken() -> None:
    digest = hashlib.sha256(b"at").digest()[:16]
    at_hash = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert verify_id_token(sign({**GOOD, "at_hash": at_hash}), keys(), EXPECTED)


def test_without_a_nonce_sent_none_is_demanded() -> None:
    expected = Expected(issuer=ISSUER, audience=CLIENT, now=NOW)
    assert verify_id_token(sign(without("nonce")), keys(), expected)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS256", "RSA-OAEP", "ES256K", 7])
def test_no_algorithm_but_ours_is_taken(alg: Any) -> None:
    for signature in ("", "AAAA"):
        with pytest.raises(Unauthorized):
            verify_id_token(f"{part({'alg': alg, 'kid': 'r1'})}.{part(GOOD)}.{signature}", keys(), EXPECTED)


def test_a_public_key_is_no_shared_secret() -> None:
    for secret in (RSA.as_pem(private=False), orjson.dumps(RSA.as_dict(private=False)), str(RSA["n"]).encode()):
        signed = f"{part({'alg': 'HS256', 'kid': 'r1'})}.{part(GOOD)}"
        digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(Unauthorized):
            verify_id_token(f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}", keys(), EXPECTED)


def test_the_headers_own_key_is_not_believed() -> None:
    own = RSAKey.generate_key(2048)
    for header in ({"jwk": own.as_dict(private=False)}, {"jku": "https://evil.example/keys"}, {"x5u": "https://x"}):
        for kid in ("r1", None):
            with pytest.raises((Unauthorized, UnknownKey)):
                verify_id_token(sign(GOOD, own, kid=kid, **header), keys(), EXPECTED)


def test_a_key_of_another_kind_or_name_is_not_taken() -> None:
    with pytest.raises(UnknownKey):
        verify_id_token(sign(GOOD, kid="e1"), keys(), EXPECTED)
    with pytest.raises(UnknownKey):
        verify_id_token(sign(GOOD, kid="unknown"), keys(), EXPECTED)


def test_without_a_name_there_must_be_one_key_only() -> None:
    one = ProviderKeys({"keys": [RSA.as_dict(private=False)]})
    assert verify_id_token(sign(GOOD, kid=None), one, EXPECTED)
    other = RSAKey.generate_key(2048, {"kid": "r2"})
    with pytest.raises(UnknownKey):
        verify_id_token(sign(GOOD, kid=None), keys(other.as_dict(private=False)), EXPECTED)


def test_keys_that_do_not_sign_or_are_weak_or_broken_do_not_count() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    encrypting = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    shared = OctKey.generate_key(256, {"kid": "oct"})
    found = keys(weak.as_dict(private=False), encrypting.as_dict(private=False), shared.as_dict(), {"kty": "RSA"}, 7)
    for kid in ("weak", "enc", "oct"):
        with pytest.raises(UnknownKey):
            verify_id_token(sign(GOOD, kid=kid), found, EXPECTED)
    assert verify_id_token(sign(GOOD), found, EXPECTED)


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{}] * (MOST_KEYS + 1)}])
def test_what_is_no_set_of_keys_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="keys"):
        ProviderKeys(document)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "x" * (LONGEST + 1), "\ud800", "{}", "....", "=.=.="])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        verify_id_token(text, keys(), EXPECTED)


def test_a_token_that_was_cut_or_changed_is_refused() -> None:
    token = sign(GOOD)
    header, payload, signature = token.split(".")
    changed = part({**GOOD, "sub": "admin"})
    for text in (token[:-8], f"{header}.{payload}.", f"{header}.{changed}.{signature}", f"{token}.x"):
        with pytest.raises(Unauthorized):
            verify_id_token(text, keys(), EXPECTED)


def test_claims_that_are_no_object_are_refused() -> None:
    for payload in (b"[]", b"7", b'"x"', b"null", b"{", b"\xff"):
        token = jws.serialize_compact({"alg": "RS256", "kid": "r1"}, payload, RSA, algorithms=["RS256"])
        with pytest.raises(Unauthorized):
            verify_id_token(token, keys(), EXPECTED)


def test_a_header_that_demands_to_be_understood_is_refused() -> None:
    header = {"alg": "RS256", "kid": "r1", "crit": ["exp"], "exp": 1}
    with pytest.raises(Unauthorized):
        verify_id_token(f"{part(header)}.{part(GOOD)}.AAAA", keys(), EXPECTED)
