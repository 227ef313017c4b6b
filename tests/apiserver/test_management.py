# ruff: noqa: SIM117 (blocking file access is fine here; nested blocks read better)
"""vc-management as a process: init, serve, join-token, workers, and what is missing."""

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.fixtures.etcd import EtcdServer, TlsFiles
from tests.fixtures.ports import free_port
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiserver.server import inherited_sockets, open_sockets, split_address
from vcstack.programs.management import init
from vcstack.programs.roles import ALL_ROLES, Role, parse_roles
from vcstack.programs.settings import SettingsError, load_settings
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.flavor import Flavor, FlavorSpec
from vcstack.specs.kinds.ratelimitpolicy import Per, RateLimit, RateLimitPolicy, RateLimitPolicySpec, RouteClass
from vcstack.specs.registry import get_kind

PROGRAM = str(Path(sys.executable).with_name("vc-management"))
START_SECONDS = 180
"""Of each program; one that imports all of ours takes longer where others do as well."""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120)


def config_for(state: Path, etcd: str, port: int) -> dict[str, Any]:
    pki = state / "pki"
    client = {"caFile": f"{pki}/ca.crt", "certFile": f"{pki}/management.crt", "keyFile": f"{pki}/management.key"}
    return {
        "stateDir": str(state),
        "etcd": {"endpoints": [etcd], **client},
        "postgres": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "ovn": {"northbound": "ssl:127.0.0.1:1", **client},
        "api": {"listen": [f"127.0.0.1:{port}"], "certFile": f"{pki}/api.crt", "keyFile": f"{pki}/api.key"},
        "pki": {"caCertFile": f"{pki}/ca.crt", "caKeyFile": f"{pki}/ca.key"},
        "imageDir": str(state / "images"),
    }


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Manager:
    """A running vc-management."""

    def __init__(self, state: Path, config: Path, port: int, program: str = PROGRAM) -> None:
        self.state, self.config, self.port = state, config, port
        self.url = f"https://127.0.0.1:{port}"
        self.log = state / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program, "serve", "--config", str(config)], stderr=log)

    def wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.state / "pki" / "ca.crt"))
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=30):
                    return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def client(self) -> ApiClient:
        token, ca = self.state / "admin-token", self.state / "pki" / "ca.crt"
        return ApiClient.connect(ConnectionSettings(api_url=self.url, ca_file=ca, token_file=token))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=60)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    found = tmp_path / "state"
    init(argparse.Namespace(state=found, api_url="https://127.0.0.1:8443", san=[], project=""))
    return found


@pytest.fixture
def etcd(state: Path) -> Iterator[EtcdServer]:
    from vcstack.pki.installation import ensure_installation

    server = EtcdServer(TlsFiles(ensure_installation(state)))
    server.start()
    yield server
    server.discard()


@pytest.fixture
def manager(state: Path, etcd: EtcdServer, request: pytest.FixtureRequest) -> Iterator[Manager]:
    """vc-management with etcd, without PostgreSQL and OVN."""
    port = free_port()
    config = state / "management.yaml"
    extra = getattr(request, "param", {})
    config.write_text(yaml.safe_dump(config_for(state, etcd.endpoint, port) | extra))
    found = Manager(state, config, port)
    try:
        found.wait_until_ready()
        yield found
    finally:
        found.stop(signal.SIGKILL)


