"""What the client does when a limit on requests is reached: it waits as long as the server says, and no longer than it
has patience."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.fakes.manual_clock import ManualClock
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.specs.errors import ApiError, ErrorDetails, RateLimited, TooManyRequests, Unavailable

Answer = Callable[[httpx2.Request], httpx2.Response]


class HurryingClock(ManualClock):
    """Time that passes at once, and is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.skip(seconds)


class Server:
    """Refuses some times, then answers."""

    def __init__(self, error: ApiError, times: int = 1, headers: dict[str, str] | None = None) -> None:
        self.error, self.times, self.headers = error, times, headers or {}
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(request.content)
        if len(self.bodies) > self.times:
            return httpx2.Response(200, json={"done": True})
        return httpx2.Response(self.error.CODE, content=self.error.to_status().to_json(), headers=self.headers)


def refusal(seconds: int | None, cls: type[ApiError] = RateLimited) -> ApiError:
    return cls("slow down", details=ErrorDetails(retry_after_seconds=seconds))


@pytest.fixture
def clock() -> HurryingClock:
    return HurryingClock()


def connect(server: Server, clock: HurryingClock, **options: Any) -> Connection:
    patience = options.pop("patience", 60.0)
    settings = ConnectionSettings(api_url="https://api", token="t", patience_seconds=patience)
    return Connection(settings, transport=httpx2.MockTransport(server), clock=clock, **options)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_any_request_is_sent_again_when_the_server_says(clock: HurryingClock, method: str) -> None:
    server = Server(refusal(7), times=2)
    async with connect(server, clock) as connection:
        content = None if method in ("GET", "DELETE") else b'{"a":1}'
        answer = await connection.request(method, "/x", content=content)
    assert answer.json() == {"done": True}
    assert len(clock.slept) == 2
    assert all(7 <= seconds <= 7.7 for seconds in clock.slept), "not before, and not all at the same moment"
    assert server.bodies == [content or b""] * 3


async def test_a_watch_begins_when_the_server_says(clock: HurryingClock) -> None:
    server = Server(refusal(3))
    async with connect(server, clock) as connection, connection.stream("GET", "/x") as response:
        assert response.status_code == 200
    assert len(clock.slept) == 1


async def test_patience_ends(clock: HurryingClock) -> None:
    server = Server(refusal(20), times=100)
    async with connect(server, clock, patience=50.0) as connection:
        with pytest.raises(RateLimited, match="slow down"):
            await connection.request("POST", "/x", content=b"{}")
    assert len(clock.slept) == 2


async def test_a_wait_that_is_too_long_is_told_at_once(clock: HurryingClock) -> None:
    server = Server(refusal(3600))
    async with connect(server, clock) as connection:
        with pytest.raises(RateLimited) as raised:
            await connection.request("GET", "/x")
    assert raised.value.details.retry_after_seconds == 3600
    assert clock.slept == []


@pytest.mark.parametrize("error", [refusal(5, TooManyRequests), refusal(None)], ids=["failures", "no-time"])
async def test_other_refusals_are_not_waited_for(clock: HurryingClock, error: ApiError) -> None:
    """A login after too many wrong passwords is the person's decision, not the program's."""
    server = Server(error)
    async with connect(server, clock) as connection:
        with pytest.raises(TooManyRequests):
            await connection.request("POST", "/api/v1/auth/login", content=b"{}")
    assert (clock.slept, len(server.bodies)) == ([], 1)


async def test_a_body_that_can_be_read_once_is_not_sent_twice(clock: HurryingClock) -> None:
    async def once() -> Any:
        yield b"part"

    server = Server(refusal(1))
    async with connect(server, clock) as connection:
        with pytest.raises(RateLimited):
            await connection.request("PUT", "/x", content=once())
    assert len(server.bodies) == 1


async def test_who_asks_is_told_that_it_waits_and_why(clock: HurryingClock) -> None:
    told: list[tuple[int, str]] = []
    async with connect(Server(refusal(4)), clock, on_wait=lambda *what: told.append(what)) as connection:
        await connection.request("GET", "/x")
    assert told == [(4, "slow down")]


async def test_a_read_that_a_busy_server_puts_off_waits_as_long_as_it_says(clock: HurryingClock) -> None:
    async with connect(Server(refusal(9, Unavailable)), clock) as connection:
        await connection.request("GET", "/x")
    assert len(clock.slept) == 1
    assert clock.slept[0] >= 9


async def test_a_proxy_may_say_when_in_the_header_only(clock: HurryingClock) -> None:
    server = Server(Unavailable("later"), headers={"retry-after": "6"})
    async with connect(server, clock) as connection:
        await connection.request("GET", "/x")
    assert clock.slept[0] >= 6
