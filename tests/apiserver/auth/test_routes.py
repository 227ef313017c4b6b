"""Logging in over HTTP: the routes by themselves, real requests over a socket-less ASGI connection."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.apiserver.auth.world import PASSWORD, Replica
from tests.fixtures.api import error_of
from vcstack.apiserver.auth.requests import BODY_LIMIT
from vcstack.apiserver.auth.routes import PREFIX
from vcstack.apiserver.replies import error_reply
from vcstack.specs.errors import ApiError

Http = httpx2.AsyncClient
ANOTHER = "nine green lanterns hum"


@contextlib.asynccontextmanager
async def serving(replica: Replica) -> AsyncIterator[Http]:
    routes = replica.routes

    async def answer(request: Request) -> Response:
        try:
            return await routes.answer(request)
        except ApiError as error:
            return error_reply(error)

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    application = Starlette(routes=[Route(PREFIX + "{path:path}", answer, methods=every)])
    transport = httpx2.ASGITransport(application, client=("192.0.2.10", 50000))
    base = "https://cloud.example:8443" + PREFIX
    async with Http(base_url=base, transport=transport, headers={"user-agent": "vcctl/1"}) as client:
        yield client


@pytest.fixture
async def http(replica: Replica) -> AsyncIterator[Http]:
    await replica.user()
    async with serving(replica) as client:
        yield client


async def login(http: Http, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    found = await http.post("login", json={"user": "alice", "password": password, **more})
    assert found.status_code == 200, found.text
    body: dict[str, Any] = found.json()
    return body


def bearing(tokens: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['accessToken']}"}


async def test_a_life_of_logins_over_http(http: Http, replica: Replica) -> None:
    """First password, second factor, recovery, refresh, another password, the end."""
    issued = await replica.login.issue_initial_secret("alice")
    step = await login(http, issued.secret)
    assert step["kind"] == "SetPassword"
    tokens = (await http.post("password", json={"challenge": step["challenge"], "newPassword": PASSWORD})).json()
    assert tokens["tokenType"] == "Bearer"

    proof = {"password": PASSWORD}
    enrolment = (await http.post("mfa/enrol", json=proof, headers=bearing(tokens))).json()
    assert enrolment["uri"].startswith("otpauth://totp/")
    code = replica.code(enrolment["secret"])
    codes = (await http.post("mfa/confirm", json={"code": code}, headers=bearing(tokens))).json()["recoveryCodes"]
    assert len(codes) == 10

    replica.clock.skip(60)
    step = await login(http, device=tokens["deviceToken"])
    assert step["kind"] == "VerifyMFA"
    assert "accessToken" not in step
    answer = {"challenge": step["challenge"], "code": replica.code(enrolment["secret"])}
    tokens = (await http.post("mfa/verify", json=answer)).json()
    tokens = (await http.post("refresh", json={"refreshToken": tokens["refreshToken"]})).json()

    proof = {"password": PASSWORD, "code": codes[0]}
    fresh = (await http.post("mfa/recoverycodes", json=proof, headers=bearing(tokens))).json()["recoveryCodes"]
    change = {"password": PASSWORD, "newPassword": ANOTHER}
    assert (await http.post("password", json=change, headers=bearing(tokens))).status_code == 204
    proof = {"password": ANOTHER, "code": fresh[0]}
    assert (await http.post("mfa/disable", json=proof, headers=bearing(tokens))).status_code == 204
    assert (await http.post("logout", json={}, headers=bearing(tokens))).status_code == 204
    assert error_of(await http.post("mfa/enrol", json=proof, headers=bearing(tokens)))["code"] == 401


async def test_a_wrong_login_is_one_answer_for_all(http: Http) -> None:
    answers = set()
    for body in ({"user": "alice", "password": "wrong"}, {"user": "nobody", "password": PASSWORD}):
        found = await http.post("login", json=body)
        assert error_of(found)["reason"] == "Unauthorized"
        answers.add((found.status_code, found.content, tuple(sorted(found.headers))))
    assert len(answers) == 1


async def test_slowing_down_says_for_how_long(http: Http) -> None:
    for _ in range(5):
        await http.post("login", json={"user": "alice", "password": "wrong"})
    found = await http.post("login", json={"user": "alice", "password": PASSWORD})
    assert (found.status_code, found.headers["retry-after"]) == (429, "2")


async def test_a_key_is_exchanged(http: Http, replica: Replica) -> None:
    issued = await replica.keys.issue(await replica.key(user="alice"))
    tokens = (await http.post("token", json={"keyId": issued.key_id, "secret": issued.secret})).json()
    assert set(tokens) == {"accessToken", "tokenType", "expiresAt"}
    # A key's token is no session: it changes nothing about how its owner logs in.
    for path, body in (("mfa/enrol", {"password": PASSWORD}), ("logout", {})):
        assert error_of(await http.post(path, json=body, headers=bearing(tokens)))["code"] == 401


async def test_the_public_keys_are_for_everybody(http: Http, replica: Replica) -> None:
    assert (await http.get("keys")).json() == replica.signing.publish()


async def test_logging_out_by_refresh_token_needs_no_access_token(http: Http, replica: Replica) -> None:
    tokens = await login(http)
    assert (await http.post("logout", json={"refreshToken": tokens["refreshToken"]})).status_code == 204
    assert await replica.session_names() == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("login", b"", 400),
        ("login", b"[]", 400),
        ("login", b"{", 400),
        ("login", b'{"user":"alice"}', 422),
        ("login", b'{"user":"alice","password":7}', 422),
        ("login", b'{"user":"alice","password":null}', 422),
        ("login", b'{"user":"alice","password":"x","admin":true}', 422),
        ("login", b'{"user":"alice","password":"x","password":"y"}', 400),
        ("login", b'{"user":"alice","password":"\\ud800"}', (400, 401, 422)),
        ("login", b'{"user":"alice","password":"\xff"}', 400),
        ("login", b'{"user":"a","password":"%s"}' % (b"x" * 5000), 422),
        ("login", b'{"user":"a","password":"%s"}' % (b"x" * BODY_LIMIT), 413),
        ("login", b'{"a":' * 200 + b"1" + b"}" * 200, 400),
        ("refresh", b'{"refreshToken":""}', 401),
        ("refresh", b'{"refreshToken":"s-1.0.a.b"}', 401),
        ("mfa/verify", b'{"challenge":"","code":""}', 401),
        ("mfa/confirm", b'{"code":"123456"}', 401),
        ("password", b'{"newPassword":"nine green lanterns hum"}', 401),
        ("token", b'{"keyId":"","secret":""}', 401),
        ("nothing", b"{}", 404),
        ("", b"{}", 404),
        ("mfa", b"{}", 404),
    ],
)
async def test_bad_bodies_are_refused_in_one_shape(http: Http, path: str, body: bytes, code: Any) -> None:
    found = await http.post(path, content=body, headers={"content-type": "application/json"})
    assert error_of(found)["code"] in (code if isinstance(code, tuple) else (code,))


async def test_a_refusal_never_repeats_the_secret(http: Http) -> None:
    for body in ({"user": "alice", "password": ["hunter2"]}, {"user": "alice", "password": "hunter2", "x": "hunter2"}):
        assert "hunter2" not in (await http.post("login", json=body)).text


async def test_no_form_and_no_other_method_gets_in(http: Http) -> None:
    """A page of another site can post a form, not JSON."""
    form = {"user": "alice", "password": PASSWORD}
    assert error_of(await http.post("login", data=form))["code"] == 415
    assert error_of(await http.post("login", content=b"{}", headers={"content-type": "text/plain"}))["code"] == 415
    assert error_of(await http.get("login"))["code"] == 405
    assert error_of(await http.post("keys", json={}))["code"] == 405
    assert error_of(await http.post("login?user=alice", json=form))["code"] == 400


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "Bearer a.b.c", "bearer " + "x" * 9000]
)
async def test_a_wrong_bearer_is_unauthorized(http: Http, value: str) -> None:
    found = await http.post("mfa/enrol", json={"password": PASSWORD}, headers={"authorization": value})
    assert error_of(found)["code"] == 401
    assert "www-authenticate" in found.headers


async def test_no_proxy_s_word_is_taken_for_where_a_key_is_used(http: Http, replica: Replica) -> None:
    issued = await replica.keys.issue(await replica.key(user="alice", sourceNetworks=["198.51.100.0/24"]))
    headers = {"x-forwarded-for": "198.51.100.7", "forwarded": "for=198.51.100.7", "x-real-ip": "198.51.100.7"}
    found = await http.post("token", json={"keyId": issued.key_id, "secret": issued.secret}, headers=headers)
    assert error_of(found)["code"] == 403
