"""A host's outside systems in memory: hypervisor, taps, switch and disks, which outlive any agent.

They are small real implementations: what depends on each other in a host does here too. A machine that
starts holds its taps open, a tap that is deleted under it leaves it with a dead card, and a guest may
refuse to let go of one.
"""

# ruff: noqa: ASYNC240 - a fake may touch files

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from vcstack.clock import Clock
from vcstack.nodeagent.backends.guestlink import LinkWanted, Way
from vcstack.nodeagent.backends.hypervisor import Domain, HypervisorFacts, Mark, Owned, Power
from vcstack.nodeagent.backends.switch import ChassisSettings, ShellPort, SwitchFacts, SwitchPort
from vcstack.nodeagent.backends.tap import Tap
from vcstack.nodeagent.domain_read import digest_definition, parse, read_interfaces, read_mark
from vcstack.runtime.errors import BackendAlreadyExists, BackendConflict, BackendNotFound, BackendRefused
from vcstack.specs.kinds.image import ImageFormat


class Streams:
    """Everybody who listens to events gets each of them."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[str | None]] = []

    def tell(self, uid: str | None) -> None:
        for queue in self._queues:
            queue.put_nowait(uid)

    async def listen(self) -> AsyncIterator[str | None]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._queues.append(queue)
        try:
            yield None
            while True:
                yield await queue.get()
        finally:
            self._queues.remove(queue)


class MemoryTaps:
    """The Taps protocol."""

    def __init__(self) -> None:
        self.taps: dict[str, Tap] = {}
        self.streams = Streams()

    async def list_taps(self) -> dict[str, Tap]:
        return dict(self.taps)

    async def ensure_tap(self, name: str, instance: str, mtu: int) -> None:
        known = self.taps.get(name)
        if known is not None and known.instance not in (None, instance):
            raise BackendConflict(f"{name} belongs to instance {known.instance}")
        held = known.held if known else False
        self.taps[name] = Tap(name=name, instance=instance, mtu=mtu, up=True, held=held)

    async def delete_tap(self, name: str) -> None:
        known = self.taps.pop(name, None)
        if known is not None:
            self.streams.tell(known.instance)

    def events(self) -> AsyncIterator[str | None]:
        return self.streams.listen()

    def set_held(self, name: str, held: bool) -> None:
        if name in self.taps:
            self.taps[name] = replace(self.taps[name], held=held)


class MemorySwitch:
    """The Switch protocol."""

    def __init__(self, datapath: str = "netdev") -> None:
        self.ports: dict[str, SwitchPort] = {}
        self.shells: dict[str, ShellPort] = {}
        self.chassis: ChassisSettings | None = None
        self.datapath = datapath
        self.streams = Streams()
        self.changes = 0

    async def list_ports(self) -> dict[str, SwitchPort]:
        return dict(self.ports)

    async def plug(self, port: SwitchPort) -> None:
        self.changes += 1
        self.ports[port.tap] = port
        self.streams.tell(port.instance)

    async def list_shells(self) -> list[ShellPort]:
        return list(self.shells.values())

    async def plug_shell(self, port: ShellPort) -> None:
        self.shells[port.device] = port

    async def unplug(self, tap: str) -> None:
        self.shells.pop(tap, None)
        known = self.ports.pop(tap, None)
        if known is not None:
            self.changes += 1
            self.streams.tell(known.instance)

    async def get_facts(self) -> SwitchFacts:
        return SwitchFacts(version="3.1.0", datapath=self.datapath, encap_ip="192.0.2.11")

    async def configure_chassis(self, settings: ChassisSettings) -> None:
        if self.chassis != settings:
            self.changes += 1
            self.chassis = settings

    def events(self) -> AsyncIterator[str | None]:
        return self.streams.listen()


class MemoryLink:
    """The GuestLink protocol: guests are servers on this machine's loopback."""

    def __init__(self, links: "MemoryLinks", device: str) -> None:
        self._links, self._device = links, device
        self.ways: list[Way] = []

    async def add(self, way: Way) -> None:
        self.ways.append(way)

    async def remove(self, way: Way) -> None:
        self.ways.remove(way)

    async def connect(self, way: Way, seconds: float) -> socket.socket:
        self._links.tried.append(way)
        assert way in self.ways
        port = self._links.servers.get(way.address)
        if port is None:
            raise TimeoutError
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        self._links.made.append(made)
        return made

    async def close(self) -> None:
        self._links.open_links.pop(self._device, None)