def test_init_makes_secrets_that_only_the_owner_reads_and_keeps_them(state: Path) -> None:
    for path in (state / "admin-token", state / "pki" / "ca.key", state / "vcctl.yaml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = {p: p.read_bytes() for p in state.rglob("*") if p.is_file()}
    assert run("init", "--state", str(state), "--api-url", "https://127.0.0.1:8443").returncode == 0
    assert {p: p.read_bytes() for p in state.rglob("*") if p.is_file()} == before


def test_init_writes_a_context_with_absolute_paths(state: Path) -> None:
    context = yaml.safe_load((state / "vcctl.yaml").read_text())
    (found,) = context["contexts"]
    assert found["apiUrl"] == "https://127.0.0.1:8443"
    assert Path(found["caFile"]).is_absolute()
    assert Path(found["tokenFile"]).exists()
    assert context["currentContext"] == found["name"]


def test_init_refuses_an_url_that_is_none(tmp_path: Path) -> None:
    done = run("init", "--state", str(tmp_path), "--api-url", "http://x")
    assert done.returncode == 1
    assert "https://HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "colour"),
        ({"api": {"listen": ["x"]}}, "api.certFile"),
        ({"apiWorkers": 0}, "apiWorkers"),
        ({"apiWorkers": "many"}, "apiWorkers"),
        ({"imageDir": "images"}, "imageDir"),
        ({"etcd": {"endpoint": "x"}}, "etcd.endpoint"),
        ({"logLevel": "loud"}, "logLevel"),
    ],
)
def test_a_wrong_setting_names_the_file_and_the_field(state: Path, change: dict[str, Any], says: str) -> None:
    path = state / "management.yaml"
    path.write_text(yaml.safe_dump(config_for(state, "127.0.0.1:1", 1) | change))
    with pytest.raises(SettingsError) as refused:
        load_settings(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "a: 1\na: 2\n", "a: &a [*a]\n"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "management.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_settings(path)
    assert str(path) in str(refused.value)


def test_what_is_wrong_with_the_settings_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "management.yaml"
    path.write_text("a: [")
    done = run("serve", "--config", str(path))
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_wins_over_the_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state / "management.yaml"
    path.write_text(yaml.safe_dump(config_for(state, "127.0.0.1:1", 1)))
    monkeypatch.setenv("VCSTACK_MANAGEMENT_API_WORKERS", "3")
    assert load_settings(path).api_workers == 3


def test_without_init_serve_says_what_to_do(state: Path, etcd: EtcdServer) -> None:
    path = state / "management.yaml"
    path.write_text(yaml.safe_dump(config_for(state, etcd.endpoint, free_port())))
    (state / "admin-token").unlink()
    done = run("serve", "--config", str(path))
    assert done.returncode == 1
    assert "vc-management init" in done.stderr
    assert "Traceback" not in done.stderr


def test_roles_are_read() -> None:
    assert parse_roles("api, mirror") == {Role.API, Role.MIRROR}
    assert len(ALL_ROLES) == 3
    with pytest.raises(ValueError, match="controllers"):
        parse_roles("api,scheduler")


@pytest.mark.parametrize("address", ["x", "x:", ":1", "x:70000", "x:-1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)


def test_several_processes_may_share_a_port() -> None:
    (first,) = open_sockets(["127.0.0.1:0"], share=True)
    (second,) = open_sockets([f"127.0.0.1:{first.getsockname()[1]}"], share=True)
    first.close()
    second.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}) == []
    assert inherited_sockets({}) == []


@pytest.mark.daemons
@pytest.mark.timeout(600)
async def test_it_serves_without_postgresql_and_ovn_and_stops_in_order(manager: Manager) -> None:
    client = manager.client()
    made = await client.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
    async with asyncio.timeout(START_SECONDS):
        async for event in client.watch(Flavor, since=made.metadata.resource_version):
            if event.object is not None and event.object.is_true("Ready"):
                break
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await client.history(get_kind("Flavor"), "tiny")
    await client.aclose()
    token = await asyncio.to_thread(run, "join-token", "--config", str(manager.config), "h1")
    assert token.returncode == 0
    assert len(token.stdout.strip()) > 20
    assert await asyncio.to_thread(manager.stop) == 0
    log = await asyncio.to_thread(manager.log.read_text)
    assert "Traceback" not in log
    assert (manager.state / "admin-token").read_text() not in log


@pytest.mark.daemons
@pytest.mark.timeout(600)
@pytest.mark.parametrize("manager", [{"apiWorkers": 2}], indirect=True)
async def test_workers_share_the_port_and_end_with_their_parent(manager: Manager) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not (children := children_of(manager.process.pid)):
            await asyncio.sleep(0.05)
    client = manager.client()
    await client.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
    for _ in range(20):
        other = manager.client()
        assert (await other.get(Flavor, "tiny")).spec.vcpus == 1
        await other.aclose()
    await client.aclose()
    await asyncio.to_thread(manager.stop, signal.SIGKILL)
    async with asyncio.timeout(START_SECONDS):
        while any(is_running(child) for child in children):
            await asyncio.sleep(0.05)


@pytest.mark.daemons
@pytest.mark.timeout(600)
@pytest.mark.parametrize("manager", [{"apiWorkers": 2}], indirect=True)
async def test_a_rate_limit_policy_says_which_workers_apply_it(manager: Manager) -> None:
    client = manager.client()
    limit = RateLimit(name="calm", per=Per.SUBJECT, requests_per_minute=600)
    await client.create(RateLimitPolicy.new("calm", RateLimitPolicySpec(limits=[limit])))

    async def applied_by(others_than: str = "") -> set[str]:
        """Return the workers once there are two of them, of whom none is called so, and all apply the policy."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                found = await client.get(RateLimitPolicy, "calm")
                names = {worker.name for worker in found.status.workers}
                if found.is_true("Ready") and found.status.applied == "2/2" and others_than not in names:
                    return names
                await asyncio.sleep(0.1)

    before = await applied_by()
    [child] = children_of(manager.process.pid)
    [killed] = [name for name in before if f"-{child}." in name]
    os.kill(child, signal.SIGKILL)
    assert len(await applied_by(others_than=killed)) == 2, "another one was started, and has seen the policy"
    await client.aclose()


@pytest.mark.daemons
@pytest.mark.timeout(600)
@pytest.mark.parametrize("manager", [{"apiWorkers": 2}], indirect=True)
async def test_one_connection_gets_the_whole_of_a_limit_and_all_workers_together_no_more(manager: Manager) -> None:
    """The processes of one manager share their buckets; a child that was killed changes nothing of that."""
    client, began = manager.client(), time.monotonic()
    limit = RateLimit(name="few", per=Per.ADDRESS, routes=[RouteClass.ANONYMOUS], requests_per_minute=1, burst=40)
    await client.create(RateLimitPolicy.new("few", RateLimitPolicySpec(limits=[limit])))
    async with asyncio.timeout(START_SECONDS):
        while (await client.get(RateLimitPolicy, "few")).status.applied != "2/2":
            await asyncio.sleep(0.1)
    await client.aclose()
    trusted = ssl.create_default_context(cafile=str(manager.state / "pki" / "ca.crt"))

    async def count(tries: int) -> int:
        """Return how many of so many requests over one connection are let through."""
        async with httpx2.AsyncClient(base_url=manager.url, verify=trusted, trust_env=False, timeout=60) as raw:
            return [(await raw.get("/version")).status_code for _ in range(tries)].count(200)

    minutes = (time.monotonic() - began) / 60 + 1
    assert 40 <= await count(60) <= 40 + minutes
    assert sum([await count(3) for _ in range(10)]) <= (time.monotonic() - began) / 60 + 1, "at whatever worker"
    [child] = children_of(manager.process.pid)
    os.kill(child, signal.SIGKILL)
    async with asyncio.timeout(START_SECONDS):
        while children_of(manager.process.pid) in ([], [child]):
            await asyncio.sleep(0.05)
    assert sum([await count(3) for _ in range(10)]) <= (time.monotonic() - began) / 60 + 1


@pytest.mark.daemons
@pytest.mark.timeout(600)
async def test_it_survives_a_restart_of_etcd(manager: Manager, etcd: EtcdServer) -> None:
    client = manager.client()
    await client.create(Flavor.new("tiny", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
    await asyncio.to_thread(etcd.kill)
    with pytest.raises(Unavailable):
        await client.create(Flavor.new("lost", FlavorSpec(vcpus=1, memory_mib=128, root_disk_gib=1)))
    await asyncio.to_thread(etcd.start)
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(Unavailable):
                assert (await client.get(Flavor, "tiny")).spec.vcpus == 1
                break
    await client.aclose()
