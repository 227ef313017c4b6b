"""libvirt, wrapped once: domains by name, in our words. See ``libvirt_connection.py`` for the connection."""

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from vcstack.nodeagent.backends.hypervisor import MARK_TAG, NAMESPACE, Domain, HypervisorFacts, Owned, Power
from vcstack.nodeagent.backends.libvirt_connection import LibvirtConnection
from vcstack.nodeagent.domain_read import digest_definition, parse, read_interfaces, read_mark, read_serial_device
from vcstack.nodeagent.domain_xml import build_mark
from vcstack.runtime.errors import BackendConflict, BackendNotFound

_POWER = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.STOPPED,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
}
_WHY = {
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): "shutdown",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): "destroyed",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): "crashed",
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): "failed",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): "user",
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): "ioerror",
    (libvirt.VIR_DOMAIN_PMSUSPENDED, 0): "asleep",
}
READ_TOGETHER_SECONDS = 0.1
"""Two clocks that are read within that time tell the same moment."""


class Libvirt:
    """The Hypervisor protocol on libvirt. ``run_dir`` is where QEMU's pid files are (libvirt's default)."""

    def __init__(self, connection: LibvirtConnection, *, run_dir: Path = Path("/run/libvirt/qemu")) -> None:
        self._connection = connection
        self._run_dir = run_dir

    async def find_domain(self, name: str) -> Domain | None:
        """Return what the domain is like now, or None."""
        try:
            return await self._connection.run(self._observe, name)
        except BackendNotFound:
            return None

    async def list_owned(self) -> list[Owned]:
        """Return the domains with our mark, whatever their state."""
        return await self._connection.run(_list_owned)

    async def define(self, xml: str) -> None:
        """Make the definition so; a running machine goes on as it is."""
        await self._connection.run(_define, xml)

    async def undefine(self, name: str) -> None:
        """Remove the definition. Absent is success."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        try:
            await self._connection.run(lambda c: c.lookupByName(name).undefineFlags(flags))
        except BackendNotFound:
            return

    async def start(self, name: str, *, paused: bool = False) -> None:
        """Start the machine. Running already is success."""
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        await self._unless(Power.RUNNING, name, lambda d: d.createWithFlags(flags))

    async def shut_down(self, name: str) -> None:
        """Press the power button; returns at once. Not running is success."""
        flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        await self._unless(Power.STOPPED, name, lambda d: d.shutdownFlags(flags))

    async def destroy(self, name: str) -> None:
        """Pull the plug. Not running or absent is success."""
        try:
            await self._unless(Power.STOPPED, name, lambda d: d.destroyFlags(0))
        except BackendNotFound:
            return

    async def pause(self, name: str) -> None:
        """Stop the CPUs. Paused already is success."""
        await self._unless(Power.PAUSED, name, lambda d: d.suspend())

    async def resume(self, name: str) -> None:
        """Let the CPUs run. Running already is success."""
        await self._unless(Power.RUNNING, name, _resume)

    async def attach_interface(self, name: str, xml: str) -> None:
        """Plug a card into the running machine. Not running is success: it starts with those of its definition."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        await self._unless(Power.STOPPED, name, lambda d: d.attachDeviceFlags(xml, flags))

    async def detach_interface(self, name: str, mac: str) -> None:
        """Ask the guest to let go of a card, which is gone when it is no longer observed. Not running is success."""
        await self._unless(Power.STOPPED, name, lambda d: _detach(d, mac))

    async def get_facts(self) -> HypervisorFacts:
        """Return versions and size of the machine."""
        return await self._connection.run(_facts)

    def events(self) -> AsyncIterator[str | None]:
        """Yield the names of domains to which something happened; None: anything may have happened."""
        return self._connection.events()

    async def _unless(self, power: Power, name: str, call: Any) -> None:
        """Run the call; that the domain is in the state already is no failure of it."""

        def attempt(connection: Any) -> None:
            domain = connection.lookupByName(name)
            try:
                call(domain)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                    raise
                now = _POWER.get(domain.state()[0])
                if now is not power and not (power is Power.STOPPED and now is Power.CRASHED):
                    raise BackendConflict(f"{name} is {now}: {error}") from error

        await self._connection.run(attempt)

    def _observe(self, connection: Any, name: str) -> Domain:
        domain = connection.lookupByName(name)
        state, reason = domain.state()
        power = _POWER.get(state, Power.STOPPED)
        active = power in (Power.RUNNING, Power.PAUSED)
        persistent = bool(domain.isPersistent())
        inactive = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        config, defined = read_mark(inactive)
        live = parse(domain.XMLDesc(0)) if active else None
        process = self._find_process(name) if active else None
        return Domain(
            name=name,
            power=power,
            why=_WHY.get((state, reason), str(reason)),
            persistent=persistent,
            config=config,
            edited=not persistent or digest_definition(inactive) != defined,
            running_from=None if live is None else read_mark(live)[0],
            started_at=None if process is None else _began(process[1]),
            machine=None if process is None else "{}:{}".format(*process),
            interfaces=() if live is None else read_interfaces(live),
            serial_device=None if live is None else read_serial_device(live),
        )

    def _find_process(self, name: str) -> tuple[int, int] | None:
        """Return pid and start of the QEMU process: proc(5), field 22 of stat, in ticks since the machine's boot."""
        try:
            pid = int((self._run_dir / f"{name}.pid").read_text())
            return pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            return None


def _began(ticks: int) -> datetime:
    """Return when the machine was ticks old."""
    while True:
        now, clock = time.clock_gettime(time.CLOCK_BOOTTIME), datetime.now(UTC)
        if time.clock_gettime(time.CLOCK_BOOTTIME) - now < READ_TOGETHER_SECONDS:
            break  # else we stood still between the two, and would tell another start of the same process
    began = clock - timedelta(seconds=now - ticks / os.sysconf("SC_CLK_TCK"))
    return began.replace(microsecond=began.microsecond // 10_000 * 10_000)


def _resume(domain: Any) -> None:
    if domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


def _define(connection: Any, xml: str) -> None:
    """Define, then note in the metadata what libvirt made of it: an edit by hand will differ from that."""
    domain = connection.defineXML(xml)
    inactive = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    mark, _ = read_mark(inactive)
    if mark is None:
        raise BackendConflict(f"{domain.name()}: libvirt dropped the metadata of the definition")
    # libvirt itself puts the element into the namespace.
    element = ET.tostring(build_mark(mark, defined=digest_definition(inactive), tag=MARK_TAG), encoding="unicode")
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "vcstack", NAMESPACE, config)


def _detach(domain: Any, mac: str) -> None:
    devices = parse(domain.XMLDesc(0)).findall("devices/interface")
    for interface in devices:
        found = interface.find("mac")
        if found is not None and found.get("address") == mac:
            domain.detachDeviceFlags(ET.tostring(interface, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _list_owned(connection: Any) -> list[Owned]:
    owned = []
    for domain in connection.listAllDomains():
        try:
            mark, _ = read_mark(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue
        if mark is not None:
            owned.append(Owned(domain.name(), mark))
    return owned


def _facts(connection: Any) -> HypervisorFacts:
    architecture, memory_mib, vcpus, *_ = connection.getInfo()
    return HypervisorFacts(
        architecture=str(architecture),
        vcpus=int(vcpus),
        memory_mib=int(memory_mib),
        libvirt_version=_version(connection.getLibVersion()),
        qemu_version=_version(connection.getVersion()),
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
