"""What libvirt lets see of a running machine: its screen, a picture of it, and its figures."""

import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import libvirt

from vcstack.apiclient.instancemessages import DiskMetrics, InstanceMetrics, InterfaceMetrics
from vcstack.nodeagent.backends.libvirt_connection import LibvirtConnection
from vcstack.nodeagent.domain_read import has_screen, parse, read_interfaces
from vcstack.runtime.errors import BackendConflict, BackendRefused

KIB = 1024
PNG = "image/png"
_STATS = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)

Stats = Mapping[str, Any]


class LibvirtViews:
    """The Views protocol on libvirt."""

    def __init__(self, connection: LibvirtConnection) -> None:
        self._connection = connection

    async def open_screen(self, name: str) -> socket.socket:
        """Return a connection with the machine's RFB server, which listens nowhere."""
        return await self._connection.run(_open_screen, name)

    async def take_screenshot(self, name: str) -> bytes:
        """Return what is on the first screen as PNG."""
        return await self._connection.run(_take_screenshot, name)

    async def measure(self, name: str) -> InstanceMetrics:
        """Return what the machine has used."""
        return await self._connection.run(_measure, name)


def _open_screen(connection: Any, name: str) -> socket.socket:
    domain = _find_with_screen(connection, name)
    return socket.socket(fileno=domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))


def _take_screenshot(connection: Any, name: str) -> bytes:
    domain = _find_with_screen(connection, name)
    chunks: list[bytes] = []
    stream = connection.newStream()
    try:
        kind = domain.screenshot(stream, 0)
        stream.recvAll(lambda _stream, chunk, _opaque: chunks.append(chunk), None)
        stream.finish()
    except libvirt.libvirtError:
        stream.abort()
        raise
    if kind != PNG:
        raise BackendRefused(f"the hypervisor draws {kind}, not PNG; QEMU 7.1 and newer do")
    return b"".join(chunks)


def _find_with_screen(connection: Any, name: str) -> Any:
    domain = connection.lookupByName(name)
    if not has_screen(_live(domain)):
        raise BackendConflict("the machine was started before it was given a screen; reboot it: vcctl reboot")
    return domain


def _live(domain: Any) -> Any:
    """Return what the machine is now. Raises BackendConflict when it does not run."""
    if not domain.isActive():
        raise BackendConflict("the machine does not run; start it first")
    return parse(domain.XMLDesc(0))


def _measure(connection: Any, name: str) -> InstanceMetrics:
    domain = connection.lookupByName(name)
    live = _live(domain)
    now = datetime.now(UTC)
    found = connection.domainListGetStats([domain], _STATS, 0)
    if not found or not domain.isActive():
        raise BackendConflict("the machine does not run; start it first")
    stats: Stats = found[0][1]
    macs = {interface.tap: interface.mac for interface in read_interfaces(live)}
    usable = stats.get("balloon.usable")
    return InstanceMetrics(
        observed_at=now,
        machine=live.get("id", ""),
        vcpus=int(stats.get("vcpu.current", 1)),
        cpu_nanoseconds=int(stats.get("cpu.time", 0)),
        memory_bytes=int(stats.get("balloon.current", 0)) * KIB,
        resident_bytes=int(stats.get("balloon.rss", 0)) * KIB,
        usable_bytes=None if usable is None else int(usable) * KIB,
        disks=[_read_disk(stats, f"block.{i}") for i in range(int(stats.get("block.count", 0)))],
        network_interfaces=[_read_interface(stats, f"net.{i}", macs) for i in range(int(stats.get("net.count", 0)))],
    )


def _read_disk(stats: Stats, at: str) -> DiskMetrics:
    return DiskMetrics(
        device=str(stats[f"{at}.name"]),
        read_bytes=int(stats.get(f"{at}.rd.bytes", 0)),
        written_bytes=int(stats.get(f"{at}.wr.bytes", 0)),
        read_requests=int(stats.get(f"{at}.rd.reqs", 0)),
        write_requests=int(stats.get(f"{at}.wr.reqs", 0)),
    )


def _read_interface(stats: Stats, at: str, macs: Mapping[str, str]) -> InterfaceMetrics:
    return InterfaceMetrics(
        mac=macs.get(str(stats[f"{at}.name"]), ""),
        received_bytes=int(stats.get(f"{at}.rx.bytes", 0)),
        sent_bytes=int(stats.get(f"{at}.tx.bytes", 0)),
        received_packets=int(stats.get(f"{at}.rx.pkts", 0)),
        sent_packets=int(stats.get(f"{at}.tx.pkts", 0)),
    )
