"""Simulated hosts: real agents with real certificates on the real API, whose outside world is in memory.

Only hypervisor, taps, bridge and disks are the tests' fakes behind the agent's own backend protocols. OVN's
northbound database is real; instead of ovn-controllers, ``Chassis`` reports ports up that are plugged.
"""

import asyncio
import json
import multiprocessing
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import structlog
import uvloop

from tests.fakes.hypervisor import MemoryDisks, MemoryHypervisor, MemoryLinks, MemorySwitch, MemoryTaps
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.content import ImageContent
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.secrets import SecretReader
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.clock import SystemClock
from vcstack.nodeagent.agent import BEAT_SECONDS
from vcstack.nodeagent.backends.hypervisor import HypervisorFacts
from vcstack.nodeagent.backends.images import ImageCache
from vcstack.nodeagent.controllers import Backends, build_host
from vcstack.nodeagent.identity import Identity
from vcstack.nodeagent.lastknown import LastKnownClient
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.realizers.host import HostReporter
from vcstack.nodeagent.realizers.instance import HostFacts
from vcstack.nodeagent.settings import Settings
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.image import Image

VCPUS, MEMORY_MIB = 64, 262_144
REPORT_SECONDS = 0.05


@dataclass(frozen=True)
class Site:
    """What all hosts are told."""

    api_url: str
    ca_file: Path
    admin_token: str
    northbound: Path
    folder: Path
    hosts: int


class SimulatedHosts:
    """All hosts, in one process of their own; use as a context manager."""

    def __init__(self, site: Site) -> None:
        fresh = multiprocessing.get_context("spawn")
        self._stop = fresh.Event()
        self._process = fresh.Process(target=_main, args=(site, self._stop))

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid or 0

    def __enter__(self) -> "SimulatedHosts":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(15)
        self._process.kill()


def _main(site: Site, stop: Event) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(site, stop))


async def _run(site: Site, stop: Event) -> None:
    switches: list[MemorySwitch] = []
    admin = Connection(ConnectionSettings(api_url=site.api_url, ca_file=site.ca_file, token=site.admin_token))
    tasks = [asyncio.create_task(_run_host(site, f"h{n}", HostClient(admin), switches)) for n in range(site.hosts)]
    tasks.append(asyncio.create_task(Chassis(site.northbound, switches).run()))
    while not stop.is_set():
        await asyncio.sleep(0.2)
        for task in tasks:
            if task.done():
                task.result()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await admin.aclose()


async def _run_host(site: Site, name: str, admin: HostClient, switches: list[MemorySwitch]) -> None:
    """Be one host's agent, as ``vcstack.nodeagent.agent`` puts it together."""
    layout = Layout(site.folder / name)
    layout.create()
    identity, clock = Identity(layout.pki, name), SystemClock()
    token_file = layout.root / "token"
    await asyncio.to_thread(token_file.write_text, (await admin.create_join_token(name)).token)
    settings = Settings(host_name=name, api_url=site.api_url, ca_file=site.ca_file, state_dir=layout.root)
    connection = Connection(
        ConnectionSettings(
            api_url=site.api_url, ca_file=site.ca_file, cert_file=identity.certificate, key_file=identity.key
        )
    )
    client, hosts, content = ApiClient(connection), HostClient(connection), ImageContent(connection)
    await identity.join(hosts, token_file, zone=None, labels={})

    async def download(image: Image, path: Path) -> None:
        await content.download(image.metadata.name, path, digest=image.status.digest or "")

    taps, switch = MemoryTaps(), MemorySwitch()
    switches.append(switch)
    images = ImageCache(layout.images, download)
    backends = Backends(_Hypervisor(taps, clock), taps, switch, MemoryDisks(), images, MemoryLinks())
    facts = HostFacts(name, "qemu", userspace_datapath=True)
    known = LastKnownClient(client, layout.cache)
    secrets = SecretReader(connection)
    parts = build_host(settings, facts, backends, layout=layout, api=client, client=known, secrets=secrets, clock=clock)
    reporter = HostReporter(
        name, client, backends.hypervisor, switch, images, clock,
        state_dir=layout.root, virt_type="qemu",
        expires_at=identity.expires_at, trust=identity.trust, is_late=identity.is_late,
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        group.create_task(_beat(hosts, name))
        group.create_task(reporter.run())
        group.create_task(parts.manager.run(asyncio.Event()))


async def _beat(client: HostClient, name: str) -> None:
    while True:
        pause = BEAT_SECONDS
        try:
            await client.beat(name)
        except ApiError:
            pause = 1.0
        await asyncio.sleep(pause)


class _Hypervisor(MemoryHypervisor):
    """The tests' fake, on a larger machine."""

    async def get_facts(self) -> HypervisorFacts:
        return HypervisorFacts("x86_64", VCPUS, MEMORY_MIB, "9.0.0", "7.2.0")


class Chassis:
    """All ovn-controllers: a logical switch port is up while its interface is on a bridge (RFC 7047)."""

    def __init__(self, northbound: Path, switches: list[MemorySwitch]) -> None:
        self._northbound, self._switches = northbound, switches
        self._up: set[str] = set()

    async def run(self) -> None:
        """Report what has changed, again and again."""
        reader, writer = await asyncio.open_unix_connection(str(self._northbound))
        while True:
            plugged = {p.port_uid for switch in self._switches for p in switch.ports.values()}
            for uid in sorted(plugged ^ self._up):
                if await self._set_up(reader, writer, uid, uid in plugged):
                    (self._up.add if uid in plugged else self._up.discard)(uid)
            await asyncio.sleep(REPORT_SECONDS)

    async def _set_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: str, up: bool) -> bool:
        """Return whether the row is there."""
        where = [["name", "==", uid]]
        update = {"op": "update", "table": "Logical_Switch_Port", "where": where, "row": {"up": up}}
        writer.write(json.dumps({"method": "transact", "params": ["OVN_Northbound", update], "id": uid}).encode())
        answer = await _read_object(reader)
        while answer.get("method") == "echo":
            writer.write(json.dumps({"result": answer["params"], "error": None, "id": answer["id"]}).encode())
            answer = await _read_object(reader)
        return bool(answer["result"][0].get("count")) or not up


async def _read_object(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next JSON object of a stream without separators."""
    text = b""
    while True:
        text += await reader.read(65536)
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            if not text:
                raise ConnectionError("the northbound database has closed the connection") from None
            continue
        return found
