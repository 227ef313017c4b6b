"""The contracts of the host's backends, kept alike by the real ones and by the fakes of the other tests."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hypervisor import MemoryDisks, MemoryHypervisor, MemorySwitch, MemoryTaps
from tests.fakes.manual_clock import ManualClock
from vcstack.nodeagent.backends.disks import Disks, QemuDisks
from vcstack.nodeagent.backends.hypervisor import Hypervisor, Mark, Power
from vcstack.nodeagent.backends.switch import Switch, SwitchPort
from vcstack.nodeagent.backends.tap import Taps
from vcstack.nodeagent.domain_xml import DomainWanted, InterfaceWanted, build_domain, build_interface
from vcstack.runtime.errors import BackendConflict, BackendNotFound, BackendRefused
from vcstack.specs.kinds.image import ImageFormat

UID, TAP, TAP2 = "i-0123456789ab", "tap0123456789ab", "tap0123456789ac"
CARD = InterfaceWanted("52:54:00:00:00:01", TAP, 1442)
PORT = SwitchPort(TAP, "p-0123456789ab", CARD.mac, UID, "demo", "web-1-eth0")


class Host:
    """A host's backends of either sort."""

    hypervisor: Hypervisor
    taps: Taps
    switch: Switch
    disks: Disks
    folder: Path

    async def wanted(self, *cards: InterfaceWanted, memory_mib: int = 64) -> DomainWanted:
        base, disk, seed = (self.folder / name for name in ("base", "root.qcow2", "seed.iso"))
        if not disk.exists():
            base.write_bytes(b"\0" * 4096)
            seed.write_bytes(b"\0" * 4096)
            await self.disks.make_overlay(disk, base=base, base_format=ImageFormat.RAW, size_gib=1)
        mark = Mark(uid=UID, project="demo", name="web-1", generation=2, reboot_fields={"flavor": "abc"})
        return DomainWanted(mark, 1, memory_mib, "qemu", disk, seed, self.folder / "serial.log", cards, True)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.daemons)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    host = Host()
    host.folder = tmp_path
    if request.param == "memory":
        host.taps = MemoryTaps()
        host.switch, host.disks = MemorySwitch(), MemoryDisks()
        host.hypervisor = MemoryHypervisor(host.taps, ManualClock())
    else:
        real: Any = request.getfixturevalue("real_host")
        host.taps, host.switch, host.hypervisor, host.disks = real.taps, real.switch, real.hypervisor, QemuDisks()
    return host


async def test_taps_are_made_once_marked_and_deleted_twice(host: Host) -> None:
    await host.taps.ensure_tap(TAP, UID, 1442)
    await host.taps.ensure_tap(TAP, UID, 1400)
    tap = (await host.taps.list_taps())[TAP]
    assert (tap.instance, tap.mtu, tap.up, tap.held) == (UID, 1400, True, False)
    with pytest.raises(BackendConflict):
        await host.taps.ensure_tap(TAP, "i-ffffffffffff", 1442)
    await host.taps.delete_tap(TAP)
    await host.taps.delete_tap(TAP)
    assert TAP not in await host.taps.list_taps()


async def test_a_deleted_tap_is_told(host: Host) -> None:
    events = host.taps.events()
    assert await asyncio.wait_for(anext(events), 60) is None
    await host.taps.ensure_tap(TAP, UID, 1442)
    await host.taps.delete_tap(TAP)
    assert await asyncio.wait_for(anext(events), 60) == UID


async def test_bridge_ports_are_plugged_changed_and_unplugged_twice(host: Host) -> None:
    await host.taps.ensure_tap(TAP, UID, 1442)
    await host.switch.plug(PORT)
    await host.switch.plug(PORT)
    assert (await host.switch.list_ports())[TAP] == PORT
    other = SwitchPort(TAP, "p-ffffffffffff", CARD.mac, UID, "demo", "other")
    await host.switch.plug(other)
    assert (await host.switch.list_ports())[TAP] == other
    await host.switch.unplug(TAP)
    await host.switch.unplug(TAP)
    assert TAP not in await host.switch.list_ports()


async def test_a_removed_bridge_port_is_told(host: Host) -> None:
    events = host.switch.events()
    assert await asyncio.wait_for(anext(events), 60) is None
    await host.switch.plug(PORT)
    await host.switch.unplug(TAP)
    assert await asyncio.wait_for(anext(events), 60) in (UID, None)


async def test_a_domain_is_what_was_defined_until_somebody_edits_it(host: Host) -> None:
    assert await host.hypervisor.find_domain(UID) is None
    wanted = await host.wanted()
    await host.hypervisor.define(build_domain(wanted))
    domain = await host.hypervisor.find_domain(UID)
    assert domain is not None
    assert (domain.power, domain.edited, domain.active, domain.persistent) == (Power.STOPPED, False, False, True)
    assert domain.config is not None
    assert domain.config.reboot_fields == {"flavor": "abc"}
    assert [o.mark.uid for o in await host.hypervisor.list_owned()] == [UID]
    await host.hypervisor.undefine(UID)
    await host.hypervisor.undefine(UID)
    assert await host.hypervisor.find_domain(UID) is None


