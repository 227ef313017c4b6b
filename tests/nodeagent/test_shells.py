"""Connections to guests' SSH servers: which address, through which network, and what is left of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.crash import Crasher, Killed, every_kill
from tests.fakes.hypervisor import MemoryLinks
from tests.fakes.memory_etcd import MemoryEtcd
from tests.nodeagent.world import PROJECT, World
from vcstack.nodeagent.backends.guestlink import GuestLink, GuestLinks, LinkWanted
from vcstack.nodeagent.names import shell_device
from vcstack.nodeagent.shells import Shells
from vcstack.runtime.errors import BackendConflict, BackendUnavailable
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.instance import Instance, PowerState
from vcstack.specs.kinds.network import Network, shell_mac_of, shell_port_of
from vcstack.specs.kinds.port import Port
from vcstack.specs.kinds.subnet import GATEWAY_TAKEN, REALIZED, Subnet, SubnetSpec
from vcstack.store.store import Store


class KillableLinks:
    """The GuestLinks protocol, with all calls of what it opens behind a crasher."""

    def __init__(self, links: GuestLinks, crasher: Crasher) -> None:
        self._links, self._crasher = links, crasher

    async def open(self, wanted: LinkWanted) -> GuestLink:
        return self._crasher.wrap(await self._links.open(wanted))


class ShellWorld:
    """A host with a running guest, and a server that answers in its name."""

    def __init__(self, world: World) -> None:
        self.world, self.links = world, MemoryLinks()

    async def shells(self, crasher: Crasher | None = None) -> Shells:
        """Return those of an agent that was just started: nothing is left of what the kernel held for another."""
        self.links.end_process()
        parts = await self.world.parts(crasher)
        switch = crasher.wrap(self.world.switch) if crasher else self.world.switch
        links = crasher.wrap(KillableLinks(self.links, crasher)) if crasher else self.links
        return Shells(links, switch, self.world.hypervisor, parts.references, parts.ports)

    @contextlib.asynccontextmanager
    async def answering(self, *addresses: str) -> AsyncIterator[None]:
        """Answer at these addresses."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            self.links.servers.update(dict.fromkeys(addresses, port))
            yield

    def assert_left(self) -> None:
        """Nothing of shells is on the host."""
        assert not self.world.switch.shells
        assert not self.links.open_links


@pytest.fixture
async def subject(memory_store: Store, tmp_path: Path) -> ShellWorld:
    return ShellWorld(await World.create(memory_store, tmp_path))


async def add_guest(subject: ShellWorld, nics: int = 1) -> Instance:
    await subject.world.add_instance(nics=nics)
    return await subject.world.settle()


async def greet(shells: Shells, instance: Instance) -> bytes:
    async with shells.connect(instance) as connection:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            return await reader.readline()
        finally:
            writer.close()


async def test_a_shell_comes_from_the_networks_own_port_and_leaves_nothing(subject: ShellWorld) -> None:
    instance = await add_guest(subject)
    network = await subject.world.client.get(Network, "web", PROJECT)
    shells = await subject.shells()
    async with subject.answering("10.10.0.2"):
        async with shells.connect(instance), shells.connect(instance):
            (plugged,) = subject.world.switch.shells.values()
            assert (plugged.port, plugged.mac) == (shell_port_of(network.uid), shell_mac_of(network.uid))
            assert plugged.device == shell_device(network.uid)
            (link,) = subject.links.open_links.values()
            assert [(w.address, w.source, w.mac) for w in link.ways] == [
                ("10.10.0.2", "10.10.0.1", "52:54:00:00:00:01")
            ] * 2
            assert await shells.sweep() == []
        assert await greet(shells, instance) == b"hello\n"
    subject.assert_left()


