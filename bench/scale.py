"""1,000 instances on 50 simulated hosts: how fast they come, what they cost, and that rest costs nothing."""

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.daemons import Daemons
from bench.hosts import SimulatedHosts, Site
from bench.load import Http
from bench.machine import Usage, read_usage
from bench.table import Row
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.content import ImageContent
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.image import Image, ImageFormat, ImageSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.subnet import Subnet, SubnetSpec
from vcstack.specs.meta import API_VERSION
from vcstack.specs.resource import AnyResource
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.keys import PREFIX, TOMBSTONE

INSTANCES = int(os.environ.get("BENCH_INSTANCES", "1000"))
HOSTS = int(os.environ.get("BENCH_HOSTS", "50"))
SECTION = f"{INSTANCES:,} instances on {HOSTS} simulated hosts"
PROJECT = "bench"
APPLIERS = 16
LIMIT_SECONDS = 600.0
STEADY_SECONDS = 65.0
"""Longer than the agents' resync."""
QUIET_SECONDS = 5.0


@dataclass
class Taken:
    """What was measured."""

    created_seconds: float = 0.0
    ready_seconds: float = 0.0
    revisions: int = 0
    writes: Counter[str] = field(default_factory=Counter)
    busy: Usage = field(default_factory=lambda: Usage(0, 0, 0))
    hosts_cpu_seconds: float = 0.0
    steady_writes: Counter[str] = field(default_factory=Counter)
    restart_writes: Counter[str] = field(default_factory=Counter)
    steady_revisions: int = 0
    steady_cpu_seconds: float = 0.0
    steady_hosts_cpu_seconds: float = 0.0
    restart_seconds: float = 0.0
    restart_cpu_seconds: float = 0.0
    restart_revisions: int = 0


def measure() -> list[Row]:
    """Run all and return the rows."""
    with Daemons(ovn=True) as daemons, tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        daemons.start_management(roles="api,controllers")
        token = daemons.pki.admin_token.read_text().strip()
        site = Site(daemons.api_url, daemons.pki.ca_cert, token, daemons.northbound, Path(folder), HOSTS)
        with SimulatedHosts(site) as hosts:
            return _rows(asyncio.run(_measure(daemons, site, hosts)))


async def _measure(daemons: Daemons, site: Site, hosts: SimulatedHosts) -> Taken:
    taken = Taken()
    settings = ConnectionSettings(api_url=site.api_url, ca_file=site.ca_file, token=site.admin_token)
    async with EtcdClient(daemons.etcd_settings) as etcd, Connection(settings) as connection:
        client = ApiClient(connection)
        await _prepare(client, ImageContent(connection))
        await _wait_ready(client, Host, HOSTS)
        await _wait_ready(client, Subnet, 1)
        await _quiet(etcd)
        await _converge(daemons, client, etcd, hosts, site, taken)
        await _rest(daemons, etcd, hosts, taken)
        await _restart(daemons, client, etcd, site, taken)
    return taken


async def _converge(
    daemons: Daemons, client: ApiClient, etcd: EtcdClient, hosts: SimulatedHosts, site: Site, taken: Taken
) -> None:
    manager = daemons.processes["management"].pid
    begin, used, hosts_used = time.monotonic(), read_usage(manager), read_usage(hosts.pid)
    first = await etcd.current_revision()
    async with _counting(etcd, first, taken.writes):
        await _create(daemons.api_port, site)
        taken.created_seconds = time.monotonic() - begin
        await _wait_ready(client, Instance, INSTANCES)
        taken.ready_seconds = time.monotonic() - begin
        await _quiet(etcd)
    now = read_usage(manager)
    taken.busy = Usage(now.cpu_seconds - used.cpu_seconds, now.rss_mib, now.peak_rss_mib)
    taken.hosts_cpu_seconds = read_usage(hosts.pid).cpu_seconds - hosts_used.cpu_seconds
    taken.revisions = await etcd.current_revision() - first


async def _rest(daemons: Daemons, etcd: EtcdClient, hosts: SimulatedHosts, taken: Taken) -> None:
    manager = daemons.processes["management"].pid
    used, hosts_used, first = read_usage(manager), read_usage(hosts.pid), await etcd.current_revision()
    async with _counting(etcd, first, taken.steady_writes):
        await asyncio.sleep(STEADY_SECONDS)
    taken.steady_cpu_seconds = read_usage(manager).cpu_seconds - used.cpu_seconds
    taken.steady_hosts_cpu_seconds = read_usage(hosts.pid).cpu_seconds - hosts_used.cpu_seconds
    taken.steady_revisions = await etcd.current_revision() - first


async def _restart(daemons: Daemons, client: ApiClient, etcd: EtcdClient, site: Site, taken: Taken) -> None:
    """Stop the manager in order, start it, and wait until it has looked at every instance."""
    daemons.stop("management")
    first, begin = await etcd.current_revision(), time.monotonic()
    pid = daemons.start_management(roles="api,controllers")
    http = await Http.connect(daemons.api_port, site.ca_file, site.admin_token)
    while await _count_reconciled(http, "instance") < INSTANCES or await _count_reconciled(http, "port") < INSTANCES:
        await asyncio.sleep(0.1)
        if time.monotonic() - begin > LIMIT_SECONDS:
            raise RuntimeError("the restarted manager has not looked at all instances")
    taken.restart_seconds = time.monotonic() - begin
    async with _counting(etcd, first, taken.restart_writes):
        await _quiet(etcd)
    taken.restart_cpu_seconds = read_usage(pid).cpu_seconds
    taken.restart_revisions = await etcd.current_revision() - first


