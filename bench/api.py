"""The API beside raw etcd, through the same etcd client, at the same concurrency, both with TLS."""

import asyncio
import itertools
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.daemons import Daemons
from bench.load import Http, Load, drive, in_own_process, percentile
from bench.machine import limited_cpu
from bench.table import Row
from vcstack.specs.meta import API_VERSION
from vcstack.store.cache import WatchCache
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.ops import Compare, Put, Txn
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.groupcommit import GroupCommit

SECTION = "API beside raw etcd"
CALLERS = 64
SECONDS = 5.0
ROUNDS = 5
ROUND_SECONDS = 3.0
"""Raw and API take turns in short rounds, so that what else the machine does meets both."""
WARM_UP_SECONDS = 1.5
SMALL_SHARE = 0.3
"""Of a core, which a worker may use where cores are not to be what limits two of them."""
LISTED = 1000
WATCHERS = 100
EVENTS = 200
EVENT_PAUSE_SECONDS = 0.02
CREATE_LIMIT = 0.4
PROJECT = "bench"
RAW = b"/vcstack-bench/"
"""Beside what vc-management watches. Never cleared: when many keys are deleted at once, etcd 3.4 keeps a buffer
of their number, which it copies for each read from then on, and is three times slower for good."""


def measure() -> list[Row]:
    """Run all and return the rows."""
    with Daemons() as daemons:
        arguments = (daemons.api_port, daemons.pki.ca_cert, daemons.pki.admin_token.read_text().strip())
        raw_get, raw_list, raw_watch = in_own_process(_raw_reads, daemons.etcd_settings)
        with daemons.management(roles="api"):
            in_own_process(_prepare, *arguments)
        rounds = [_Round.run(daemons, arguments, number) for number in range(ROUNDS)]
        with daemons.management(roles="api"):
            get, listed = in_own_process(_get, *arguments), in_own_process(_list, *arguments)
            watch = in_own_process(_watch, *arguments)
    return [*_create_rows(rounds), *_read_rows(get, raw_get, listed, raw_list, watch, raw_watch)]


@dataclass(frozen=True, slots=True)
class _Round:
    """The same for raw etcd, one worker and two, one after another."""

    raw: Load
    gathered: Load
    """Raw, with the store's group commit before it."""
    one: Load
    two: Load
    small_one: Load
    """One worker with a small share of a core."""
    small_two: Load
    """Two workers with such a share each."""
    etcd: int
    """etcd's pid."""

    @classmethod
    def run(cls, daemons: Daemons, arguments: tuple[int, Path, str], number: int) -> "_Round":
        etcd = daemons.processes["etcd"].pid
        raw = in_own_process(_raw_create, daemons.etcd_settings, f"round-{number}", (etcd,))
        gathered = in_own_process(_gathered_create, daemons.etcd_settings, f"round-{number}")
        with daemons.management(roles="api") as pids:
            one = in_own_process(_create, *arguments, f"one-{number}", (etcd, *pids))
            with limited_cpu(pids, SMALL_SHARE):
                small_one = in_own_process(_create, *arguments, f"small-one-{number}", ())
        with daemons.management(roles="api", workers=2) as pids:
            two = in_own_process(_create, *arguments, f"two-{number}", (etcd, *pids))
            with limited_cpu(pids, SMALL_SHARE):
                small_two = in_own_process(_create, *arguments, f"small-two-{number}", ())
        return cls(raw, gathered, one, two, small_one, small_two, etcd)

    def etcd_cpu(self, load: Load) -> float:
        """Return µs of etcd a call."""
        return load.served_cpu_seconds[self.etcd] / load.calls * 1e6

    def worker_cpu(self, load: Load) -> float:
        """Return µs of all workers a call."""
        return sum(s for pid, s in load.served_cpu_seconds.items() if pid != self.etcd) / load.calls * 1e6