async def test_the_first_address_that_answers_is_taken(subject: ShellWorld) -> None:
    instance = await add_guest(subject, nics=3)
    shells = await subject.shells()
    async with subject.answering("10.10.0.3", "10.10.0.4"):
        assert await greet(shells, instance) == b"hello\n"
    assert [w.address for w in subject.links.tried] == ["10.10.0.2", "10.10.0.3"]
    subject.assert_left()


async def test_what_is_in_the_way_is_said(subject: ShellWorld) -> None:
    world = subject.world
    instance = await add_guest(subject)
    shells = await subject.shells()
    with pytest.raises(BackendUnavailable, match=r"port 22 of 10\.10\.0\.2 does not answer"):
        await greet(shells, instance)
    async with subject.answering("10.10.0.2"):
        pass
    with pytest.raises(BackendConflict, match=r"nothing listens on port 22 of 10\.10\.0\.2"):
        await greet(shells, instance)

    await world.update(power_state=PowerState.PAUSED)
    instance = await world.settle()
    with pytest.raises(BackendConflict, match="is paused"):
        await greet(shells, instance)
    await world.update(power_state=PowerState.RUNNING)
    instance = await world.settle()

    # A port got the gateway's address before: nothing may come from there.
    subnet = await world.client.get(Subnet, "web-v4", PROJECT)
    taken = condition_of(subnet, REALIZED, False, GATEWAY_TAKEN, "taken", clock=world.clock)
    await write_status(world.client, subnet, conditions=[taken])
    with pytest.raises(BackendConflict, match="no address"):
        await greet(shells, instance)
    subject.assert_left()


async def test_a_gateway_that_was_changed_is_where_the_next_shell_comes_from(subject: ShellWorld) -> None:
    instance = await add_guest(subject)
    shells = await subject.shells()
    async with subject.answering("10.10.0.2"):
        assert await greet(shells, instance) == b"hello\n"
        subnet = await subject.world.client.get(Subnet, "web-v4", PROJECT)
        await subject.world.client.patch_status(subnet, {"gateway": "10.10.0.77"})
        assert await greet(shells, instance) == b"hello\n"
    assert [w.source for w in subject.links.tried] == ["10.10.0.1", "10.10.0.77"]


async def test_each_address_is_reached_by_its_own_subnet(subject: ShellWorld) -> None:
    world = subject.world
    spec = SubnetSpec(network="web", cidr="fd00::/64")
    subnet = await world.client.create(Subnet.new("web-v6", spec, project=PROJECT))
    await world.client.patch_status(subnet, {"gateway": "fd00::1"})
    instance = await add_guest(subject)
    (port,) = (await world.client.list(Port)).items
    held = [a.to_wire() for a in port.status.addresses or ()] + [{"subnet": "web-v6", "address": "fd00::5"}]
    await world.client.patch_status(port, {"addresses": held})
    shells = await subject.shells()
    async with subject.answering("fd00::5"):
        assert await greet(shells, instance) == b"hello\n"
    assert {(w.address, w.source) for w in subject.links.tried} == {("10.10.0.2", "10.10.0.1"), ("fd00::5", "fd00::1")}
    assert len(subject.links.wanted) == 1
    subject.assert_left()


async def test_an_agent_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_take_away(tmp_path: Path) -> None:
    async def attempt(number: int, crasher: Crasher) -> None:
        async with Store(MemoryEtcd()) as store:
            folder = tmp_path / str(number)
            folder.mkdir()
            subject = ShellWorld(await World.create(store, folder))
            instance = await add_guest(subject, nics=2)
            async with subject.answering("10.10.0.3"):
                with contextlib.suppress(Killed):
                    await greet(await subject.shells(crasher), instance)
                after = await subject.shells()
                await after.sweep()
                subject.assert_left()
                assert await greet(after, instance) == b"hello\n"
            subject.assert_left()

    counter = Crasher()
    await attempt(0, counter)
    assert len(counter.calls) > 10
    for number, crasher in enumerate(every_kill(len(counter.calls)), start=1):
        await attempt(number, crasher)
