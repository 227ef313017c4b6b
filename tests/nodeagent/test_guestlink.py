"""Ways into guests' networks, in the kernel."""

import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from pyroute2 import IPRoute, netns

from vcstack.nodeagent.backends.guestlink import IFA_F_NODAD, PORT, LinkWanted, NetnsLinks, Way

DEVICE = "shltest"
GONE = "02:00:00:00:00:01"


@pytest.fixture
def bridge() -> Iterator[str]:
    """The name of a network namespace that stands for the host's bridge, with what is behind it."""
    name = f"guestlink-{secrets.token_hex(4)}"
    try:
        netns.create(name)
    except PermissionError:
        pytest.skip("network namespaces cannot be made here")
    yield name
    netns.remove(name)


def become_guest(bridge: str, address: str) -> tuple[str, socket.socket]:
    """Have the outer end answer as a guest does; return its MAC address and its server."""
    netns.setns(bridge)
    wide = ip_address(address).max_prefixlen
    with IPRoute() as route:
        [index] = route.link_lookup(ifname=DEVICE)
        flags = {"flags": IFA_F_NODAD} if wide == 128 else {}
        route.addr("add", index=index, address=address, prefixlen=wide - 8, **flags)
        [link] = route.get_links(index)
        mac: str = link.get_attr("IFLA_ADDRESS")
    return mac, socket.create_server((address, PORT), family=socket.AF_INET6 if wide == 128 else socket.AF_INET)


@pytest.mark.daemons
@pytest.mark.parametrize("beginning", ["10.9.0.", "fd00:9::"])
async def test_a_way_goes_when_nobody_needs_it_and_not_with_who_had_the_address_before(
    bridge: str, beginning: str
) -> None:
    source, address, neighbour = (f"{beginning}{number}" for number in (1, 2, 3))
    link = await NetnsLinks(netns=bridge).open(LinkWanted(DEVICE, "0a:54:00:00:00:01", 1400))
    try:
        with ThreadPoolExecutor(1) as thread:
            mac, server = thread.submit(become_guest, bridge, address).result()
        had, has, other = Way(address, GONE, source), Way(address, mac, source), Way(neighbour, GONE, source)
        with server:
            for way in (had, has, other):
                await link.add(way)
            await link.remove(had)
            with await link.connect(has, 30.0) as connection:
                assert connection.getpeername()[0] == address
            await link.remove(has)
            with pytest.raises(OSError, match="unreachable"):
                await link.connect(has, 30.0)
    finally:
        await link.close()