def _create_rows(rounds: list[_Round]) -> list[Row]:
    def middle(value: Callable[[_Round], float]) -> float:
        return statistics.median(map(value, rounds))

    raw, one, two = middle(lambda r: r.raw.rate), middle(lambda r: r.one.rate), middle(lambda r: r.two.rate)
    small_one, small_two = middle(lambda r: r.small_one.rate), middle(lambda r: r.small_two.rate)
    small_growth = middle(lambda r: r.small_two.rate / r.small_one.rate)
    # A round's figures were measured within seconds of each other; so each round has its ratio.
    ratio, growth = middle(lambda r: r.one.rate / r.raw.rate), middle(lambda r: r.two.rate / r.one.rate)
    gathered, of_gathered = middle(lambda r: r.gathered.rate), middle(lambda r: r.one.rate / r.gathered.rate)
    own_cpu, own_cpu_of_two = middle(lambda r: r.worker_cpu(r.one)), middle(lambda r: r.worker_cpu(r.two))
    raw_cpu = middle(lambda r: r.raw.cpu_seconds / r.raw.calls * 1e6)
    etcd_cpu, etcd_cpu_of_two = middle(lambda r: r.etcd_cpu(r.one)), middle(lambda r: r.etcd_cpu(r.two))
    raw_etcd_cpu = middle(lambda r: r.etcd_cpu(r.raw))
    busy, raw_busy = middle(lambda r: r.one.busy), middle(lambda r: r.raw.busy)
    return [
        Row(
            SECTION, f"create, 1 worker, {CALLERS} callers", f"{one:,.0f}/s ({_spread(r.one for r in rounds)})",
            f"compare-and-swap {raw:,.0f}/s ({_spread(r.raw for r in rounds)})", ratio,
            f"≥ {CREATE_LIMIT}", ratio >= CREATE_LIMIT,
        ),
        Row(
            SECTION, "the same beside gathered writes", f"{one:,.0f}/s",
            f"compare-and-swap by the store's group commit {gathered:,.0f}/s", of_gathered,
        ),
        Row(
            SECTION, "create, 2 workers", f"{two:,.0f}/s ({_spread(r.two for r in rounds)})",
            f"1 worker {one:,.0f}/s", growth, "> 1", growth > 1,
        ),
        Row(
            SECTION, f"create, 2 workers with {SMALL_SHARE:.0%} of a core each",
            f"{small_two:,.0f}/s ({_spread(r.small_two for r in rounds)})",
            f"1 such worker {small_one:,.0f}/s", small_growth, "> 1", small_growth > 1,
        ),
        Row(
            SECTION, "CPU of a create", f"{own_cpu:,.0f} µs in the worker", f"{raw_cpu:,.0f} µs in the raw client",
            own_cpu / raw_cpu,
        ),
        Row(
            SECTION, "CPU of a create, 2 workers", f"{own_cpu_of_two:,.0f} µs in both together",
            f"{own_cpu:,.0f} µs in the only one", own_cpu_of_two / own_cpu,
        ),
        Row(
            SECTION, "CPU of etcd a create",
            f"{etcd_cpu:,.0f} µs, with 2 workers {etcd_cpu_of_two:,.0f} µs", f"{raw_etcd_cpu:,.0f} µs",
            etcd_cpu / raw_etcd_cpu,
        ),
        Row(
            SECTION, "load generator of creates", f"{busy:.0%} of a core",
            f"{raw_busy:.0%} (raw, caller and client in one)", busy / raw_busy,
        ),
    ]  # fmt: skip


def _spread(loads: Iterable[Load]) -> str:
    rates = sorted(load.rate for load in loads)
    return f"{rates[0]:,.0f} to {rates[-1]:,.0f}"


def _read_rows(
    get: Load, raw_get: Load, listed: Load, raw_list: Load, watch: list[float], raw_watch: list[float]
) -> list[Row]:
    def row(name: str, ours: str, beside: str, ratio: float) -> Row:
        return Row(SECTION, name, ours, beside, ratio)

    latencies = [f"p50 {percentile(w, 50):.1f} ms, p99 {percentile(w, 99):.1f} ms" for w in (watch, raw_watch)]
    return [
        row("load generator of gets", f"{get.busy:.0%} of a core", f"{raw_get.busy:.0%}", get.busy / raw_get.busy),
        row("get", f"{get.rate:,.0f}/s", f"linearizable get {raw_get.rate:,.0f}/s", get.rate / raw_get.rate),
        row(
            f"list of {LISTED:,}", f"{listed.rate:,.0f}/s", f"linearizable range {raw_list.rate:,.0f}/s",
            listed.rate / raw_list.rate,
        ),
        row(
            f"create to event at {WATCHERS} watchers", latencies[0], f"etcd watches {latencies[1]}",
            percentile(watch, 50) / percentile(raw_watch, 50),
        ),
    ]  # fmt: skip


def _network(name: str) -> bytes:
    metadata = {"project": PROJECT, "name": name, "labels": {"app": "bench"}}
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "Network", "metadata": metadata, "spec": {}})


VALUE = orjson.dumps({"metadata": "x" * 700})
"""As large as a stored Network."""


async def _raw_create(settings: EtcdSettings, run: str, pids: tuple[int, ...]) -> Load:
    names = itertools.count()
    async with EtcdClient(settings) as client:

        async def create() -> None:
            key = RAW + f"{run}/{next(names)}".encode()
            done = await client.txn([Compare.absent(key)], [Put(key, VALUE)])
            assert done.succeeded

        return await drive([create] * CALLERS, ROUND_SECONDS, warm_up_seconds=WARM_UP_SECONDS, pids=pids)


