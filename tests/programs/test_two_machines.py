"""A cloud on two machines, each with a manager and a member of etcd, folders and certificates of its own."""

import argparse
import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.test_management import Manager, config_for
from tests.fixtures.etcd import EtcdServer, TlsFiles
from tests.fixtures.ports import free_ports
from vcstack.pki.authority import CertificateAuthority, Issued, is_issued_by, load_certificate, load_certificates
from vcstack.pki.installation import ETCD_CLIENT, ensure_installation
from vcstack.pki.keys import generate_key_and_csr
from vcstack.pki.probe import HTTP, Endpoint, probe
from vcstack.programs.management import init

pytestmark = [pytest.mark.daemons, pytest.mark.timeout(1200)]

VCCTL = str(Path(sys.executable).with_name("vcctl"))
SHARED = ("pki/ca.crt", "pki/ca.key", "admin-token", "keyring.json")
"""What the second machine gets from the first; all else it makes for itself."""
CALM = ("--heartbeat-interval", "100", "--election-timeout", "2000")


class Machine:
    """A folder, a manager, a member of etcd, which reads whom to trust only when it starts."""

    def __init__(self, state: Path, first: "Machine | None") -> None:
        self.state, self.name = state, state.name
        self.port, self.peer_port = free_ports(2)
        if first is not None:
            for file in SHARED:
                (state / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(first.state / file, state / file)
        init(argparse.Namespace(state=state, api_url=f"https://127.0.0.1:{self.port}", san=[], project=""))
        self.pki = ensure_installation(state)
        self.bundle = state / "pki" / "ca.crt"
        self.etcd: EtcdServer
        self.manager: Manager
        self._trusted = b""

    @property
    def peer(self) -> str:
        return f"https://127.0.0.1:{self.peer_port}"

    def join(self, machines: "list[Machine]") -> None:
        """Make the member of etcd, with TLS among members by the same certificate."""
        files = self.pki
        self.etcd = EtcdServer(
            TlsFiles(files),
            (
                *CALM,
                *("--name", self.name, "--initial-cluster", ",".join(f"{m.name}={m.peer}" for m in machines)),
                *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
                *("--peer-cert-file", str(files.etcd.cert), "--peer-key-file", str(files.etcd.key)),
                *("--peer-trusted-ca-file", str(files.ca_cert), "--peer-client-cert-auth"),
                *("--peer-cert-allowed-hostname", ETCD_CLIENT),
            ),
        )

    def start_etcd(self) -> None:
        self._trusted = self.bundle.read_bytes()
        self.etcd.start()

    def follow(self) -> None:
        """Do as deploy/systemd/vcstack-etcd-trust.path: restart the member when it has to trust others."""
        if self.bundle.read_bytes() != self._trusted:
            self.etcd.stop()
            self.start_etcd()

    def start_manager(self, machines: "list[Machine]") -> None:
        config = config_for(self.state, self.etcd.endpoint, self.port)
        config["etcd"]["endpoints"] = list(dict.fromkeys([self.etcd.endpoint, *(m.etcd.endpoint for m in machines)]))
        config["ovn"] = {"northbound": "unix:/nowhere/ovnnb.sock"}
        del config["postgres"]
        path = self.state / "management.yaml"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        self.manager = Manager(self.state, path, self.port)

    def served(self) -> Iterator[bytes]:
        for each in self.pki.services:
            yield each.cert.read_bytes()

    def answers(self) -> bool:
        """Whether its API is trusted by its own bundle, and ready."""
        trust = ssl.create_default_context(cafile=str(self.bundle))
        try:
            urllib.request.urlopen(f"{self.manager.url}/readyz", context=trust, timeout=10).close()
        except OSError:
            return False
        return True


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    first = Machine(tmp_path / "one", None)
    found = [first, Machine(tmp_path / "two", first)]
    with contextlib.ExitStack() as ending:
        for machine in found:
            machine.join(found)
            ending.callback(machine.etcd.discard)
        # Neither is healthy without the other one. They end with the threads that start them.
        pool = ending.enter_context(ThreadPoolExecutor(2))
        list(pool.map(Machine.start_etcd, found))
        for machine in found:
            machine.start_manager(found)
            ending.callback(machine.manager.stop)
        for machine in found:
            machine.manager.wait_until_ready()
        yield found


def trusted_by(machine: Machine) -> list[Any]:
    return list(load_certificates(machine.bundle.read_bytes()))


async def test_a_new_authority_reaches_both_machines_and_all_members_of_etcd(machines: list[Machine]) -> None:
    one, two = machines
    assert one.pki.api.cert.read_bytes() != two.pki.api.cert.read_bytes()
    former = CertificateAuthority.load(one.pki.ca_cert, one.pki.ca_key)
    old = trusted_by(one)
    environment = {**os.environ, "VCCTL_CONFIG": str(two.state / "vcctl.yaml")}
    rotating = await asyncio.create_subprocess_exec(
        *(VCCTL, "ca", "rotate", "--overlap", "0s", "--wait"),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    ending = asyncio.create_task(rotating.communicate())
    try:
        async with asyncio.timeout(400):
            while not ending.done():
                for machine in machines:  # one after the other, as people have to
                    await asyncio.to_thread(machine.follow)
                await asyncio.sleep(0.2)
    finally:
        if rotating.returncode is None:
            rotating.kill()
        said, _ = await ending
    assert rotating.returncode == 0, said.decode()
    (new,) = trusted_by(one)
    assert trusted_by(two) == [new]
    assert [new] != old
    assert one.pki.ca_key.read_bytes() == two.pki.ca_key.read_bytes()
    for machine in machines:
        assert all(is_issued_by(load_certificate(pem), new) for pem in machine.served())
        async with asyncio.timeout(60):  # its member of etcd was just restarted
            while not await asyncio.to_thread(machine.answers):
                await asyncio.sleep(0.2)
        host, _, port = machine.etcd.endpoint.rpartition(":")
        endpoint = Endpoint(machine.name, host, int(port), HTTP)
        assert not (
            await probe(endpoint, former.issue_client("system:management", hours=1, sans=(ETCD_CLIENT,)))
        ).accepted
        authority = CertificateAuthority.load(machine.pki.ca_cert, machine.pki.ca_key)
        seen = await probe(endpoint, authority.issue_client("system:probe", hours=1, sans=(ETCD_CLIENT,)))
        assert seen.accepted
        assert seen.certificate is not None
        assert is_issued_by(seen.certificate, new)
        # Members let in each other only, and no host.
        among = Endpoint(f"{machine.name}'s peers", "127.0.0.1", machine.peer_port, HTTP)
        key, request = generate_key_and_csr("h1")
        joined = Issued(authority.sign_csr(request, "system:host:h1", hours=1), key)
        member = Issued(two.pki.etcd.cert.read_bytes(), two.pki.etcd.key.read_bytes())
        assert [(await probe(among, each)).accepted for each in (member, joined)] == [True, False]
