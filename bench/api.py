"""The API beside raw etcd, through the same etcd client, at the same concurrency, both with TLS."""

import asyncio
import itertools
import statistics
from pathlib import Path

import orjson

from bench.daemons import Daemons
from bench.load import Http, Load, drive, in_own_process, percentile
from bench.machine import read_usage
from bench.table import Row
from vcstack.specs.meta import API_VERSION
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.ops import Compare, Put
from vcstack.store.etcd.settings import EtcdSettings

SECTION = "API beside raw etcd"
CALLERS = 64
SECONDS = 5.0
LISTED = 1000
WATCHERS = 100
EVENTS = 200
EVENT_PAUSE_SECONDS = 0.02
CREATE_LIMIT = 0.4
PROJECT = "bench"
RAW = b"/vcstack/.bench/"


def measure() -> list[Row]:
    """Run all and return the rows."""
    with Daemons() as daemons:
        raw = in_own_process(_raw_create, daemons.etcd_settings, "before")
        raw_get, raw_list, raw_watch = in_own_process(_raw_reads, daemons.etcd_settings)
        with daemons.management(roles="api") as pid:
            arguments = (daemons.api_port, daemons.pki.ca_cert, daemons.pki.admin_token.read_text().strip())
            in_own_process(_prepare, *arguments)
            before = read_usage(pid).cpu_seconds
            one = in_own_process(_create, *arguments, "one")
            cpu = read_usage(pid).cpu_seconds - before
            get, listed = in_own_process(_get, *arguments), in_own_process(_list, *arguments)
            watch = in_own_process(_watch, *arguments)
        with daemons.management(roles="api", workers=2):
            two = in_own_process(_create, *arguments, "two")
        again = in_own_process(_raw_create, daemons.etcd_settings, "after")
    return _rows(raw, again, one, two, cpu, get, raw_get, listed, raw_list, watch, raw_watch)


def _rows(
    raw: Load,
    again: Load,
    one: Load,
    two: Load,
    cpu: float,
    get: Load,
    raw_get: Load,
    listed: Load,
    raw_list: Load,
    watch: list[float],
    raw_watch: list[float],
) -> list[Row]:
    rate = statistics.mean((raw.rate, again.rate))
    ratio, growth = one.rate / rate, two.rate / one.rate
    raw_cpu = (raw.cpu_seconds + again.cpu_seconds) / (raw.calls + again.calls) * 1e6
    # The worker's CPU also covers the warm-up second, in which it creates at the same rate.
    own_cpu = cpu / (one.calls * (1 + 1 / one.seconds)) * 1e6
    beside = f"compare-and-swap {rate:,.0f}/s ({raw.rate:,.0f} before, {again.rate:,.0f} after)"

    def row(name: str, ours: str, beside: str, ratio: float, limit: str = "", holds: bool | None = None) -> Row:
        return Row(SECTION, name, ours, beside, ratio, limit, holds)

    latencies = [f"p50 {percentile(w, 50):.1f} ms, p99 {percentile(w, 99):.1f} ms" for w in (watch, raw_watch)]
    return [
        row(
            f"create, 1 worker, {CALLERS} callers", f"{one.rate:,.0f}/s", beside, ratio,
            f"≥ {CREATE_LIMIT}", ratio >= CREATE_LIMIT,
        ),
        row("create, 2 workers", f"{two.rate:,.0f}/s", f"1 worker {one.rate:,.0f}/s", growth, "> 1", growth > 1),
        row(
            "CPU of a create", f"{own_cpu:,.0f} µs in the worker", f"{raw_cpu:,.0f} µs in the raw client",
            own_cpu / raw_cpu,
        ),
        row(
            "load generator", f"{one.busy:.0%} of a core (create), {get.busy:.0%} (get)",
            f"{raw.busy:.0%} (raw, caller and client in one)", one.busy / raw.busy,
        ),
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


async def _raw_create(settings: EtcdSettings, run: str) -> Load:
    names = itertools.count()
    async with EtcdClient(settings) as client:

        async def create() -> None:
            key = RAW + f"{run}/{next(names)}".encode()
            done = await client.txn([Compare.absent(key)], [Put(key, VALUE)])
            assert done.succeeded

        load = await drive([create] * CALLERS, SECONDS)
        await client.delete(RAW, range_end=RAW + b"\xff")
        return load


async def _raw_reads(settings: EtcdSettings) -> tuple[Load, Load, list[float]]:
    async with EtcdClient(settings) as client:
        for n in range(LISTED):
            await client.put(RAW + f"read/{n:05}".encode(), VALUE)
        get = await drive([lambda: client.get(RAW + b"read/00500")] * CALLERS, SECONDS)
        listed = await drive([lambda: client.range(RAW + b"read/")] * 8, SECONDS)
        watch = await _raw_watch(client)
        await client.delete(RAW, range_end=RAW + b"\xff")
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


async def _create(port: int, ca: Path, token: str, run: str) -> Load:
    names = itertools.count()
    path = f"/api/v1/projects/{PROJECT}/networks"
    connections = [await Http.connect(port, ca, token) for _ in range(CALLERS)]
    return await drive(
        [lambda c=c: c.request("POST", path, _network(f"{run}-{next(names)}")) for c in connections],  # type: ignore[misc]
        SECONDS,
    )


async def _get(port: int, ca: Path, token: str) -> Load:
    path = f"/api/v1/projects/{PROJECT}/networks/one-0"
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
