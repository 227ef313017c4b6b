"""Bad input where people and programs say who they are, through the real server: refused alike on every way in."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, cast

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import OKPKey

from tests.apiserver.auth.test_tokens import claims_of, encode, sign
from tests.apiserver.auth.world import Replica
from tests.apiserver.test_accounts import PASSWORD, as_, log_in, put
from tests.apiserver.test_tenancy import network, put_roles
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, error_of
from vcstack.apiserver.auth.tokens import NOT_VALID
from vcstack.apiserver.jointokens import JoinTokens
from vcstack.specs.errors import Forbidden
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

Http = httpx2.AsyncClient
MINE = "/api/v1/projects/mine/networks"
WAYS = (MINE, f"{MINE}/blue", f"{MINE}?watch=true", f"{MINE}/blue/history", "/api/v1/me", "/api/v1/audit", "/metrics")
LOOK_ALIKES = (
    "\u0430lice",
    "al\u0131ce",
    "\uff41lice",
    "alice\u200b",
    "a\u0301lice",
    "\u202eecila",
    "ALICE",
    "alice\u00ad",
)
"""Cyrillic a, dotless i, full width, zero width, an accent on top, right to left, capitals, a soft hyphen."""


@pytest.fixture
async def cloud(api: Api) -> Api:
    await put_roles(api)
    await put(api, "Project", "mine", {})
    await network(api, "mine", "blue")
    await put(api, "User", "alice", {})
    binding = {"subject": {"kind": "User", "name": "alice"}, "role": "project-admin"}
    await put(api, "RoleBinding", "alice", binding, "mine")
    return api


@pytest.fixture
async def nobody(cloud: Api) -> AsyncIterator[Http]:
    async with cloud.raw(cloud.settings(token=None)) as client:
        yield client


class Alice:
    """What somebody who wants to be alice starts from: a good token, and what stands in it."""

    def __init__(self, api: Api, token: str) -> None:
        self.auth = cast(Replica, api.auth)  # what the forgers of tests/apiserver/auth take
        self.auth.clock = api.auth.signing._clock  # type: ignore[assignment]
        self.token = token
        self.head, self.body, self.signature = token.split(".")
        self.claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(self.body + "=="))

    def changed(self, **claims: Any) -> str:
        """Return a token signed by the cloud's own key that says something else."""
        return sign(self.auth, claims_of(self.auth, **{**self.claims, **claims}))

    def shifted(self, by: timedelta) -> str:
        """Return a token that a replica with a wrong clock issued."""
        seconds = int(by.total_seconds())
        return self.changed(**{name: self.claims[name] + seconds for name in ("iat", "nbf", "exp")})


def forged(alice: Alice) -> str:
    own = OKPKey.generate_key("Ed25519")
    head = {"alg": "Ed25519", "typ": "at+jwt", "kid": alice.auth.signing.signer()[0]}
    return jwt.encode(head, alice.claims, own, algorithms=["Ed25519"])


def confused(alice: Alice) -> str:
    kid, key = alice.auth.signing.signer()
    public = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{alice.body}"
    return f"{signed}.{encode(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def without_algorithm(alice: Alice) -> str:
    return f"{encode({'alg': 'none', 'typ': 'at+jwt', 'kid': alice.auth.signing.signer()[0]})}.{alice.body}."


BAD: dict[str, Callable[[Alice], str]] = {
    "forged": forged,
    "another's signature": lambda alice: (
        f"{alice.head}.{encode({**alice.claims, 'sub': 'user:root'})}.{alice.signature}"
    ),
    "alg none": without_algorithm,
    "key confusion": confused,
    "wrong audience": lambda alice: alice.changed(aud="another-api"),
    "wrong issuer": lambda alice: alice.changed(iss="https://evil.example"),
    "truncated": lambda alice: alice.token[:-1],
    "without signature": lambda alice: f"{alice.head}.{alice.body}.",
    "an hour ago": lambda alice: alice.shifted(timedelta(hours=-1)),
    "in an hour": lambda alice: alice.shifted(timedelta(hours=1)),
    "30 days ago": lambda alice: alice.shifted(timedelta(days=-30)),
    "in 30 days": lambda alice: alice.shifted(timedelta(days=30)),
    "another session": lambda alice: alice.changed(sid="s-00000000000000000000"),
    "another user": lambda alice: alice.changed(uid="usr-000000000000"),
}


@pytest.fixture
async def alice(cloud: Api) -> Alice:
    return Alice(cloud, await log_in(cloud, "alice"))


