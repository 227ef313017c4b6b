"""Ways into guests' networks: a network namespace with one end of a veth pair, the other one on the bridge.

The namespace has no name: a thread of its own holds it, so that the kernel takes it away with all that is in it when
the agent ends, however that comes about. It has no routes but to the guests that are being talked to, whose MAC
addresses are given, so it asks nobody and believes nobody; nothing listens in it, and it forwards nothing.
"""

import array
import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.exceptions import NetlinkError

from vcstack.nodeagent.backends.threads import Threads
from vcstack.runtime.errors import BackendConflict, BackendUnavailable

TIMEOUT_SECONDS = 10.0
PORT = 22
INNER = "shell0"
"""The device in the namespace."""
CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
IFA_F_NODAD = 0x02
"""linux/if_addr.h: the address is used at once."""
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
"""linux/sockios.h, linux/ethtool.h"""
IDLE_SECONDS, PROBE_SECONDS, PROBES = 30, 10, 6
"""A guest that is silent is asked whether it is still there; one that does not answer for so long is gone."""
SYSCTLS = {"ipv4/ip_forward": "0", "ipv6/conf/all/accept_ra": "0", "ipv6/conf/default/accept_ra": "0"}
"""In /proc/sys/net, of the namespace."""


@dataclass(frozen=True, slots=True)
class LinkWanted:
    """What a way into a network is to be."""

    device: str
    """The end that is outside, for the bridge."""
    mac: str
    """Of the end that is inside."""
    mtu: int


@dataclass(frozen=True, slots=True)
class Way:
    """How one address of a guest is reached."""

    address: str
    mac: str
    source: str
    """The address that the guest sees."""


class GuestLink(Protocol):
    """A way into one network."""

    async def add(self, way: Way) -> None:
        """Make the guest's address reachable; once more for each time it is called."""

    async def remove(self, way: Way) -> None:
        """Undo one call of ``add``."""

    async def connect(self, way: Way, seconds: float) -> socket.socket:
        """Return a TCP connection to port 22. Raises OSError, TimeoutError."""

    async def close(self) -> None:
        """Take it away."""


class GuestLinks(Protocol):
    """Makes ways into networks."""

    async def open(self, wanted: LinkWanted) -> GuestLink:
        """Return a new one; what is left of a device of that name goes. Raises BackendUnavailable."""


class NetnsLinks:
    """Makes real ones. ``netns`` names another network namespace for the outer ends, for tests."""

    def __init__(self, *, netns: str | None = None) -> None:
        self._netns = netns

    async def open(self, wanted: LinkWanted) -> "NetnsLink":
        """Return a new one."""
        link = NetnsLink(wanted.device)
        try:
            await link.make(wanted, self._netns)
        except BaseException:
            await link.close()
            raise
        return link


class NetnsLink:
    """A namespace, held by a thread."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = Threads(f"shell-{device}", 1, TIMEOUT_SECONDS)
        self._outside: Any = None
        self._inside: Any = None
        self._index = 0
        self._sources: Counter[str] = Counter()
        self._guests: Counter[tuple[str, str]] = Counter()

    async def make(self, wanted: LinkWanted, netns: str | None) -> None:
        """Make the namespace and the pair."""
        await self._threads.run(self._make, wanted, netns)

    async def add(self, way: Way) -> None:
        """Make the guest's address reachable."""
        await self._threads.run(self._add, way)

    async def remove(self, way: Way) -> None:
        """Undo one call of ``add``."""
        await self._threads.run(self._remove, way)

    async def connect(self, way: Way, seconds: float) -> socket.socket:
        """Return a TCP connection to port 22."""
        made = await self._threads.run(_make_socket, way)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(made, (way.address, PORT))
        except BaseException:
            made.close()
            raise
        return made

    async def close(self) -> None:
        """Take namespace and pair away."""
        try:
            await self._threads.run(self._close)
        finally:
            self._threads.close()

    def _make(self, wanted: LinkWanted, netns: str | None) -> None:
        if netns:
            pyroute2_netns.setns(netns)
        try:
            self._outside = IPRoute()  # a socket stays in the namespace that it was made in
            _delete(self._outside, wanted.device)
            outer = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _unshare()
                self._inside = IPRoute()
                ends = {"mtu": wanted.mtu, "peer": {"ifname": wanted.device, "mtu": wanted.mtu, "net_ns_fd": outer}}
                self._inside.link("add", ifname=INNER, kind="veth", address=wanted.mac, **ends)
            finally:
                os.close(outer)
            for name, value in SYSCTLS.items():
                # In a container they may be read-only; OVN lets nothing but answers come here in any case.
                with contextlib.suppress(OSError):
                    Path("/proc/sys/net", name).write_text(value)
            self._index = self._inside.link_lookup(ifname=INNER)[0]
            _stop_offloading()
            self._outside.link("set", ifname=wanted.device, state="up")
            self._inside.link("set", index=self._index, state="up")
        except (NetlinkError, OSError) as error:
            raise BackendUnavailable(f"no way into the guest's network can be made: {error}") from error

    def _add(self, way: Way) -> None:
        if way.address in self._sources:
            raise BackendConflict(f"shells that are open come from {way.address}, which was the gateway's; end them")
        wide = _bits(way.address)
        try:
            self._sources[way.source] += 1
            if self._sources[way.source] == 1:
                flags = {"flags": IFA_F_NODAD} if wide == 128 else {}
                self._inside.addr("add", index=self._index, address=way.source, prefixlen=wide, **flags)
            self._guests[way.address, way.mac] += 1
            known = {"dst": way.address, "lladdr": way.mac, "ifindex": self._index, "state": "permanent"}
            self._inside.neigh("replace", **known)
            self._inside.route("replace", dst=f"{way.address}/{wide}", oif=self._index, scope="link")
        except NetlinkError as error:
            raise BackendUnavailable(f"no way to {way.address} can be made: {error}") from error

    def _remove(self, way: Way) -> None:
        wide, guest = _bits(way.address), (way.address, way.mac)
        for counter, key in ((self._guests, guest), (self._sources, way.source)):
            counter[key] -= 1  # type: ignore[index]
        with contextlib.suppress(NetlinkError):
            if self._guests[guest] <= 0:
                del self._guests[guest]
            if not any(address == way.address for address, _ in self._guests):  # another guest may have it by now
                self._inside.route("del", dst=f"{way.address}/{wide}", oif=self._index, scope="link")
                self._inside.neigh("del", dst=way.address, ifindex=self._index)
        with contextlib.suppress(NetlinkError):
            if self._sources[way.source] <= 0:
                del self._sources[way.source]
                self._inside.addr("del", index=self._index, address=way.source, prefixlen=wide)

    def _close(self) -> None:
        for route in (self._inside, self._outside):
            if route is self._outside and route is not None:
                _delete(route, self._device)
            if route is not None:
                route.close()


def _bits(address: str) -> int:
    return ip_address(address).max_prefixlen


def _unshare() -> None:
    """Put this thread, and no other one, into a new network namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def _delete(route: Any, device: str) -> None:
    try:
        route.link("del", ifname=device)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _stop_offloading() -> None:
    """Have the kernel fill in checksums: Open vSwitch's userspace datapath passes frames on as they are."""
    value = array.array("I", [ETHTOOL_STXCSUM, 0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP", INNER.encode(), value.buffer_info()[0]))


def _make_socket(way: Way) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if _bits(way.address) == 128 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        silence = (IDLE_SECONDS + PROBE_SECONDS * PROBES) * 1000
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence)
        made.bind((way.source, 0))
    except BaseException:
        made.close()
        raise
    return made
