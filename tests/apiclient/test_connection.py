"""The connection: retries of what is safe, errors as what they are, certificates that change."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from tests.fixtures.api import Api
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.faults import NotSent, OutcomeUnknown, read_error
from vcstack.apiclient.paths import collection_path, object_path
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.pki.installation import ensure_installation
from vcstack.specs.errors import (
    ApiError,
    BadRequest,
    ClaimTaken,
    Conflict,
    InternalError,
    Unauthorized,
    Unavailable,
    error_classes,
)
from vcstack.specs.kinds.host import Host
from vcstack.specs.registry import get_kind

Answer = Callable[[httpx2.Request], httpx2.Response]


def connection_to(answer: Answer, **settings: object) -> Connection:
    found = ConnectionSettings(api_url="https://api", token="t", **settings)  # type: ignore[arg-type]
    return Connection(found, transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize("cls", sorted(set(error_classes().values()), key=lambda c: c.__name__))
async def test_each_error_arrives_as_itself(cls: type[ApiError]) -> None:
    body = cls("no").to_status().to_json()
    async with connection_to(lambda request: httpx2.Response(cls.CODE, content=body), attempts=1) as connection:
        with pytest.raises(ApiError) as raised:
            await connection.request("GET", "/x")
    assert (raised.value.CODE, raised.value.REASON, raised.value.message) == (cls.CODE, cls.REASON, "no")


def test_an_answer_of_somebody_else_is_told_as_such() -> None:
    error = read_error(502, b"<html>Bad Gateway</html>")
    assert isinstance(error, InternalError)
    assert "Bad Gateway" in error.message
    assert isinstance(read_error(503, b""), Unavailable)
    assert isinstance(read_error(409, b"{}"), Conflict)
    assert not isinstance(read_error(409, b"{}"), ClaimTaken)


class Failing:
    """Fails some times, then answers."""

    def __init__(self, failures: int, error: Exception | int) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        if self.calls > self.failures:
            return httpx2.Response(200, json={})
        if isinstance(self.error, Exception):
            raise self.error
        return httpx2.Response(self.error, content=Unavailable("later").to_status().to_json())


@pytest.mark.parametrize("error", [httpx2.ReadError("cut"), httpx2.ReadTimeout("late"), httpx2.ConnectError("off")])
async def test_reads_are_repeated(error: Exception) -> None:
    answer = Failing(2, error)
    async with connection_to(answer) as connection:
        assert (await connection.request("GET", "/x")).status_code == 200
    assert answer.calls == 3


async def test_a_write_is_repeated_only_when_it_was_not_sent() -> None:
    not_sent, cut = Failing(1, httpx2.ConnectError("off")), Failing(1, httpx2.ReadError("cut"))
    async with connection_to(not_sent) as connection:
        await connection.request("POST", "/x", content=b"{}")
    assert not_sent.calls == 2
    async with connection_to(cut) as connection:
        with pytest.raises(OutcomeUnknown):
            await connection.request("POST", "/x", content=b"{}")
    assert cut.calls == 1


async def test_a_server_that_stays_away_is_reported_in_the_end() -> None:
    answer = Failing(99, httpx2.ConnectError("off"))
    async with connection_to(answer, attempts=2) as connection:
        with pytest.raises(NotSent, match="cannot reach https://api"):
            await connection.request("GET", "/x")
    assert answer.calls == 2


async def test_a_server_that_is_not_there_is_told_in_a_sentence() -> None:
    async with Connection(ConnectionSettings(api_url="https://127.0.0.1:1", attempts=1)) as connection:
        with pytest.raises(Unavailable, match=r"cannot reach https://127\.0\.0\.1:1"):
            await connection.request("GET", "/healthz")


async def test_a_server_of_another_ca_is_not_trusted(api: Api, tmp_path: Path) -> None:
    stranger = ensure_installation(tmp_path).ca_cert
    async with Connection(api.settings(ca_file=stranger, attempts=1)) as connection:
        with pytest.raises(Unavailable, match="caFile"):
            await connection.request("GET", "/healthz")


async def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    settings = ConnectionSettings(api_url="https://127.0.0.1:1", ca_file=tmp_path / "none.crt", attempts=1)
    async with Connection(settings) as connection:
        with pytest.raises(Unavailable, match="TLS files"):
            await connection.request("GET", "/healthz")


async def test_a_certificate_that_was_replaced_is_used_at_once(api: Api) -> None:
    settings = await api.register("h1")
    other = await api.register("h2")
    assert settings.cert_file
    assert settings.key_file
    assert other.cert_file
    assert other.key_file
    async with Connection(settings) as connection:
        client = ApiClient(connection)
        assert (await client.get(Host, "h1")).metadata.name == "h1"
        settings.key_file.write_bytes(other.key_file.read_bytes())
        settings.cert_file.write_bytes(other.cert_file.read_bytes())
        assert (await client.get(Host, "h2")).metadata.name == "h2"


async def test_a_token_file_is_read_again(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("wrong-token-wrong-token\n")
    async with Connection(api.settings(token=None, token_file=file)) as connection:
        with pytest.raises(Unauthorized):
            await connection.request("GET", "/api/v1")
        file.write_text(api.token)
        assert (await connection.request("GET", "/api/v1")).status_code == 200


@contextlib.asynccontextmanager
async def mute_server(installation_cert: Path, installation_key: Path) -> AsyncIterator[int]:
    """A TLS server that takes requests and never answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(installation_cert, installation_key)
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.close()


async def test_a_server_that_does_not_answer_is_given_up(api: Api) -> None:
    async with mute_server(api.installation.api.cert, api.installation.api.key) as port:
        settings = api.settings(api_url=f"https://127.0.0.1:{port}", request_timeout_seconds=0.1, attempts=2)
        async with Connection(settings) as connection:
            with pytest.raises(OutcomeUnknown, match="did not answer in time"):
                await connection.request("GET", "/healthz")


def test_paths_are_quoted_and_complete() -> None:
    instance, image = get_kind("Instance"), get_kind("Image")
    assert object_path(instance, "demo", "web-1", "log") == "/api/v1/projects/demo/instances/web-1/log"
    assert object_path(image, None, "a/../b") == "/api/v1/images/a%2F..%2Fb"
    assert collection_path(instance, None) == "/api/v1/instances"
    with pytest.raises(BadRequest):
        object_path(instance, None, "web-1")
    with pytest.raises(BadRequest):
        object_path(image, None, "")
