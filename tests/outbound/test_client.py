"""Guarded requests, on real sockets with real TLS."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outbound.server import ChangingResolver, client_of, ok, redirect, running
from vcstack.outbound.addresses import parse_address
from vcstack.outbound.client import OutboundClient, is_own
from vcstack.outbound.errors import NOT_REACHABLE, BadAnswer, BadUrl, NotReachable, OutboundError
from vcstack.outbound.resolver import SystemResolver

PRIVATE = ["127.0.0.1"]


async def test_the_answer_comes_with_status_headers_and_body(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: ok(b'{"a": 1}', "Content-Type: application/json")
        answer = await client_of(server, tmp_path).fetch("GET", server.url(path="/x?y=1#z"))
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b'{"a": 1}', "application/json")
    head = server.requests[0].decode().lower()
    assert head.startswith("get /x?y=1 http/1.1\r\n")
    assert f"\r\nhost: provider.example:{server.port}\r\n" in head
    assert "\r\naccept-encoding: identity\r\n" in head


async def test_a_body_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        headers = {"Authorization": "Basic eDp5", "Content-Type": "text/plain"}
        await client_of(server, tmp_path).fetch("POST", server.url(), headers=headers, content=b"a=1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == b"a=1"
    assert b"authorization: Basic eDp5" in head


async def test_tls_asks_for_the_name_and_the_certificate_has_to_be_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, names=["other.example"]) as server:
        client = client_of(server, tmp_path)
        await client.fetch("GET", server.url("other.example"))
        assert server.server_names == ["other.example"]
        for wrong in ("provider.example", "127.0.0.1"):
            with pytest.raises(NotReachable) as caught:
                await client.fetch("GET", server.url(wrong))
            assert "certificate" in caught.value.detail.lower()
    assert len(server.requests) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        with pytest.raises(NotReachable):
            await client_of(server, tmp_path / "without").fetch("GET", server.url())
    assert server.requests == []


async def test_a_name_is_resolved_once_and_its_second_answer_is_never_used(tmp_path: Path) -> None:
    """DNS rebinding: first an address that may be used, then the loopback."""
    resolver = ChangingResolver(["127.0.0.1"], ["127.0.0.2"])
    async with running(tmp_path) as server:
        client = client_of(server, tmp_path, resolver)
        assert (await client.fetch("GET", server.url())).status == 200
        assert resolver.asked == ["provider.example"]
        with pytest.raises(NotReachable) as caught:
            await client.fetch("GET", server.url())
    assert "127.0.0.2" in caught.value.detail
    assert len(server.requests) == 1
    assert resolver.asked == ["provider.example"] * 2


@pytest.mark.parametrize("answer", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["::ffff:127.0.0.1"], ["x"]])
async def test_one_address_that_is_refused_refuses_the_name(tmp_path: Path, answer: list[str]) -> None:
    async with running(tmp_path) as server:
        client = client_of(server, tmp_path, ChangingResolver(answer), network="127.0.0.2/32")
        with pytest.raises(NotReachable):
            await client.fetch("GET", server.url())
    assert server.requests == []


async def test_another_address_is_tried_when_one_does_not_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        resolver = ChangingResolver(["127.0.0.3", "127.0.0.1"])
        answer = await client_of(server, tmp_path, resolver, network="127.0.0.0/8").fetch("GET", server.url())
    assert answer.status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"])
async def test_addresses_that_are_not_public_are_refused_without_an_exception(tmp_path: Path, host: str) -> None:
    async with running(tmp_path) as server:
        client = client_of(server, tmp_path, network="192.0.2.0/24")
        with pytest.raises(NotReachable):
            await client.fetch("GET", server.url(host))
    assert server.requests == []


async def test_the_machines_own_names_are_refused(tmp_path: Path) -> None:
    client = OutboundClient()
    for url in ("https://localhost.localdomain/", "https://localhost/", "https://127.0.0.1/"):
        with pytest.raises(OutboundError):
            await client.fetch("GET", url)
    client.close()


async def test_refused_and_not_there_are_told_alike(tmp_path: Path) -> None:
    """Or else a tenant could ask which names and ports there are inside."""
    async with running(tmp_path) as server:
        told = set()
        for answer in ([], ["10.0.0.1"], ["127.0.0.1"], ["127.0.0.5"]):
            client = client_of(server, tmp_path, ChangingResolver(answer), network="127.0.0.5/32")
            with pytest.raises(NotReachable) as caught:
                await client.fetch("GET", server.url())
            told.add(str(caught.value))
    assert told == {f"provider.example {NOT_REACHABLE}"}


async def test_a_redirect_is_not_followed_unless_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: redirect("/elsewhere")
        client = client_of(server, tmp_path)
        with pytest.raises(BadAnswer, match="redirect"):
            await client.fetch("GET", server.url())
        with pytest.raises(BadAnswer, match="redirect"):
            await client.fetch("POST", server.url(), redirects=3)
    assert len(server.requests) == 2


async def test_redirects_end(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: redirect("/again")
        with pytest.raises(BadAnswer, match="redirect"):
            await client_of(server, tmp_path).fetch("GET", server.url(), redirects=3)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1:1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data/", "https://10.1/"]
)
async def test_each_redirect_is_checked_again(tmp_path: Path, location: str) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: redirect(location)
        with pytest.raises((NotReachable, BadUrl)):
            await client_of(server, tmp_path).fetch("GET", server.url(), redirects=3)
    assert len(server.requests) == 1


async def test_a_redirect_to_a_name_is_resolved_and_judged_anew(tmp_path: Path) -> None:
    resolver = ChangingResolver(["127.0.0.1"], ["127.0.0.2"])
    async with running(tmp_path) as server:
        server.answer = lambda request: redirect(server.url(path="/again"))
        with pytest.raises(NotReachable):
            await client_of(server, tmp_path, resolver).fetch("GET", server.url(), redirects=3)
    assert (len(server.requests), len(resolver.asked)) == (1, 2)


async def test_credentials_stay_with_their_origin(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        elsewhere = server.url("other.example")
        server.answer = lambda request: ok(b"") if b"other.example" in request else redirect(elsewhere)
        headers = {"authorization": "Bearer x", "accept": "text/plain"}
        await client_of(server, tmp_path).fetch("GET", server.url(), headers=headers, redirects=1)
    assert [b"authorization" in request for request in server.requests] == [True, False]
    assert all(b"accept: text/plain" in request for request in server.requests)


async def test_a_redirect_out_of_tls_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: redirect(server.url(scheme="http"))
        with pytest.raises(BadUrl, match="http"):
            await client_of(server, tmp_path, plain_http=True).fetch("GET", server.url(), redirects=1)


async def test_plain_http_only_where_an_operator_allows_it(tmp_path: Path) -> None:
    async with running(tmp_path, tls=False) as server:
        url = server.url(scheme="http")
        with pytest.raises(BadUrl, match="https"):
            await client_of(server, tmp_path).fetch("GET", url)
        assert (await client_of(server, tmp_path, plain_http=True).fetch("GET", url)).status == 200


async def test_an_answer_that_is_too_large_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        endless = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] + [
            b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
        ] * 99
        server.answer = lambda request: endless
        with pytest.raises(BadAnswer, match="larger than 1000 bytes"):
            await client_of(server, tmp_path).fetch("GET", server.url(), limit=1000)


async def test_headers_without_end_are_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: [b"HTTP/1.1 200 OK\r\n"] + [b"X: " + b"x" * 9999 + b"\r\n"] * 99
        with pytest.raises(NotReachable):
            await client_of(server, tmp_path).fetch("GET", server.url())


async def test_nothing_is_unpacked(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.answer = lambda request: ok(gzip.compress(b"\0" * 10_000_000), "Content-Encoding: gzip")
        with pytest.raises(BadAnswer, match="gzip"):
            await client_of(server, tmp_path).fetch("GET", server.url())


async def test_an_answer_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.silent = True
        with pytest.raises(NotReachable) as caught:
            await client_of(server, tmp_path, seconds=0.5).fetch("GET", server.url())
    assert caught.value.detail == "it took too long"


async def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with running(tmp_path) as server:
        assert (await client_of(server, tmp_path).fetch("GET", server.url())).status == 200


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "ä", "a\0"])
async def test_a_header_cannot_bring_another_one(tmp_path: Path, value: str) -> None:
    async with running(tmp_path) as server:
        with pytest.raises(ValueError, match="header"):
            await client_of(server, tmp_path).fetch("GET", server.url(), headers={"x": value})
        with pytest.raises(ValueError, match="header"):
            await client_of(server, tmp_path).fetch("GET", server.url(), headers={"Host": "evil.example"})


async def test_the_machines_resolver_finds_its_own_name() -> None:
    resolver = SystemResolver()
    assert "127.0.0.1" in await resolver.resolve("localhost")
    with pytest.raises(OSError, match=r".+"):
        await resolver.resolve("no-such-name.invalid")
    resolver.close()


def test_a_public_address_of_this_machine_is_known_as_its_own() -> None:
    own = parse_address("127.0.0.1")
    assert own is not None
    assert is_own(own)
    script = "from vcstack.outbound.client import is_own; from vcstack.outbound.addresses import parse_address as p;"
    script += "print(is_own(p('9.9.9.9')), is_own(p('9.9.9.10')), is_own(p('2620:fe::fe')))"
    setup = "ip link set lo up; ip addr add 9.9.9.9/32 dev lo; ip addr add 2620:fe::fe/128 dev lo nodad; "
    command = ["unshare", "--net", "sh", "-c", f'{setup} exec "$0" -c "$1"', sys.executable, script]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "False", "True"]