async def test_power_calls_are_idempotent_and_a_start_is_another_machine(host: Host) -> None:
    wanted = await host.wanted(CARD)
    await host.taps.ensure_tap(TAP, UID, 1442)
    await host.hypervisor.define(build_domain(wanted))
    for call in (host.hypervisor.start, host.hypervisor.pause, host.hypervisor.resume):
        await call(UID)
        await call(UID)
    first = await host.hypervisor.find_domain(UID)
    assert first is not None
    assert (first.power, first.edited) == (Power.RUNNING, False)
    assert first.started_at is not None
    assert first.running_from == first.config
    assert [(i.mac, i.tap, i.mtu) for i in first.interfaces] == [(CARD.mac, CARD.tap, CARD.mtu)]
    assert (await host.taps.list_taps())[TAP].held
    await host.hypervisor.destroy(UID)
    await host.hypervisor.destroy(UID)
    stopped = await host.hypervisor.find_domain(UID)
    assert stopped is not None
    assert (stopped.power, stopped.machine, stopped.why) == (Power.STOPPED, None, "destroyed")
    assert not (await host.taps.list_taps())[TAP].held
    await host.hypervisor.start(UID, paused=True)
    second = await host.hypervisor.find_domain(UID)
    assert second is not None
    assert second.power is Power.PAUSED
    assert second.machine != first.machine


async def test_a_running_machine_keeps_what_it_was_built_from(host: Host) -> None:
    await host.hypervisor.define(build_domain(await host.wanted()))
    await host.hypervisor.start(UID, paused=True)
    await host.hypervisor.define(build_domain(await host.wanted(memory_mib=96)))
    domain = await host.hypervisor.find_domain(UID)
    assert domain is not None
    assert domain.config is not None
    assert domain.running_from is not None
    assert domain.config.wanted != domain.running_from.wanted
    assert not domain.edited
    await host.hypervisor.undefine(UID)
    domain = await host.hypervisor.find_domain(UID)
    assert domain is not None
    assert not domain.persistent
    assert domain.edited
    await host.hypervisor.destroy(UID)
    assert await host.hypervisor.find_domain(UID) is None


async def test_a_card_is_plugged_in_while_it_runs(host: Host) -> None:
    await host.hypervisor.define(build_domain(await host.wanted()))
    await host.hypervisor.start(UID)
    await host.taps.ensure_tap(TAP2, UID, 1442)
    card = InterfaceWanted("52:54:00:00:00:02", TAP2, 1442)
    await host.hypervisor.attach_interface(UID, build_interface(card, userspace_datapath=True))
    domain = await host.hypervisor.find_domain(UID)
    assert domain is not None
    assert [i.tap for i in domain.interfaces] == [TAP2]
    assert not domain.edited


async def test_cards_of_a_machine_that_went_off_meanwhile_are_left_alone(host: Host) -> None:
    await host.hypervisor.define(build_domain(await host.wanted()))
    await host.taps.ensure_tap(TAP2, UID, 1442)
    card = InterfaceWanted("52:54:00:00:00:02", TAP2, 1442)
    await host.hypervisor.attach_interface(UID, build_interface(card, userspace_datapath=True))
    await host.hypervisor.detach_interface(UID, CARD.mac)
    await host.hypervisor.start(UID, paused=True)
    domain = await host.hypervisor.find_domain(UID)
    assert domain is not None
    assert not domain.edited
    assert domain.interfaces == ()


async def test_calls_on_what_is_not_there_say_so(host: Host) -> None:
    with pytest.raises(BackendNotFound):
        await host.hypervisor.start("i-ffffffffffff")
    await host.hypervisor.destroy("i-ffffffffffff")
    await host.hypervisor.undefine("i-ffffffffffff")


async def test_what_happens_to_a_domain_is_told(host: Host) -> None:
    await host.hypervisor.define(build_domain(await host.wanted()))
    events = host.hypervisor.events()
    told = [await asyncio.wait_for(anext(events), 60)]
    await host.hypervisor.start(UID, paused=True)
    while UID not in told:
        told.append(await asyncio.wait_for(anext(events), 60))


async def test_a_disk_grows_and_is_replaced_whole(host: Host) -> None:
    wanted = await host.wanted()
    before = wanted.root_disk.read_bytes()
    await host.disks.grow(wanted.root_disk, size_gib=2)
    assert wanted.root_disk.read_bytes() != before
    await host.disks.make_overlay(wanted.root_disk, base=host.folder / "base", base_format=ImageFormat.RAW, size_gib=1)
    assert sorted(p.name for p in host.folder.iterdir()) == ["base", "root.qcow2", "seed.iso"]


async def test_a_disk_tells_what_it_lies_on(host: Host) -> None:
    wanted = await host.wanted()
    assert await host.disks.find_base(wanted.root_disk) == host.folder / "base"
    assert await host.disks.find_base(host.folder / "none.qcow2") is None


@pytest.mark.daemons
async def test_a_file_that_is_no_disk_of_ours_is_refused_rather_than_taken_for_one_without_base(tmp_path: Path) -> None:
    disks, disk, base = QemuDisks(), tmp_path / "a.qcow2", tmp_path / "b,c"
    base.write_bytes(b"\0" * 4096)
    await disks.make_overlay(disk, base=base, base_format=ImageFormat.RAW, size_gib=1)
    assert await disks.find_base(disk) == base
    for content in (b"", b"QFI", b"no image at all, but long enough", b"\0" * 4096):
        disk.write_bytes(content)
        with pytest.raises(BackendRefused, match="no qcow2"):
            await disks.find_base(disk)
    for name in ("base", "json:{}"):
        subprocess.run(  # noqa: ASYNC221
            ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", disk, "1G"], check=True
        )
        with pytest.raises(BackendRefused, match="no path of ours"):
            await disks.find_base(disk)


async def test_facts_are_told(host: Host) -> None:
    facts, switch = await host.hypervisor.get_facts(), await host.switch.get_facts()
    assert facts.architecture == "x86_64"
    assert facts.vcpus > 0
    assert facts.memory_mib > 0
    assert facts.qemu_version.count(".") == 2
    assert switch.datapath in ("system", "netdev")