class MemoryLinks:
    """The GuestLinks protocol."""

    def __init__(self) -> None:
        self.open_links: dict[str, MemoryLink] = {}
        self.wanted: list[LinkWanted] = []
        self.servers: dict[str, int] = {}
        """The port that answers, by address; who is not named is silent."""
        self.tried: list[Way] = []
        self.made: list[socket.socket] = []

    def end_process(self) -> None:
        """Do what the kernel does when an agent is dead."""
        self.open_links.clear()
        for connection in self.made:
            connection.close()

    async def open(self, wanted: LinkWanted) -> MemoryLink:
        assert wanted.device not in self.open_links
        self.wanted.append(wanted)
        link = self.open_links[wanted.device] = MemoryLink(self, wanted.device)
        return link


class MemoryDisks:
    """The Disks protocol: a file that names its base and size."""

    def __init__(self) -> None:
        self.made: list[Path] = []

    async def make_overlay(self, path: Path, *, base: Path, base_format: ImageFormat, size_gib: int) -> None:
        path.write_text(f"{base} {base_format} {size_gib}")
        self.made.append(path)

    async def grow(self, path: Path, *, size_gib: int) -> None:
        base, format_, size = path.read_text().split()
        if size_gib < int(size):
            raise BackendRefused("a disk does not shrink")
        path.write_text(f"{base} {format_} {size_gib}")

    async def find_base(self, path: Path) -> Path | None:
        return Path(path.read_text().split()[0]) if path.exists() else None


@dataclass
class _Machine:
    """A domain."""

    config: str | None
    defined: str = ""
    live: ET.Element | None = None
    power: Power = Power.STOPPED
    why: str = ""
    started_at: datetime | None = None
    number: int = 0
    broken: set[str] = field(default_factory=set)
    """MACs of cards that the guest does not let go of."""


