"""The daemons that benchmarks run against: etcd and OVN's northbound database with TLS, and vc-management itself.

All on the loopback, on free ports, in a temporary folder, started with the options of the deployment. They
end with the benchmark, however that ends.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from vcstack.crypto import keyringfile
from vcstack.pki.installation import ETCD_CLIENT, Installation, ensure_installation
from vcstack.programs.settings import KEYRING_NAME
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.settings import EtcdSettings

START_SECONDS = 60.0
NB_SCHEMA = Path("/usr/share/ovn/ovn-nb.ovsschema")
# However this process ends, they end with it.
TOGETHER = ("setpriv", "--pdeathsig", "KILL")


class Daemons:
    """A control plane of its own for one benchmark; use as a context manager."""

    def __init__(self, *, ovn: bool = False, niceness: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vcstack-bench-"))
        self.pki: Installation = ensure_installation(self.folder)
        keyringfile.ensure(self.folder / KEYRING_NAME)
        self.api_port, self._etcd_port, self._peer_port = _free_ports(3)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ovn = ovn
        self._niceness = niceness

    @property
    def api_url(self) -> str:
        """Where the API is."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def northbound(self) -> Path:
        """The socket of the northbound database."""
        return self.folder / "nb.sock"

    @property
    def etcd_settings(self) -> EtcdSettings:
        """How etcd is reached: by the same client, certificates and settings as vc-management's."""
        own = self.pki.management
        endpoint = f"127.0.0.1:{self._etcd_port}"
        return EtcdSettings(endpoints=(endpoint,), ca_file=self.pki.ca_cert, cert_file=own.cert, key_file=own.key)

    def __enter__(self) -> "Daemons":
        self._start("etcd", *self._etcd_command())
        if self._ovn:
            database = self.folder / "nb.db"
            subprocess.run(["ovsdb-tool", "create", str(database), str(NB_SCHEMA)], check=True)
            control = f"--unixctl={self.folder}/nb.ctl"
            self._start("ovsdb", "ovsdb-server", f"--remote=punix:{self.northbound}", control, str(database))
            deadline = time.monotonic() + START_SECONDS
            while not self.northbound.exists():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"ovsdb-server did not start:\n{self.log('ovsdb')[-2000:]}")
                time.sleep(0.02)
            subprocess.run(["ovn-nbctl", f"--db=unix:{self.northbound}", "init"], check=True, timeout=START_SECONDS)
        asyncio.run(self._wait_for_etcd())
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(tuple(self.processes)):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_management(self, *, roles: str, workers: int = 1) -> int:
        """Start vc-management as it is served, wait until all its workers listen, and return its pid."""
        config = self.folder / "management.yaml"
        config.write_text(yaml.safe_dump(self._management(workers)))
        self._start(
            "management",
            *(sys.executable, "-m", "vcstack.programs.management", "serve", "--config", str(config), "--roles", roles),
        )
        deadline = time.monotonic() + START_SECONDS
        while _count_listeners(self.api_port) < workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"vc-management did not start:\n{self.log('management')[-2000:]}")
            time.sleep(0.05)
        return self.processes["management"].pid

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a daemon."""
        process = self.processes.pop(name)
        process.kill() if kill else process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        """Return what a daemon has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @contextlib.contextmanager
    def management(self, *, roles: str, workers: int = 1) -> Iterator[tuple[int, ...]]:
        """Run vc-management and yield the pids of its processes."""
        pid = self.start_management(roles=roles, workers=workers)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield (pid, *map(int, children))
        self.stop("management")

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            together = ("nice", "-n", str(self._niceness), *TOGETHER, *command)
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            self.processes[name] = subprocess.Popen(
                together, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _etcd_command(self) -> list[str]:
        client, peer = f"https://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            "etcd", "--name=bench", f"--data-dir={self.folder}/etcd", "--logger=zap", "--log-level=warn",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=bench={peer}",
            "--client-cert-auth", f"--trusted-ca-file={self.pki.ca_cert}",
            f"--client-cert-allowed-hostname={ETCD_CLIENT}",
            f"--cert-file={self.pki.etcd.cert}", f"--key-file={self.pki.etcd.key}",
            "--enable-grpc-gateway=false", "--backend-batch-limit=200", "--backend-batch-interval=10ms",
        ]  # fmt: skip

    def _management(self, workers: int) -> dict[str, object]:
        own = self.pki.management
        etcd = {"endpoints": list(self.etcd_settings.endpoints), "caFile": str(self.pki.ca_cert)}
        etcd |= {"certFile": str(own.cert), "keyFile": str(own.key)}
        found: dict[str, object] = {
            "stateDir": str(self.folder),
            "etcd": etcd,
            "api": {
                "listen": [f"127.0.0.1:{self.api_port}"],
                "certFile": str(self.pki.api.cert),
                "keyFile": str(self.pki.api.key),
            },
            "pki": {"caCertFile": str(self.pki.ca_cert), "caKeyFile": str(self.pki.ca_key)},
            "imageDir": str(self.folder / "images"),
            "apiWorkers": workers,
        }
        return found | ({"ovn": {"northbound": f"unix:{self.northbound}"}} if self._ovn else {})

    async def _wait_for_etcd(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        async with EtcdClient(self.etcd_settings) as client:
            while True:
                try:
                    await client.current_revision()
                    return
                except EtcdError:
                    if time.monotonic() > deadline:
                        raise


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _count_listeners(port: int) -> int:
    """Return how many processes listen on the port: proc_net_tcp(5), where 0A is TCP_LISTEN."""
    sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in sockets)
