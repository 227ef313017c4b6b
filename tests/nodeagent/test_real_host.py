"""The whole agent but for its connection to the API, on a real host with a real guest."""

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fixtures.libvirt import HOST, RealHost
from tests.fixtures.rfb import Viewer
from tests.nodeagent.world import PROJECT, World
from vcstack.apiclient.frames import Multiplexer, StreamRequest, TunnelStream
from vcstack.apiclient.instancemessages import InstanceMetrics
from vcstack.clock import SystemClock
from vcstack.nodeagent.backends.disks import QemuDisks
from vcstack.nodeagent.backends.guestlink import NetnsLinks
from vcstack.nodeagent.backends.images import ImageCache
from vcstack.nodeagent.backends.libvirt_views import LibvirtViews
from vcstack.nodeagent.controllers import Backends, HostParts, build_host
from vcstack.nodeagent.names import shell_device
from vcstack.nodeagent.realizers.instance import HostFacts
from vcstack.nodeagent.settings import Settings
from vcstack.nodeagent.streams import Streams
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import DISKS_READY, RUNNING, Instance, NetworkInterface, PowerState, port_name_of
from vcstack.specs.kinds.network import Network, shell_mac_of, shell_port_of
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.task import Phase, RebootMode, Task, TaskSpec, TaskTarget, TaskType
from vcstack.store.store import Store

pytestmark = [pytest.mark.daemons, pytest.mark.timeout(1200)]


