"""What a guest is told of its network cards when it boots for the first time. Pure."""

from collections.abc import Iterable
from ipaddress import ip_network

from vcstack.nodeagent.backends.seed import SeedCard
from vcstack.specs.kinds.port import PortAddress
from vcstack.specs.kinds.subnet import DHCP, Subnet, find_router


def build_card(mac: str, mtu: int, held: Iterable[tuple[PortAddress, Subnet]]) -> SeedCard:
    """Return the card: IPv4 by DHCP where the subnet has it, all else set by the guest.

    IPv6 is never left to DHCPv6: most guests ask only when a router's advertisement tells them to, and
    DHCPv6 tells no prefix, so without a router neighbours would not be found either.
    """
    dhcp4, addresses, routes, dns_servers = False, [], [], []
    for address, subnet in held:
        spec, network = subnet.spec, ip_network(subnet.spec.cidr)
        if network.version == 4 and spec.dhcp is DHCP.ENABLED:
            dhcp4 = True
            continue
        addresses.append(f"{address.address}/{network.prefixlen}")
        routes += [(route.destination, route.next_hop) for route in spec.host_routes]
        router, everywhere = find_router(subnet), "0.0.0.0/0" if network.version == 4 else "::/0"
        if router and everywhere not in dict(routes):
            routes.append((everywhere, router))
        dns_servers += spec.dns_servers
    return SeedCard(mac, mtu, dhcp4, addresses, routes, dns_servers)