class MemoryHypervisor:
    """The Hypervisor protocol."""

    def __init__(self, taps: MemoryTaps, clock: Clock) -> None:
        self._taps = taps
        self._clock = clock
        self._numbers = itertools.count(1)
        self.machines: dict[str, _Machine] = {}
        self.streams = Streams()
        self.calls: list[str] = []
        """What changed something, in order."""
        self.starts_fail: BackendRefused | None = None
        self.ignores_button = False

    async def find_domain(self, name: str) -> Domain | None:
        machine = self.machines.get(name)
        if machine is None:
            return None
        inactive = None if machine.config is None else parse(machine.config)
        config = None if inactive is None else read_mark(inactive)[0]
        live = machine.live
        return Domain(
            name=name,
            power=machine.power,
            why=machine.why,
            persistent=inactive is not None,
            config=config,
            edited=inactive is None or digest_definition(inactive) != machine.defined,
            running_from=None if live is None else read_mark(live)[0],
            started_at=machine.started_at if live is not None else None,
            machine=None if live is None else f"m-{machine.number}",
            interfaces=() if live is None else read_interfaces(live),
            serial_device=None,
        )

    async def list_owned(self) -> list[Owned]:
        found = []
        for name, machine in self.machines.items():
            tree = machine.live if machine.config is None else parse(machine.config)
            mark = None if tree is None else read_mark(tree)[0]
            if mark is not None:
                found.append(Owned(name, mark))
        return found

    async def define(self, xml: str) -> None:
        tree = parse(xml)
        name = tree.findtext("name") or ""
        machine = self.machines.setdefault(name, _Machine(config=None))
        machine.config, machine.defined = xml, digest_definition(tree)
        self._changed("define", name)

    async def undefine(self, name: str) -> None:
        machine = self.machines.get(name)
        if machine is None or machine.config is None:
            return
        machine.config = None
        if machine.live is None:
            del self.machines[name]
        self._changed("undefine", name)

    async def start(self, name: str, *, paused: bool = False) -> None:
        machine = self._get(name)
        if machine.live is not None:
            return
        if self.starts_fail is not None:
            raise self.starts_fail
        assert machine.config is not None
        tree = parse(machine.config)
        for card in read_interfaces(tree):
            if card.tap not in self._taps.taps:
                raise BackendRefused(f"no tap {card.tap}")
        for source in tree.findall("devices/disk/source"):
            if not Path(source.get("file", "")).exists():
                raise BackendRefused(f"no file {source.get('file')}")
        for card in read_interfaces(tree):
            self._taps.set_held(card.tap, True)
        machine.live, machine.number, machine.started_at = tree, next(self._numbers), self._clock.now()
        machine.power = Power.PAUSED if paused else Power.RUNNING
        self._changed("start", name)

    async def shut_down(self, name: str) -> None:
        if self._get(name).live is not None and not self.ignores_button:
            self.stop_by_itself(name, "shutdown")

    async def destroy(self, name: str) -> None:
        machine = self.machines.get(name)
        if machine is not None and (machine.live is not None or machine.power is Power.CRASHED):
            self.stop_by_itself(name, "destroyed")

    async def pause(self, name: str) -> None:
        self._set(name, Power.PAUSED)

    async def resume(self, name: str) -> None:
        self._set(name, Power.RUNNING)

    async def attach_interface(self, name: str, xml: str) -> None:
        live = self._get(name).live
        if live is None:
            return
        card = parse(xml)
        new = read_interfaces(parse(f"<d><devices>{xml}</devices></d>"))[0]
        if any(i.mac == new.mac for i in read_interfaces(live)):
            raise BackendAlreadyExists(f"a card {new.mac} is there already")
        if new.tap not in self._taps.taps:
            raise BackendRefused(f"no tap {new.tap}")
        devices = live.find("devices")
        assert devices is not None
        devices.append(card)
        self._taps.set_held(new.tap, True)
        self._changed("attach", name)

    async def detach_interface(self, name: str, mac: str) -> None:
        live = self._get(name).live
        if live is None or mac in self._get(name).broken:
            return
        devices = live.find("devices")
        assert devices is not None
        for card in devices.findall(f"interface/mac[@address='{mac}']/.."):
            tap = card.find("target")
            devices.remove(card)
            self._taps.set_held("" if tap is None else tap.get("dev", ""), False)
        self._changed("detach", name)

    async def get_facts(self) -> HypervisorFacts:
        return HypervisorFacts("x86_64", 2, 4096, "9.0.0", "7.2.0")

    def events(self) -> AsyncIterator[str | None]:
        return self.streams.listen()

    def stop_by_itself(self, name: str, why: str) -> None:
        """End the machine as a guest, a crash or an operator does."""
        machine = self._get(name)
        for card in read_interfaces(machine.live) if machine.live is not None else ():
            self._taps.set_held(card.tap, False)
        machine.live, machine.power, machine.why = None, Power.STOPPED, why
        if machine.config is None:
            del self.machines[name]
        self._changed("stop", name)

    def edit(self, name: str, before: str, after: str) -> None:
        """Change the definition as ``virsh edit`` does."""
        machine = self._get(name)
        assert machine.config is not None
        assert before in machine.config
        machine.config = machine.config.replace(before, after)

    def delete_tap(self, name: str) -> None:
        """Delete a tap as an operator does: who had it open keeps a dead file."""
        self._taps.taps.pop(name)

    def add_foreign(self, name: str) -> None:
        """Add a domain of somebody else's."""
        self.machines[name] = _Machine(config=f"<domain><name>{name}</name></domain>")

    def mark_of(self, name: str) -> Mark | None:
        machine = self._get(name)
        return None if machine.config is None else read_mark(parse(machine.config))[0]

    def _set(self, name: str, power: Power) -> None:
        self._get_live(name)
        if self._get(name).power is not power:
            self._get(name).power = power
            self._changed(str(power), name)

    def _get(self, name: str) -> _Machine:
        if name not in self.machines:
            raise BackendNotFound(f"no domain {name}")
        return self.machines[name]

    def _get_live(self, name: str) -> ET.Element:
        live = self._get(name).live
        if live is None:
            raise BackendConflict(f"{name} does not run")
        return live

    def _changed(self, what: str, name: str) -> None:
        self.calls.append(what)
        self.streams.tell(name)