class RealWorld(World):
    """The cloud's one host is real, and its agent's controllers run."""

    host: RealHost
    parts_: HostParts

    async def add_port(self, instance: Instance, card: NetworkInterface) -> Port:
        """Create the port in OVN too, with DHCP, as the manager does."""
        port = await super().add_port(instance, card)
        assert port.status.addresses
        lsp, address = port.uid, port.status.addresses[0].address
        network = await self.client.get(Network, "web", PROJECT)
        shell = shell_port_of(network.uid)
        script = f"""
        ovn-nbctl --may-exist ls-add web
        dhcp=$(ovn-nbctl --bare --columns=_uuid find dhcp_options cidr=10.10.0.0/24)
        [ "$dhcp" ] || dhcp=$(ovn-nbctl create dhcp_options cidr=10.10.0.0/24 options='lease_time="3600" \
            router="10.10.0.1" server_id="10.10.0.1" server_mac="52:54:00:aa:00:01" mtu="1442"')
        ovn-nbctl --may-exist lsp-add web {shell} -- lsp-set-type {shell} localport \
            -- lsp-set-addresses {shell} "{shell_mac_of(network.uid)} 10.10.0.1"
        ovn-nbctl --may-exist lsp-add web {lsp} -- lsp-set-addresses {lsp} "{port.status.mac} {address}" \
            -- lsp-set-dhcpv4-options {lsp} $dhcp"""
        await asyncio.to_thread(self.host.lab.host_exec, "central", ["sh", "-ec", script], check=True)
        return port

    def start_agent(self, image: Path) -> tuple[asyncio.Event, "asyncio.Task[None]"]:
        async def download(_: Image, path: Path) -> None:
            await asyncio.to_thread(shutil.copy, image, path)

        settings = Settings(
            host_name=HOST,
            api_url="https://unused",
            ca_file=Path("unused"),
            state_dir=self.layout.root,
            shutdown_grace_seconds=60,
        )
        backends = Backends(
            self.host.hypervisor,
            self.host.taps,
            self.host.switch,
            QemuDisks(),
            ImageCache(self.layout.images, download),
            NetnsLinks(netns=self.host.lab.layout.netns(HOST)),
        )
        self.parts_ = build_host(
            settings,
            HostFacts(HOST, "qemu", True),
            backends,
            layout=self.layout,
            api=self.client,
            client=self.client,
            secrets=self.secrets,
            clock=SystemClock(),
        )
        stop = asyncio.Event()
        return stop, asyncio.create_task(self.parts_.manager.run(stop))

    async def until(self, check: Callable[[Instance], bool], name: str = "web-1", seconds: float = 120) -> Instance:
        deadline = time.monotonic() + seconds
        while True:
            instance = await self.get(name)
            if check(instance):
                return instance
            assert time.monotonic() < deadline, instance.status.to_json().decode()
            await asyncio.sleep(0.05)

    async def until_log(self, instance: Instance, words: str, *, count: int = 1) -> str:
        path = self.layout.of_instance(instance.uid).serial_log
        deadline = time.monotonic() + 300
        while True:
            text = path.read_text(errors="replace") if path.exists() else ""
            if text.count(words) >= count:
                return text
            assert time.monotonic() < deadline, f"no {words!r} in:\n{text}"
            await asyncio.sleep(0.05)

    async def until_swept(self, device: str) -> None:
        """Sweep until the device is seen and gone: what was plugged by hand is told of a moment later."""
        while device not in await self.parts_.shells.sweep():
            await asyncio.sleep(0.02)

    async def until_created(self) -> Instance:
        """Add an instance and return it when its guest is up."""
        await self.add_instance()
        instance = await self.until(running)
        await self.until_log(instance, "GUEST-READY")
        return instance

    async def until_done(self, check: Callable[[], object], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.fixture
async def world(memory_store: Store, tmp_path: Path, real_host: RealHost, tiny_image: Path) -> AsyncIterator[RealWorld]:
    world = await RealWorld.create(memory_store, tmp_path)
    assert isinstance(world, RealWorld)
    world.host = real_host
    real_host.lab.host_exec("central", ["ovn-nbctl", "--if-exists", "ls-del", "web"], check=True)
    stop, running = world.start_agent(tiny_image)
    yield world
    stop.set()
    await running


def running(instance: Instance) -> bool:
    return instance.is_true(RUNNING) and instance.status.power_state is PowerState.RUNNING


def restarted_since(before: Instance) -> Callable[[Instance], bool]:
    return lambda i: running(i) and i.status.started_at != before.status.started_at


def qemu_pid(world: RealWorld, instance: Instance) -> int:
    return int((world.host.lab.layout.node(HOST) / f"run/libvirt/qemu/{instance.uid}.pid").read_text())


async def test_a_guest_boots_with_its_name_and_key_and_is_removed_without_a_trace(world: RealWorld) -> None:
    script = "#!/bin/sh\necho \"quoted <&> 'x' $((6*7))\"\n"
    instance = await world.add_instance(user_data=script)
    instance = await world.until(running)
    # The guest waits for its address, but not for ever: it may come after the rest.
    await world.until_log(instance, "GUEST-ADDRESS eth0 10.10.0.2")
    assert "USERDATA: quoted <&> 'x' 42" in await world.until_log(instance, "GUEST-READY web-1 ")
    await world.client.delete(instance.ref)
    await world.until(lambda i: len(i.metadata.finalizers) == 1)
    assert await world.host.hypervisor.list_owned() == []
    assert await world.host.taps.list_taps() == {}
    assert await world.host.switch.list_ports() == {}
    assert list(world.layout.instances.iterdir()) == []


async def test_what_is_broken_by_hand_comes_back(world: RealWorld) -> None:
    instance = await world.add_instance()
    instance = await world.until(running)
    tap = await world.tap_of(instance)
    run, uid = world.host.run, instance.uid

    run(f"virsh destroy {uid}")
    instance = await world.until(restarted_since(instance))
    os.kill(qemu_pid(world, instance), signal.SIGKILL)
    instance = await world.until(restarted_since(instance))
    run(f"virsh undefine {uid}")
    await world.until_done(lambda: uid in run("virsh list --all --persistent --name"))
    run(f"virsh dumpxml --inactive {uid} | sed 's/131072/262144/' > /run/edited.xml && virsh define /run/edited.xml")
    await world.until_done(lambda: ">131072<" in run(f"virsh dumpxml --inactive {uid}"))
    run(f"ovs-vsctl del-port br-int {tap}")
    await world.until_done(lambda: tap in run("ovs-vsctl list-ports br-int"))
    assert (await world.get()).status.started_at == instance.status.started_at


async def test_a_lost_disk_is_reported_before_any_resync_while_the_guest_still_runs(world: RealWorld) -> None:
    instance = await world.add_instance()
    instance = await world.until(running)
    world.layout.of_instance(instance.uid).root_disk.unlink()

    def reported(instance: Instance) -> bool:
        condition = instance.find_condition(DISKS_READY)
        return condition is not None and condition.reason == "DiskLost"

    # The resync comes every 60 s.
    found = await world.until(reported, seconds=40)
    assert found.status.started_at == instance.status.started_at
    assert not found.is_true("Ready")
    assert not world.layout.of_instance(instance.uid).root_disk.exists()


async def test_a_deleted_tap_is_replaced_under_the_running_guest(world: RealWorld) -> None:
    instance = await world.until_created()
    tap = await world.tap_of(instance)
    world.host.run(f"ip link del {tap}")

    async def held() -> bool:
        found = (await world.host.taps.list_taps()).get(tap)
        return found is not None and found.held

    async with asyncio.timeout(120):
        while not await held():
            await asyncio.sleep(0.05)
    assert (await world.get()).status.started_at == instance.status.started_at
    # The guest asks for its address once more, on the card that came anew.
    await world.until_log(instance, "GUEST-ADDRESS eth0 10.10.0.2", count=2)


async def test_libvirtd_killed_and_back_guests_run_on_and_are_watched(world: RealWorld) -> None:
    instance = await world.until_created()
    pid = qemu_pid(world, instance)
    world.host.lab.kill(HOST, "libvirtd")
    world.host.lab.wait_ready(HOST, "libvirtd")
    await asyncio.wait_for(world.host.connection.wait_connected(), 60)
    assert qemu_pid(world, instance) == pid
    world.host.run(f"virsh destroy {instance.uid}")
    await world.until(restarted_since(instance))


async def test_power_states(world: RealWorld) -> None:
    instance = await world.until_created()
    await world.update(power_state=PowerState.PAUSED)
    await world.until(lambda i: i.status.power_state is PowerState.PAUSED and i.is_true(RUNNING))
    await world.update(power_state=PowerState.STOPPED)
    await world.until(lambda i: i.status.power_state is PowerState.STOPPED and i.is_true(RUNNING))
    assert "GUEST-POWERBUTTON" in await world.until_log(instance, "GUEST-POWERBUTTON")
    await world.update(power_state=PowerState.RUNNING, flavor="small")
    after = await world.until(restarted_since(instance))
    assert ">262144<" in world.host.run(f"virsh dumpxml {after.uid}")


async def test_cards_are_plugged_and_unplugged_while_the_guest_runs(world: RealWorld) -> None:
    instance = await world.until_created()
    cards = [NetworkInterface(name=f"eth{i}", network="web") for i in range(2)]
    await world.add_port(instance, cards[1])
    await world.update(network_interfaces=cards)
    listed = f"virsh domiflist {instance.uid} | grep -c tap"
    await world.until_done(lambda: world.host.run(f"{listed} || true").strip() == "2")
    await world.update(network_interfaces=cards[1:])
    await world.until_done(lambda: world.host.run(f"{listed} || true").strip() == "1")
    await world.until(lambda i: i.is_true("UpToDate") and running(i))
    port = await world.client.get(Port, port_name_of(instance, cards[1]), PROJECT)
    assert [p.port_uid for p in (await world.host.switch.list_ports()).values()] == [port.uid]


@pytest.mark.parametrize("type_", [TaskType.REBOOT, TaskType.RECREATE])
async def test_tasks(world: RealWorld, type_: TaskType) -> None:
    instance = await world.until_created()
    target = TaskTarget(kind="Instance", name="web-1")
    spec = TaskSpec(type=type_, target=target, mode=RebootMode.SOFT, timeout_seconds=60)
    task = await world.client.create(Task.new("do", spec, project=PROJECT))
    await world.client.patch_status(task, {"host": HOST, "targetUid": instance.uid})
    deadline = time.monotonic() + 180
    while (task := await world.client.get(Task, "do", PROJECT)).status.phase is not Phase.SUCCEEDED:
        assert time.monotonic() < deadline, task.status
        await asyncio.sleep(0.05)
    await world.until(restarted_since(instance))
    # The guest counts its boots on its disk: a rebooted one has seen two, one made anew its first again.
    words, count = ("boots=2\n", 1) if type_ is TaskType.REBOOT else ("boots=1\n", 2)
    await world.until_log(instance, words, count=count)


async def test_twenty_at_once(world: RealWorld, record_property: Callable[[str, object], None]) -> None:
    began = time.monotonic()
    names = [f"many-{i}" for i in range(20)]
    for name in names:
        await world.add_instance(name)
    for name in names:
        await world.until(running, name, seconds=240)
    record_property("twenty_seconds", time.monotonic() - began)
    for name in names:
        await world.client.delete((await world.get(name)).ref)
    await world.until_done(lambda: not list(world.layout.instances.iterdir()), 240)


def open_streams(world: RealWorld) -> Multiplexer:
    """Return the API server's end of the host's tunnel."""
    parts, views = world.parts_, LibvirtViews(world.host.connection)
    streams = Streams(parts.instances, world.host.hypervisor, views, parts.shells, world.layout)

    async def to_host(message: bytes) -> None:
        await host_end.take(message)

    async def to_server(message: bytes) -> None:
        await server_end.take(message)

    server_end, host_end = Multiplexer(to_host), Multiplexer(to_server, streams.serve)
    return server_end


def about(instance: Instance, service: str) -> StreamRequest:
    return StreamRequest(service=service, project=PROJECT, name=instance.metadata.name, uid=instance.uid)


async def read_all(tunnel: Multiplexer, instance: Instance, service: str) -> bytes:
    stream, found = await tunnel.open(about(instance, service)), b""
    while chunk := await stream.receive():
        found += chunk
    return found


async def test_a_guest_is_seen_and_typed_at_on_its_screen_and_measured(world: RealWorld) -> None:
    instance = await world.until_created()
    tunnel = open_streams(world)

    before = InstanceMetrics.from_wire(await read_all(tunnel, instance, "metrics"))
    assert before.vcpus == 1
    assert before.cpu_nanoseconds > 10**8
    assert before.memory_bytes > 64 * 2**20
    assert before.resident_bytes > 2**20
    (card,) = before.network_interfaces
    assert card.mac in world.host.run(f"virsh domiflist {instance.uid}")
    assert card.received_packets > 0
    assert {d.device for d in before.disks} == {"vda", "vdb"}
    assert before.disks[0].read_bytes > 2**20

    # Two look at once, and neither throws the other out.
    streams = [await tunnel.open(about(instance, "vnc")) for _ in range(2)]
    viewers = [Viewer(stream.send, stream.receive) for stream in streams]
    async with asyncio.timeout(60):
        for viewer in viewers:
            await viewer.begin()
        first = await viewers[0].look()
        assert first.count_lit() > 100
        await viewers[0].type("root\n")  # the guest asks for a password, which changes the picture
        while (shown := await viewers[1].look()).points == first.points:
            await asyncio.sleep(0.2)
        assert (shown.width, shown.height) == viewers[1].size
    picture = await read_all(tunnel, instance, "screenshot")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack_from(">II", picture, 16) == viewers[0].size

    for stream in streams:
        await stream.close()
    after = InstanceMetrics.from_wire(await read_all(tunnel, instance, "metrics"))
    assert after.machine == before.machine
    assert after.cpu_nanoseconds > before.cpu_nanoseconds
    assert after.observed_at > before.observed_at
    # No port of any protocol is open in the host for it.
    assert world.host.run("ss -Hltnp").count("qemu") == 0

    await world.update(power_state=PowerState.STOPPED)
    await world.until(lambda i: i.status.power_state is PowerState.STOPPED)
    for service in ("vnc", "screenshot", "metrics"):
        with pytest.raises(Conflict, match="does not run"):
            await read_all(tunnel, instance, service)
    await tunnel.aclose()


async def read_banner(tunnel: Multiplexer, instance: Instance) -> tuple[TunnelStream, bytes]:
    """Open a shell's stream and read the line that an SSH server begins with."""
    async with asyncio.timeout(120):
        while True:
            stream, found = await tunnel.open(about(instance, "ssh")), b""
            with contextlib.suppress(Unavailable):  # OVN has not brought the network's port up yet
                while b"\n" not in found:
                    chunk = await stream.receive()
                    assert chunk, found
                    found += chunk
                return stream, found


async def test_shells_reach_the_guest_and_nothing_is_left_of_them(world: RealWorld) -> None:
    instance = await world.until_created()
    network = await world.client.get(Network, "web", PROJECT)
    device, tunnel = shell_device(network.uid), open_streams(world)
    plugged = f"ip -br link; ovs-vsctl --columns=name,external_ids find Interface name={device}"
    mark = f"external_ids:vcstack-network={network.uid}"
    left = f"ovs-vsctl --no-wait add-port br-int {device} -- set Interface {device} {mark}"

    # What an agent left that was killed is swept, and in nobody's way.
    world.host.run(left)
    await world.until_swept(device)
    world.host.run(left)

    streams = []
    for _ in range(2):
        stream, banner = await read_banner(tunnel, instance)
        assert banner.startswith(b"SSH-2.0-OpenSSH")
        streams.append(stream)
    shown = world.host.run(plugged)
    assert shown.count(device) == 2
    assert shell_port_of(network.uid) in shown
    assert await world.parts_.shells.sweep() == []

    await streams[0].close()
    stream, banner = await read_banner(tunnel, instance)
    assert banner.startswith(b"SSH-2.0-OpenSSH")
    for each in (streams[1], stream):
        await each.close()
    await world.until_done(lambda: device not in world.host.run(plugged))


async def test_what_keeps_a_shell_from_opening_is_told(world: RealWorld) -> None:
    await world.add_instance(user_data="#!/bin/sh\nkillall sshd\n")
    instance = await world.until(running)
    await world.until_log(instance, "GUEST-READY")
    tunnel = open_streams(world)
    with pytest.raises(Conflict, match=r"nothing listens on port 22 of 10\.10\.0\.2"):
        await read_banner(tunnel, instance)
    await world.update(power_state=PowerState.STOPPED)
    instance = await world.until(lambda i: i.status.power_state is PowerState.STOPPED)
    with pytest.raises(Conflict, match="does not run"):
        await read_all(tunnel, instance, "ssh")