async def test_the_control_is_let_in(cloud: Api, alice: Alice) -> None:
    """The bad ones below differ from these in one point each."""
    for token in (alice.token, alice.changed()):
        async with as_(cloud, token) as client:
            assert (await client.get(MINE)).status_code == 200


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_on_every_way_in(cloud: Api, alice: Alice, name: str) -> None:
    async with as_(cloud, BAD[name](alice)) as client:
        for path in WAYS:
            answer = await client.get(path)
            assert answer.status_code == 401, (path, answer.text)
            assert "blue" not in answer.text
            assert error_of(answer)["message"].startswith((NOT_VALID, "the access token has expired")), answer.text
        assert (await client.post(MINE, json={"metadata": {"name": "red"}, "spec": {}})).status_code == 401


async def test_a_refresh_token_that_was_used_ends_the_session_and_everything_of_it(cloud: Api, nobody: Http) -> None:
    await log_in(cloud, "alice")
    body = {"user": "alice", "password": PASSWORD}
    tokens = (await nobody.post("/api/v1/auth/login", json=body)).json()
    first = {"refreshToken": tokens["refreshToken"]}
    renewed = (await nobody.post("/api/v1/auth/refresh", json=first)).json()
    thief = {"user-agent": "another program"}
    assert (await nobody.post("/api/v1/auth/refresh", json=first, headers=thief)).status_code == 401
    assert (
        await nobody.post("/api/v1/auth/refresh", json={"refreshToken": renewed["refreshToken"]})
    ).status_code == 401
    for token in (tokens["accessToken"], renewed["accessToken"]):
        async with as_(cloud, token) as client:
            assert (await client.get(MINE)).status_code == 401


@pytest.mark.parametrize("shift", [timedelta(hours=1), timedelta(days=30)])
async def test_a_join_token_is_good_once_and_no_longer_than_said_whatever_a_replicas_clock_says(
    memory_etcd: MemoryEtcd, memory_store: Store, shift: timedelta
) -> None:
    """etcd, too, counts how long a token is there, so that a clock that is behind keeps none alive."""
    right, ahead, behind = ManualClock(), ManualClock(), ManualClock()
    ahead.skip(shift.total_seconds())
    behind.skip(-shift.total_seconds())
    one, two, three = (JoinTokens(memory_etcd, c, memory_store.cache.setting_book) for c in (right, ahead, behind))
    token, expires_at = await one.create("h1")
    lifetime = expires_at - right.now()
    if shift > lifetime:
        with pytest.raises(Forbidden):
            await two.redeem(token, "h1", b"key", "h-1")
    await three.redeem(token, "h1", b"key", "h-1")
    for tokens in (one, three):
        with pytest.raises(Forbidden):
            await tokens.redeem(token, "h1", b"another key", "h-1")
    late, _ = await one.create("h2")
    memory_etcd.advance(lifetime.total_seconds() + 1)
    with pytest.raises(Forbidden):
        await three.redeem(late, "h2", b"key", "h-2")


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_nobody_gets_a_name_that_looks_like_anothers(cloud: Api, nobody: Http, name: str) -> None:
    async with cloud.raw() as admin:
        answer = await admin.post("/api/v1/users", json={"metadata": {"name": name}, "spec": {}})
        assert answer.status_code == 422, answer.text
        spec = {"subject": {"kind": "User", "name": name}, "role": "admin"}
        answer = await admin.post("/api/v1/rolebindings", json={"metadata": {"name": "b"}, "spec": spec})
        assert answer.status_code == 422, answer.text
    await log_in(cloud, "alice")
    wrong = await nobody.post("/api/v1/auth/login", json={"user": "nobody", "password": PASSWORD})
    alike = await nobody.post("/api/v1/auth/login", json={"user": name, "password": PASSWORD})
    assert (alike.status_code, error_of(alike)["message"]) == (401, error_of(wrong)["message"])


async def test_a_domain_cannot_be_its_own_parent_on_any_way(cloud: Api) -> None:
    await put(cloud, "Domain", "a", {})
    await put(cloud, "Domain", "b", {"parent": "a"})
    async with cloud.raw() as admin:
        merge = {"content-type": "application/merge-patch+json"}
        answer = await admin.patch("/api/v1/domains/a", content=b'{"spec":{"parent":"b"}}', headers=merge)
        assert answer.status_code == 422, answer.text
        for more in ("", "?missingReferences=Allow"):
            body = {"metadata": {"name": "c"}, "spec": {"parent": "c"}}
            answer = await admin.post(f"/api/v1/domains{more}", json=body)
            assert answer.status_code == 422, answer.text
    assert "parent" not in (await cloud.store.get(get_kind("Domain"), None, "a")).wire["spec"]


async def test_a_binding_that_names_a_missing_role_is_refused_and_gives_nothing(cloud: Api) -> None:
    async with cloud.raw() as admin:
        spec = {"subject": {"kind": "User", "name": "alice"}, "role": "later"}
        answer = await admin.post("/api/v1/rolebindings", json={"metadata": {"name": "b"}, "spec": spec})
        assert answer.status_code == 422, answer.text
        assert "spec.role" in answer.text
