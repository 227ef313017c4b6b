"""Taking URLs apart that somebody else wrote."""

import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.outbound.errors import BadUrl
from vcstack.outbound.urls import follow, parse_url

BAD = [
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/_x",
    "unix:///run/docker.sock",
    "javascript:alert(1)",
    "https:example.com",
    "https:///example.com",
    "https://",
    "https://:443/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@evil.example/",
    "https://@example.com/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:99999999999/",
    "https://example.com:+443/",
    "https://example.com:/",
    "https://example.com\\@evil.example/",
    "https://example.com/a b",
    "https://example.com/\r\nHost:evil.example",
    "https://example.com/\0",
    "https://exam\tple.com/",
    "https://example%2ecom/",
    "https://exämple.com/",
    "https://example。com/",
    "https://①②⑦.⓪.⓪.①/",
    "https://localhost/",
    "https://metadata/",
    "https://.example.com/",
    "https://example..com/",
    "https://-example.com/",
    "https://example-.com/",
    "https://exa$mple.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + ".".join(["a" * 60] * 5) + "/",
    "https://example.com/" + "a" * 2048,
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.1.5/",
    "https://127.0.0.0x1/",
    "https://127.0.0.01/",
    "https://256.0.0.1/",
    "https://0/",
    "https://0x/",
    "https://example.0x1/",
    "https://example.123/",
    "https://[::1/",
    "https://::1/",
    "https://[127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[example.com]/",
]


@pytest.mark.parametrize("text", BAD)
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        parse_url(text)


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("https://example.com", "https://example.com/", "example.com", 443),
        ("HTTPS://EXAMPLE.com:443/A?b#c", "https://example.com/A?b", "example.com", 443),
        ("https://example.com./x", "https://example.com/x", "example.com", 443),
        ("https://example.com?x=1", "https://example.com/?x=1", "example.com", 443),
        ("https://example.com//evil.example/x", "https://example.com//evil.example/x", "example.com", 443),
        ("https://example.com/@evil.example", "https://example.com/@evil.example", "example.com", 443),
        ("http://a.example:8080/", "http://a.example:8080/", "a.example", 8080),
        ("https://xn--exmple-cua.com/", "https://xn--exmple-cua.com/", "xn--exmple-cua.com", 443),
        ("https://192.0.2.1:8443/", "https://192.0.2.1:8443/", "192.0.2.1", 8443),
        ("https://[2001:DB8:0::1]/", "https://[2001:db8::1]/", "2001:db8::1", 443),
        ("https://0.a.example/", "https://0.a.example/", "0.a.example", 443),
    ],
)
def test_a_url_has_one_spelling_afterwards(text: str, url: str, host: str, port: int) -> None:
    target = parse_url(text)
    assert (target.url, target.host, target.port) == (url, host, port)
    assert parse_url(target.url) == target


@given(st.ip_addresses(v=4), st.integers(0, 3), st.data())
def test_no_odd_form_of_an_ipv4_address_gets_through(address: IPv4Address, shorter: int, data: st.DataObject) -> None:
    """Whatever inet_aton would read is refused, unless it is the usual form, which stays what it is."""
    octets = list(address.packed)
    numbers = [*octets[: 3 - shorter], int.from_bytes(bytes(octets[3 - shorter :]))]
    text = ".".join(data.draw(st.sampled_from([f"{n}", f"0{n:o}", f"{n:#x}", f"{n:#X}"])) for n in numbers)
    assert socket.inet_aton(text) == address.packed
    if text == str(address):
        assert parse_url(f"https://{text}/").host == text
    else:
        with pytest.raises(BadUrl):
            parse_url(f"https://{text}/")


@given(st.text(max_size=60))
def test_any_text_is_refused_or_has_a_stable_meaning(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://a.example{text}"):
        try:
            target = parse_url(candidate)
        except BadUrl:
            continue
        assert parse_url(target.url) == target
        assert target.url.isascii()


def test_a_redirect_leads_on_but_not_out_of_tls() -> None:
    target = parse_url("https://a.example/x/y?z")
    assert follow(target, "../w").url == "https://a.example/w"
    assert follow(target, "//b.example/w").url == "https://b.example/w"
    for location in ("http://a.example/", "file:///etc/passwd", "\\\\b.example", "//user@b.example/", "/a b"):
        with pytest.raises(BadUrl):
            follow(target, location)
