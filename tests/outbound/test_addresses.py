"""Which addresses may be connected to for a tenant."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcstack.outbound.addresses import AddressPolicy, AllowedTarget

POLICY = AddressPolicy()
REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "2a00:1450::5efe:a00:1",
    "2a00:1450::200:5efe:a00:1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.255",
]
PUBLIC += ["2606:4700:4700::1111", "2a00:1450:4001::200e", "2003::1", "2001:4860:4860::8888"]


def refusal(text: str, port: int = 443, policy: AddressPolicy = POLICY, *, plain_http: bool = False) -> str:
    return policy.refusal(ip_address(text), port, plain_http=plain_http)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_plainly_public_is_refused(text: str) -> None:
    assert refusal(text)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_used_with_tls_and_on_usual_ports(text: str) -> None:
    assert not refusal(text)
    assert not refusal(text, 8443)
    for port in (22, 25, 80, 2379, 6379, 11211):
        assert refusal(text, port)
    assert refusal(text, plain_http=True)


@given(st.ip_addresses(v=4).filter(lambda a: not a.is_global or a.is_multicast or a.is_reserved))
def test_whatever_python_takes_for_not_public_is_refused(address: IPv4Address) -> None:
    assert POLICY.refusal(address, 443, plain_http=False)


@given(st.ip_addresses(v=6).filter(lambda a: not a.is_global or a.is_multicast or a.is_reserved))
def test_whatever_python_takes_for_not_public_is_refused_of_ipv6(address: IPv6Address) -> None:
    assert POLICY.refusal(address, 443, plain_http=False)


@given(st.ip_addresses(v=4), st.sampled_from([0, 0xFFFF_0000_0000, 0xFFFF << 48, 0x64_FF9B << 96]))
def test_no_ipv4_address_hides_in_an_ipv6_one(inside: IPv4Address, prefix: int) -> None:
    assert POLICY.refusal(IPv6Address(prefix | int(inside)), 443, plain_http=False)


@given(st.ip_addresses(v=4), st.integers(0, 2**80 - 1))
def test_no_tunnel_is_taken(inside: IPv4Address, rest: int) -> None:
    in_6to4 = IPv6Address(0x2002 << 112 | int(inside) << 80 | rest)
    in_teredo = IPv6Address(0x2001_0000 << 96 | int(inside) << 64 | rest & (2**64 - 1))
    everything = AddressPolicy(allowed=[AllowedTarget(network=ip_network("::/0"))])
    for policy in (POLICY, everything):
        assert policy.refusal(in_6to4, 443, plain_http=False)
        assert policy.refusal(in_teredo, 443, plain_http=False)


def test_own_networks_are_refused_although_they_are_public() -> None:
    policy = AddressPolicy(own_networks=[ip_network("8.8.0.0/16"), ip_network("2606:4700::/32")])
    assert refusal("8.8.8.8", policy=policy)
    assert refusal("2606:4700:4700::1111", policy=policy)
    assert not refusal("8.9.0.1", policy=policy)


def test_an_operator_may_allow_single_networks_and_ports() -> None:
    target = AllowedTarget(network=ip_network("10.1.2.0/24"), ports=frozenset({443, 9443}))
    policy = AddressPolicy(allowed=[target])
    assert not refusal("10.1.2.3", 9443, policy)
    for text, port, plain in (("10.1.2.3", 80, False), ("10.1.3.3", 443, False), ("10.1.2.3", 443, True)):
        assert refusal(text, port, policy, plain_http=plain)
    assert refusal("::ffff:10.1.2.3", 443, policy)


def test_nat64_may_be_allowed_and_then_what_is_inside_is_judged() -> None:
    policy = AddressPolicy(allowed=[AllowedTarget(network=ip_network("64:ff9b::/96"))])
    assert not refusal("64:ff9b::808:808", policy=policy)
    for inside in ("10.0.0.1", "127.0.0.1", "169.254.169.254"):
        assert refusal(f"64:ff9b::{inside}", policy=policy)
