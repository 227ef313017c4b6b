"""Which IP addresses may be connected to on behalf of a tenant.

Everything that is not plainly public is refused; an operator may allow single networks and ports. The tables are
IANA's special-purpose registries of IPv4 and IPv6 addresses; `ipaddress.is_global` differs between patch levels
of Python and lets transition mechanisms through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_V4: Final = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved by the IETF"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT relays"),
        ("192.88.99.0/24", "6to4 relays"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("100::/64", "discarded"),
        ("2001:db8::/32", "documentation"),
        ("2001::/23", "reserved by the IETF"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_TRANSITION: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("::/96", "IPv4-compatible"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
    )
)
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_ISATAP: Final = 0x0000_5EFE
_ISATAP_MASK: Final = 0xFDFF_FFFF
"""Without the bit that says whether the IPv4 address inside is unique in the world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedTarget:
    """What an operator allows although it is not public."""

    network: Network
    ports: frozenset[int] = frozenset({443})
    plain_http: bool = False
    """Whether http:// will do there, and LDAP without TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """Decides about addresses."""

    ports: frozenset[int] = frozenset({443, 8443})
    """Of public addresses. Others belong to protocols that can be spoken to by a forged HTTP request."""
    own_networks: Sequence[Network] = ()
    """Networks of this cloud that have public addresses; refused like private ones."""
    allowed: Sequence[AllowedTarget] = ()
    """Exceptions; they go before everything else, but for addresses that hide another one."""

    def refusal(self, address: Address, port: int, *, plain_http: bool) -> str:
        """Return why the address must not be connected to, for the log; empty: it may be."""
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return "it has a scope"
            if address not in (IPv6Address("::"), IPv6Address("::1")):
                for network, reason in _TRANSITION:
                    if address in network:
                        return f"it is {reason}"
        allowed = self.allows(address, port, plain_http=plain_http)
        if isinstance(address, IPv6Address) and any(address in network for network in _NAT64):
            inside = IPv4Address(int(address) & 0xFFFF_FFFF)
            return self.refusal(inside, port, plain_http=plain_http) if allowed else "it is NAT64"
        return "" if allowed else self._public_refusal(address, port, plain_http)

    def allows(self, address: Address, port: int, *, plain_http: bool) -> bool:
        """Return whether an operator made an exception."""
        return any(_allows(target, address, port, plain_http) for target in self.allowed)

    def _public_refusal(self, address: Address, port: int, plain_http: bool) -> str:
        reason = _special(address)
        if reason:
            return f"it is {reason}"
        if any(address in network for network in self.own_networks):
            return "it is this cloud's own"
        if plain_http:
            return "it is not encrypted"
        return "" if port in self.ports else f"port {port} is none of those allowed"


def _special(address: Address) -> str:
    """Return what the address is besides public; empty: nothing."""
    for network, reason in _SPECIAL_V4 if isinstance(address, IPv4Address) else _SPECIAL_V6:
        if address in network:
            return reason
    if isinstance(address, IPv6Address):
        if address not in _PUBLIC_V6:
            return "reserved"
        if (int(address) >> 32) & _ISATAP_MASK == _ISATAP:
            return "ISATAP"
    return ""


def _allows(target: AllowedTarget, address: Address, port: int, plain_http: bool) -> bool:
    return address in target.network and port in target.ports and (target.plain_http or not plain_http)


def parse_address(text: str) -> Address | None:
    """Return the address in its one usual spelling; None for everything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None
