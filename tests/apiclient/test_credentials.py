"""Credentials that change: sessions shared by programs, API keys, and when a connection asks for another token."""

import asyncio
import json
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes.manual_clock import ManualClock
from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.credentials import (
    ApiKey,
    HeldSession,
    HeldTokens,
    KeyCredentials,
    SessionCredentials,
    SessionInMemory,
    SessionPlace,
)
from vcstack.apiclient.faults import BadCredential, LoggedOut
from vcstack.apiclient.sessionfile import SessionFile
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.specs.errors import Unauthorized, Unavailable

URL = "https://api"
SETTINGS = ConnectionSettings(api_url=URL, attempts=1)


class Server:
    """Gives tokens as the API does: a refresh token is good once, and one shown again ends the session."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.generation = 0
        self.ended = self.away = False
        self.refreshes: list[str] = []
        self.exchanges = 0
        self.requests: list[tuple[str, str]] = []
        self.good: Callable[[str], bool] = lambda token: True
        self.hold: asyncio.Event | None = None

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path, body = request.url.path, json.loads(request.content or b"{}")
        if self.away:
            raise httpx2.ConnectError("away")
        if path.endswith("/auth/refresh"):
            return await self.refresh(body["refreshToken"])
        if path.endswith("/auth/token"):
            self.exchanges += 1
            return self.tokens(f"key{self.exchanges}", None)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.requests.append((path, token))
        return httpx2.Response(200, json={}) if self.good(token) else self.refuse()

    async def refresh(self, token: str) -> httpx2.Response:
        self.refreshes.append(token)
        if self.hold is not None:
            await self.hold.wait()
        if self.ended or token != f"r{self.generation}":
            self.ended = True
            return self.refuse()
        self.generation += 1
        return self.tokens(f"a{self.generation}", f"r{self.generation}")

    def tokens(self, access: str, refresh: str | None) -> httpx2.Response:
        wire = {
            "accessToken": access,
            "tokenType": "Bearer",
            "expiresAt": (self.clock.now() + timedelta(minutes=10)).isoformat(),
        }
        return httpx2.Response(200, json=wire | ({"refreshToken": refresh, "session": "s"} if refresh else {}))

    def refuse(self) -> httpx2.Response:
        return httpx2.Response(401, content=Unauthorized("no").to_status().to_json())

    def connection(self, credentials: Any = None) -> Connection:
        return Connection(SETTINGS, credentials=credentials, transport=httpx2.MockTransport(self))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> Server:
    return Server(clock)


def first(clock: ManualClock, **changes: Any) -> HeldSession:
    tokens = HeldTokens(
        access_token="a0",
        renew_at=clock.now() + timedelta(minutes=8),
        expires_at=clock.now() + timedelta(minutes=10),
        refresh_token="r0",
        session="s",
    )
    return HeldSession(api_url=URL, user="alice", tokens=tokens).model_copy(update=changes)


def credentials(server: Server, place: SessionPlace) -> SessionCredentials:
    return SessionCredentials(place, AuthClient(server.connection(), server.clock), api_url=URL, clock=server.clock)


async def test_a_token_is_used_until_most_of_its_life_is_over(server: Server, clock: ManualClock) -> None:
    found = credentials(server, SessionInMemory(first(clock)))
    async with server.connection(found) as connection:
        for _ in range(2):
            await connection.request("GET", "/x")
        clock.skip(8 * 60)
        await connection.request("GET", "/x")
    assert [token for _, token in server.requests] == ["a0", "a0", "a1"]
    assert server.refreshes == ["r0"]


async def test_a_refused_token_is_replaced_once_and_the_request_sent_again(server: Server, clock: ManualClock) -> None:
    server.good = lambda token: token == "a1"
    async with server.connection(credentials(server, SessionInMemory(first(clock)))) as connection:
        await connection.request("POST", "/x", content=b"{}")
        assert [token for _, token in server.requests] == ["a0", "a1"]
        server.good = lambda token: False
        with pytest.raises(Unauthorized):
            await connection.request("GET", "/x")
    assert server.refreshes == ["r0", "r1"]


async def test_a_refused_proof_is_never_shown_twice(server: Server, clock: ManualClock) -> None:
    """A password that is wrong answers 401, too, and counts."""
    server.good = lambda token: False
    async with server.connection(credentials(server, SessionInMemory(first(clock)))) as connection:
        with pytest.raises(Unauthorized):
            await AuthClient(connection).change_password("wrong", "new")
    assert len(server.requests) == 1


async def test_many_tasks_and_programs_renew_once(server: Server, clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "credentials" / "lab.json"
    SessionFile(path).write(first(clock))
    clock.skip(9 * 60)
    programs = [credentials(server, SessionFile(path)) for _ in range(5)]
    tokens = await asyncio.gather(*(each.token() for each in programs for _ in range(3)))
    assert set(tokens) == {"a1"}
    assert server.refreshes == ["r0"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("lab.json.lock").stat().st_mode) == 0o600


async def test_a_renewal_that_was_sent_is_kept_though_its_command_is_interrupted(
    server: Server, clock: ManualClock, tmp_path: Path
) -> None:
    place = SessionFile(tmp_path / "lab.json")
    place.write(first(clock))
    clock.skip(9 * 60)
    server.hold = asyncio.Event()
    asking = asyncio.create_task(credentials(server, place).token())
    while not server.refreshes:
        await asyncio.sleep(0)
    asking.cancel()
    server.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.hold = None
    assert await credentials(server, place).token() == "a1"
    assert not server.ended


async def test_while_the_api_is_away_a_token_is_used_to_its_end(server: Server, clock: ManualClock) -> None:
    found = credentials(server, SessionInMemory(first(clock)))
    server.away = True
    clock.skip(9 * 60)
    assert await found.token() == "a0"
    clock.skip(60)
    with pytest.raises(Unavailable):
        await found.token()
    server.away = False
    assert await found.token() == "a1"


async def test_a_session_that_has_ended_stays_so(server: Server, clock: ManualClock, tmp_path: Path) -> None:
    place = SessionFile(tmp_path / "lab.json")
    place.write(first(clock, devices={"alice": "d"}))
    server.ended = True
    clock.skip(9 * 60)
    for _ in range(2):
        with pytest.raises(LoggedOut, match="alice"):
            await credentials(server, place).token()
    assert server.refreshes == ["r0"]
    assert place.read() == first(clock, tokens=None, devices={"alice": "d"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"user": 3}', "\x00\xff"])
async def test_a_file_that_is_no_session_is_as_good_as_none(server: Server, tmp_path: Path, text: str) -> None:
    path = tmp_path / "lab.json"
    path.write_text(text)
    with pytest.raises(LoggedOut, match="nobody"):
        await credentials(server, SessionFile(path)).token()


async def test_a_session_of_another_api_is_not_used(server: Server, clock: ManualClock) -> None:
    found = credentials(server, SessionInMemory(first(clock, api_url="https://elsewhere")))
    with pytest.raises(LoggedOut, match="nobody"):
        await found.token()
    assert server.refreshes == []


async def test_times_follow_the_servers_clock(server: Server, clock: ManualClock) -> None:
    """Here it is an hour later than there; the token still lasts as long as there."""
    there = clock.now() - timedelta(hours=1)

    def answer(request: httpx2.Request) -> httpx2.Response:
        expires = (there + timedelta(minutes=10)).isoformat()
        headers = {"date": there.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        return httpx2.Response(200, json={"accessToken": "a", "expiresAt": expires}, headers=headers)

    async with Connection(SETTINGS, transport=httpx2.MockTransport(answer)) as connection:
        reply = await AuthClient(connection, clock).exchange("id", "secret")
    assert reply.expires_at == clock.now() + timedelta(minutes=10)


async def test_a_key_is_exchanged_when_it_has_to_be(server: Server, clock: ManualClock) -> None:
    found = KeyCredentials(ApiKey("ak-1", "s"), AuthClient(server.connection(), clock), clock=clock)
    async with server.connection(found) as connection:
        await asyncio.gather(*(connection.request("GET", "/x") for _ in range(4)))
        assert server.exchanges == 1
        clock.skip(9 * 60)
        await connection.request("GET", "/x")
    assert server.exchanges == 2
    assert server.requests[-1] == ("/x", "key2")


def test_a_key_is_read_as_it_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("ak-1:vck_s\n")
    assert ApiKey.read(path) == ApiKey("ak-1", "vck_s")
    assert str(ApiKey.read(path)) == "ak-1:vck_s"
    path.write_text("vck_s")
    with pytest.raises(BadCredential) as raised:
        ApiKey.read(path)
    assert "vck_s" not in raised.value.message