async def _count_reconciled(http: Http, controller: str) -> int:
    """Return how many reconciles a controller has ended well since the start, from /metrics."""
    text = (await http.request("GET", "/metrics")).decode()
    lines = (x for x in text.splitlines() if "reconciles_total{" in x and f'controller="{controller}"' in x)
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


async def _prepare(client: ApiClient, content: ImageContent) -> None:
    for resource in (
        Project.new(PROJECT, ProjectSpec()),
        Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)),
        Image.new("tiny", ImageSpec(format=ImageFormat.QCOW2)),
        Network.new("web", NetworkSpec(), project=PROJECT),
        Subnet.new("web-v4", SubnetSpec(network="web", cidr="10.10.0.0/16"), project=PROJECT),
    ):
        made: AnyResource = resource
        await client.create(made)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        await asyncio.to_thread(
            subprocess.run, ["qemu-img", "create", "-q", "-f", "qcow2", str(file), "16M"], check=True
        )
        await content.upload("tiny", file)


async def _create(port: int, site: Site) -> None:
    """Apply all instances, some at once."""
    names = iter(range(INSTANCES))
    path = f"/api/v1/projects/{PROJECT}/instances"

    async def apply() -> None:
        http = await Http.connect(port, site.ca_file, site.admin_token)
        for n in names:
            spec = {"flavor": "tiny", "image": "tiny", "networkInterfaces": [{"name": "eth0", "network": "web"}]}
            wire = {"apiVersion": API_VERSION, "kind": "Instance", "spec": spec}
            await http.request("POST", path, orjson.dumps({**wire, "metadata": {"project": PROJECT, "name": f"i{n}"}}))

    await asyncio.gather(*(apply() for _ in range(APPLIERS)))


async def _wait_ready(client: ApiClient, kind: type[AnyResource], count: int) -> None:
    """Follow a watch until so many are Ready."""
    ready: set[str] = set()
    page = await client.list(kind)
    ready |= {r.metadata.name for r in page.items if r.is_true("Ready")}
    async with asyncio.timeout(LIMIT_SECONDS):
        stream = client.watch(kind, since=page.resource_version)
        while len(ready) < count:
            event = await anext(stream)
            if event.object is not None:
                name = event.object.metadata.name
                (ready.add if event.object.is_true("Ready") else ready.discard)(name)


@contextlib.asynccontextmanager
async def _counting(etcd: EtcdClient, first: int, writes: Counter[str]) -> AsyncIterator[None]:
    """Count what is written by what it is about, the keys without their last part; several can share a revision."""

    async def count() -> None:
        async with etcd.watch(PREFIX, first + 1) as watch:
            async for batch in watch:
                keys = [event.kv.key for event in batch.events]
                written = (key for key in keys if not key.startswith((PREFIX + b".claims", TOMBSTONE)))
                writes.update(key[len(PREFIX) :].decode().rpartition("/")[0] for key in written)

    counting = asyncio.create_task(count())
    yield
    counting.cancel()


async def _quiet(etcd: EtcdClient) -> None:
    """Wait until nothing is written for some seconds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        revision = -1
        while revision != (revision := await etcd.current_revision()):  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(QUIET_SECONDS)


def _rows(taken: Taken) -> list[Row]:
    each = {kind: n / INSTANCES for kind, n in taken.writes.most_common()}
    detail = ", ".join(f"{kind.partition('/')[0]} {n:.1f}" for kind, n in each.items() if n >= 0.05)

    def row(name: str, ours: str, beside: str = "", limit: str = "", holds: bool | None = None) -> Row:
        return Row(SECTION, name, ours, beside, None, limit, holds)

    steady = taken.steady_cpu_seconds / STEADY_SECONDS
    return [
        row(
            "all Ready after", f"{taken.ready_seconds:.1f} s", f"all acknowledged after {taken.created_seconds:.1f} s",
        ),
        row("convergence", f"{INSTANCES / taken.ready_seconds:.0f} instances/s"),
        row(
            "store writes per instance",
            f"{taken.writes.total() / INSTANCES:.1f} in {taken.revisions / INSTANCES:.1f} revisions", detail,
        ),
        row(
            "manager while converging", f"{taken.busy.cpu_seconds:.1f} s CPU",
            f"the {HOSTS} agents {taken.hosts_cpu_seconds:.1f} s",
        ),
        row("manager memory", f"{taken.busy.rss_mib:.0f} MiB", f"peak {taken.busy.peak_rss_mib:.0f} MiB"),
        row(
            f"writes in {STEADY_SECONDS:.0f} s of rest", f"{taken.steady_revisions} revisions",
            _list(taken.steady_writes), "0", taken.steady_revisions == 0,
        ),
        row(
            "manager CPU at rest", f"{steady:.1%} of a core",
            f"the {HOSTS} agents {taken.steady_hosts_cpu_seconds / STEADY_SECONDS:.1%}",
        ),
        row(
            "manager restarted: all observed after", f"{taken.restart_seconds:.1f} s",
            f"{taken.restart_cpu_seconds:.1f} s CPU until quiet",
        ),
        row("writes by a restart", f"{taken.restart_revisions} revisions", _list(taken.restart_writes)),
    ]  # fmt: skip


def _list(writes: Counter[str]) -> str:
    return ", ".join(f"{what} {n}" for what, n in writes.most_common(6))


def _in_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
