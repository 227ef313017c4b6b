"""Secrets made for others, by whom it may."""

import json

import pytest
from starlette.requests import Request

from tests.apiserver.auth.world import HOME, PASSWORD, SYSTEM, Replica
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.bearers import Bearers
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.subresources import IdentitySubresources
from vcstack.apiserver.authz import Authorizer
from vcstack.apiserver.context import Call
from vcstack.apiserver.identity import ADMIN, ANONYMOUS, Identity, Role
from vcstack.apiserver.queries import Query
from vcstack.apiserver.targets import Target
from vcstack.specs.errors import ApiError, Forbidden, MethodNotAllowed, NotFound, Unauthorized
from vcstack.specs.registry import get_kind

HOST = Identity(Role.HOST, "system:host:h1", "h1")


@pytest.fixture
def subresources(replica: Replica) -> IdentitySubresources:
    index = AccessIndex(replica.store.cache, replica.clock)
    return IdentitySubresources(replica, Authorizer(replica.store, index, Bearers(replica.store.cache, replica.clock)))


def call(
    kind: str, name: str, sub: str, *, method: str = "POST", identity: Identity = ADMIN, query: bytes = b""
) -> Call:
    scope = {"type": "http", "method": method, "headers": [], "query_string": query, "path": "/"}
    return Call(Request(scope), identity, Target(get_kind(kind), None, name, sub), Query.parse(query))


async def test_an_administrator_hands_out_a_one_time_secret(
    replica: Replica, subresources: IdentitySubresources
) -> None:
    await replica.user()
    answer = await subresources.initial_secret(call("User", "alice", "initialsecret"))
    assert answer.status_code == 201
    found = json.loads(bytes(answer.body))
    assert set(found) == {"secret", "expiresAt"}
    assert isinstance(await replica.login.login("alice", found["secret"], HOME), Challenge)


async def test_an_administrator_forgets_a_lost_second_factor(
    replica: Replica, subresources: IdentitySubresources
) -> None:
    await replica.user()
    await replica.enrol()
    assert (await subresources.mfa(call("User", "alice", "mfa", method="DELETE"))).status_code == 204
    assert await replica.tokens_of(password=PASSWORD)


async def test_a_key_s_secret_is_shown_once_and_its_status_says_when(
    replica: Replica, subresources: IdentitySubresources
) -> None:
    await replica.user()
    key = await replica.key(user="alice")
    for turn in range(2):
        answer = await subresources.secret(call("APIKey", "ci", "secret"))
        found = json.loads(bytes(answer.body))
        assert found["keyId"] == key.uid
        assert ("previousUntil" in found) is bool(turn)
        assert await replica.keys.exchange(found["keyId"], found["secret"], HOME)
    status = await replica.status_of("APIKey", "ci")
    assert (status["keyId"], status["secretCreatedAt"]) == (key.uid, "2026-11-01T12:00:00Z")
    assert status["previousUntil"] == "2026-11-02T12:00:00Z"
    assert found["secret"] not in json.dumps(dict(status))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (call("User", "alice", "initialsecret", identity=ANONYMOUS), Unauthorized),
        (call("User", "alice", "initialsecret", identity=HOST), Forbidden),
        (call("User", "alice", "initialsecret", method="GET"), MethodNotAllowed),
        (call("User", "alice", "initialsecret", query=b"password=x"), ApiError),
        (call("User", "nobody", "initialsecret"), NotFound),
    ],
)
async def test_nobody_else_and_nothing_else(
    replica: Replica, subresources: IdentitySubresources, wrong: Call, error: type[ApiError]
) -> None:
    await replica.user()
    await replica.store.create(get_kind("Host"), {"metadata": {"name": "h1"}, "spec": {}}, actor=SYSTEM)
    with pytest.raises(error):
        await subresources.initial_secret(wrong)
    assert await replica.tokens_of()
