"""The refresh token of a page in a browser: in a cookie that no script can read."""

from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx2
import pytest

from tests.apiserver.auth.test_routes import bearing, serving
from tests.apiserver.auth.world import PASSWORD, Replica
from vcstack.apiserver.auth.cookies import COOKIE

WANTED = {"vcstack-session": "cookie"}
WHO = {"user": "alice", "password": PASSWORD}


@pytest.fixture
async def page(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser's page; it keeps cookies as browsers do."""
    await replica.user()
    async with serving(replica) as client:
        yield client


def cookie_of(answer: httpx2.Response) -> Morsel[str]:
    found: Morsel[str] = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    return found


async def login(page: httpx2.AsyncClient) -> dict[str, Any]:
    body: dict[str, Any] = (await page.post("login", json=WHO, headers=WANTED)).json()
    return body


async def test_a_page_gets_the_refresh_token_in_a_cookie_that_no_script_reads(page: httpx2.AsyncClient) -> None:
    answer = await page.post("login", json=WHO, headers=WANTED)
    assert "refreshToken" not in answer.json()
    assert answer.json()["accessToken"]
    cookie = cookie_of(answer)
    assert cookie.key.startswith("__Host-")
    assert (cookie["path"], cookie["domain"], cookie["samesite"].lower()) == ("/", "", "strict")
    assert cookie["httponly"]
    assert cookie["secure"]
    assert cookie["expires"] == cookie["max-age"] == ""
    assert cookie.value not in answer.text


async def test_a_program_gets_it_in_the_body_and_no_cookie(page: httpx2.AsyncClient) -> None:
    answer = await page.post("login", json=WHO)
    assert answer.json()["refreshToken"]
    assert "set-cookie" not in answer.headers


async def test_the_cookie_is_refreshed_by_an_empty_body_and_used_up(page: httpx2.AsyncClient) -> None:
    await login(page)
    first = page.cookies[COOKIE]
    answer = await page.post("refresh", json={})
    assert answer.status_code == 200
    assert "refreshToken" not in answer.json()
    assert cookie_of(answer).value not in ("", first)
    page.cookies.clear()
    other_page = await page.post("refresh", json={}, headers={"cookie": f"{COOKIE}={first}"})
    assert cookie_of(other_page).value == cookie_of(answer).value  # they share it, so it does not matter who was first
    thief = {"cookie": f"{COOKIE}={first}", "user-agent": "another"}
    again = await page.post("refresh", json={}, headers=thief)
    assert again.status_code == 401  # two have it: the session ends
    latest = await page.post("refresh", json={}, headers={"cookie": f"{COOKIE}={cookie_of(answer).value}"})
    assert latest.status_code == 401


async def test_a_cookie_that_is_not_good_is_taken_away(page: httpx2.AsyncClient) -> None:
    answer = await page.post("refresh", json={}, headers={"cookie": f"{COOKIE}=s-1.0.x.y"})
    assert answer.status_code == 401
    assert cookie_of(answer)["max-age"] == "0"
    assert cookie_of(answer).value == ""


async def test_without_token_and_cookie_nothing_is_refreshed(page: httpx2.AsyncClient) -> None:
    assert (await page.post("refresh", json={})).status_code == 401


async def test_the_end_of_a_session_takes_its_cookie(page: httpx2.AsyncClient) -> None:
    await login(page)
    kept = page.cookies[COOKIE]
    answer = await page.post("logout", json={})
    assert answer.status_code == 204
    assert cookie_of(answer)["max-age"] == "0"
    assert COOKIE not in page.cookies
    stolen = await page.post("refresh", json={}, headers={"cookie": f"{COOKIE}={kept}"})
    assert stolen.status_code == 401


async def test_a_session_that_ended_elsewhere_still_gives_its_cookie_back(page: httpx2.AsyncClient) -> None:
    tokens = await login(page)
    kept = page.cookies[COOKIE]
    page.cookies.clear()
    assert (await page.post("logout", json={}, headers=bearing(tokens))).status_code == 204
    answer = await page.post("logout", json={}, headers={"cookie": f"{COOKIE}={kept}"})
    assert answer.status_code == 204
    assert cookie_of(answer)["max-age"] == "0"


async def test_a_login_of_several_steps_ends_in_the_cookie_too(page: httpx2.AsyncClient, replica: Replica) -> None:
    tokens = (await page.post("login", json=WHO)).json()
    proof = {"password": PASSWORD}
    enrolment = (await page.post("mfa/enrol", json=proof, headers=bearing(tokens))).json()
    code = replica.code(enrolment["secret"])
    await page.post("mfa/confirm", json={"code": code}, headers=bearing(tokens))
    replica.clock.skip(60)
    step = await login(page)
    assert step["kind"] == "VerifyMFA"
    assert COOKIE not in page.cookies
    answer = {"challenge": step["challenge"], "code": replica.code(enrolment["secret"])}
    done = await page.post("mfa/verify", json=answer, headers=WANTED)
    assert "refreshToken" not in done.json()
    assert page.cookies[COOKIE]


async def test_an_enrolment_that_completes_a_login_uses_the_cookie_too(
    page: httpx2.AsyncClient, replica: Replica
) -> None:
    await replica.change_user(mfaRequired=True)
    step = await login(page)
    assert step["kind"] == "EnrolMFA"
    challenge = {"challenge": step["challenge"]}
    secret = (await page.post("mfa/enrol", json=challenge)).json()["secret"]
    done = await page.post("mfa/confirm", json={**challenge, "code": replica.code(secret)}, headers=WANTED)
    assert done.json()["tokens"]["accessToken"]
    assert "refreshToken" not in done.json()["tokens"]
    assert page.cookies[COOKIE]