async def _gathered_create(settings: EtcdSettings, run: str) -> Load:
    names = itertools.count()
    async with EtcdClient(settings) as client:
        commits = GroupCommit(client, WatchCache(client))

        async def create() -> None:
            key = RAW + f"gathered-{run}/{next(names)}".encode()
            done = await commits.txn(Txn([Compare.absent(key)], [Put(key, VALUE)]))
            assert done.succeeded

        return await drive([create] * CALLERS, ROUND_SECONDS, warm_up_seconds=WARM_UP_SECONDS)


async def _raw_reads(settings: EtcdSettings) -> tuple[Load, Load, list[float]]:
    async with EtcdClient(settings) as client:
        for n in range(LISTED):
            await client.put(RAW + f"read/{n:05}".encode(), VALUE)
        get = await drive([lambda: client.get(RAW + b"read/00500")] * CALLERS, SECONDS)
        listed = await drive([lambda: client.range(RAW + b"read/")] * 8, SECONDS)
        watch = await _raw_watch(client)
    return get, listed, watch


async def _raw_watch(client: EtcdClient) -> list[float]:
    prefix, sent, latencies = RAW + b"watch/", dict[bytes, float](), list[float]()
    loop = asyncio.get_running_loop()
    revision = await client.current_revision()

    async def follow() -> None:
        left = EVENTS
        async with client.watch(prefix, revision + 1) as watch:
            async for batch in watch:
                for event in batch.events:
                    latencies.append((loop.time() - sent[event.kv.key]) * 1000)
                    left -= 1
                if left <= 0:
                    return

    following = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
    await asyncio.sleep(1.0)
    for n in range(EVENTS):
        key = prefix + str(n).encode()
        sent[key] = loop.time()
        await client.put(key, VALUE)
        await asyncio.sleep(EVENT_PAUSE_SECONDS)
    await asyncio.gather(*following)
    return latencies


async def _prepare(port: int, ca: Path, token: str) -> None:
    http = await Http.connect(port, ca, token)
    project = {"apiVersion": API_VERSION, "kind": "Project", "metadata": {"name": PROJECT}, "spec": {}}
    await http.request("POST", "/api/v1/projects", orjson.dumps(project))


async def _create(port: int, ca: Path, token: str, run: str, pids: tuple[int, ...]) -> Load:
    names = itertools.count()
    path = f"/api/v1/projects/{PROJECT}/networks"
    connections = [await Http.connect(port, ca, token) for _ in range(CALLERS)]
    return await drive(
        [lambda c=c: c.request("POST", path, _network(f"{run}-{next(names)}")) for c in connections],  # type: ignore[misc]
        ROUND_SECONDS,
        warm_up_seconds=WARM_UP_SECONDS,
        pids=pids,
    )


async def _get(port: int, ca: Path, token: str) -> Load:
    path = f"/api/v1/projects/{PROJECT}/networks/one-0-0"
    connections = [await Http.connect(port, ca, token) for _ in range(CALLERS)]
    return await drive([lambda c=c: c.request("GET", path) for c in connections], SECONDS)  # type: ignore[misc]


async def _list(port: int, ca: Path, token: str) -> Load:
    path = f"/api/v1/projects/{PROJECT}/networks?limit={LISTED}"
    connections = [await Http.connect(port, ca, token) for _ in range(8)]
    answer = orjson.loads(await connections[0].request("GET", path))
    assert len(answer["items"]) == LISTED, "there were too few creates to list"
    return await drive([lambda c=c: c.request("GET", path) for c in connections], SECONDS)  # type: ignore[misc]


async def _watch(port: int, ca: Path, token: str) -> list[float]:
    import ssl

    context = ssl.create_default_context(cafile=str(ca))
    loop, sent, latencies = asyncio.get_running_loop(), dict[bytes, float](), list[float]()
    http = await Http.connect(port, ca, token)
    path = f"/api/v1/projects/{PROJECT}/networks"
    version = orjson.loads(await http.request("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]

    async def follow() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        query = f"{path}?watch=true&resourceVersion={version}"
        writer.write(f"GET {query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        left = EVENTS
        while left:
            line = await reader.readline()
            if not line:
                raise RuntimeError("the watch ended")
            at = line.find(b'"name":"watch-')
            if at > 0:
                name = line[at + 8 : line.index(b'"', at + 8)]
                latencies.append((loop.time() - sent[name]) * 1000)
                left -= 1
        writer.close()

    following = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
    await asyncio.sleep(2.0)
    for n in range(EVENTS):
        sent[f"watch-{n}".encode()] = loop.time()
        await http.request("POST", path, _network(f"watch-{n}"))
        await asyncio.sleep(EVENT_PAUSE_SECONDS)
    await asyncio.gather(*following)
    return latencies
