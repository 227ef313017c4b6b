"""Where requests come from when proxies stand before the server."""

import ipaddress

import pytest

from vcstack.apiserver.proxies import Proxies

PROXY = "10.0.0.5"


def find(client: str, *headers: str, trusted: str = "10.0.0.0/24") -> str:
    networks = [ipaddress.ip_network(trusted)] if trusted else []
    scope = {"client": (client, 4711), "headers": [(b"x-forwarded-for", h.encode()) for h in headers]}
    found = Proxies(networks).find_client(scope)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), PROXY),
        (("198.51.100.7",), "198.51.100.7"),
        (("198.51.100.7:5123",), "198.51.100.7"),
        (("2001:db8::1",), "2001:db8::1"),
        (("[2001:db8::1]:443",), "2001:db8::1"),
        (("203.0.113.9, 198.51.100.7",), "198.51.100.7"),
        (("203.0.113.9, 198.51.100.7, 10.0.0.6",), "198.51.100.7"),
        (("203.0.113.9", "198.51.100.7"), "198.51.100.7"),
        (("nonsense, 198.51.100.7",), "198.51.100.7"),
        (("198.51.100.7, nonsense",), PROXY),
        (("10.0.0.7, 10.0.0.6",), "10.0.0.7"),
        (("",), PROXY),
    ],
)
def test_the_last_hop_that_is_no_proxy_is_the_client(headers: tuple[str, ...], expected: str) -> None:
    assert find(PROXY, *headers) == expected


def test_a_client_that_is_no_proxy_is_not_believed() -> None:
    assert find("198.51.100.7", "203.0.113.9") == "198.51.100.7"


def test_without_the_setting_the_header_is_nothing() -> None:
    assert find(PROXY, "203.0.113.9", trusted="") == PROXY


def test_a_connection_without_an_address_stays_without() -> None:
    scope = {"client": None, "headers": [(b"x-forwarded-for", b"203.0.113.9")]}
    assert Proxies([ipaddress.ip_network("10.0.0.0/24")]).find_client(scope) is None
