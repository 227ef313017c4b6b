"""What a running vc-management, as a process, lets nobody find: its settings' secrets, tokens, keys, values."""

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.apiserver.test_canary import Canaries, dump_of, inner_line
from tests.apiserver.test_management import PROGRAM, Manager, config_for, etcd, state
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.ports import free_port
from tests.fixtures.postgres import PostgresServer
from vcstack.crypto import keyringfile
from vcstack.crypto.enc import encrypt_value, open_key_file
from vcstack.crypto.sources import InFile

pytestmark = [pytest.mark.daemons, pytest.mark.timeout(600)]
__all__ = ["etcd", "state"]
DATABASE = "canaries"


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def manager(
    state: Path, etcd: EtcdServer, own_postgres: PostgresServer, canaries: Canaries, tmp_path: Path
) -> Iterator[Manager]:
    """vc-management with a password for PostgreSQL that is encrypted in its file; core files are allowed to it."""
    key_file, port = tmp_path / "secrets.key", free_port()
    keyringfile.create(key_file, InFile.fresh())
    password = canaries.new("a password in ENC()")
    dsn = f"postgresql://vcstack:{password}@/{DATABASE}?host={own_postgres.folder}"
    settings = config_for(state, etcd.endpoint, port) | {
        "secretsKeyFile": str(key_file),
        "postgres": {"dsn": encrypt_value(open_key_file(key_file), dsn)},
        "logLevel": "debug",
    }
    config = state / "management.yaml"
    config.write_text(yaml.safe_dump(settings))
    config.chmod(0o600)
    allowing = tmp_path / "vc-management"
    allowing.write_text(f'#!/bin/sh\nulimit -c unlimited\ncd "{state}"\nexec "{PROGRAM}" "$@"\n')
    allowing.chmod(0o755)
    found = Manager(state, config, port, program=str(allowing))
    try:
        found.wait_until_ready()
        yield found
    finally:
        found.stop(signal.SIGKILL)


def plant(manager: Manager, canaries: Canaries) -> None:
    """Secrets through the API of the process."""
    token = (manager.state / "admin-token").read_text().strip()
    context = ssl.create_default_context(cafile=str(manager.state / "pki" / "ca.crt"))
    headers = {"authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=manager.url, verify=context, trust_env=False, headers=headers, timeout=60) as client:

        def post(path: str, body: dict[str, Any] | None = None) -> Any:
            answer = client.post(f"/api/v1/{path}", json=body) if body else client.post(f"/api/v1/{path}")
            assert answer.is_success, answer.text
            return answer.json()

        for name in ("projects/demo", "users/alice", "hosts/h9"):
            post(name.partition("/")[0], {"metadata": {"name": name.partition("/")[2]}, "spec": {}})
        data = {"password": canaries.new("a secret's value")}
        post("projects/demo/secrets", {"metadata": {"name": "s"}, "spec": {"data": data}})
        canaries.planted["a one-time secret"] = post("users/alice/initialsecret")["secret"].encode()
        canaries.planted["a join token"] = post("hosts/h9/jointoken")["token"].encode()
    canaries.planted["the administrator's token"] = token.encode()
    canaries.planted["the CA's key"] = inner_line((manager.state / "pki" / "ca.key").read_bytes())


def is_private(path: Path, state: Path) -> bool:
    """Whether it is one of the files that are there to keep a secret; nobody else may read them."""
    return (
        path.suffix == ".key" or path.name in ("admin-token", "keyring.json") or "keys" in path.relative_to(state).parts
    )


def test_nothing_of_it_is_found_after_it_was_aborted(
    manager: Manager, etcd: EtcdServer, own_postgres: PostgresServer, canaries: Canaries
) -> None:
    plant(manager, canaries)
    pid = manager.process.pid
    found = canaries.found_in("the command line", Path(f"/proc/{pid}/cmdline").read_bytes())
    found += canaries.found_in("the environment", Path(f"/proc/{pid}/environ").read_bytes())
    assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())
    os.kill(pid, signal.SIGABRT)
    _, status = os.waitpid(pid, 0)
    manager.process.returncode = -os.WTERMSIG(status)  # it is reaped here, for the kernel's word on its core file
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert list(manager.state.rglob("core*")) == []
    etcd.stop()
    folders = (manager.state, etcd.data, own_postgres.folder / "data")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    private = [path for path in files if path.is_relative_to(manager.state) and is_private(path, manager.state)]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    for path in set(files) - set(private):
        found += canaries.found_in(str(path), path.read_bytes())
    found += canaries.found_in("a dump of PostgreSQL", dump_of(own_postgres.dsn(DATABASE)))
    assert found == []
    assert len(canaries.planted) == 6
    assert b"initialsecret" in manager.log.read_bytes()


def test_what_is_searched_for_would_be_found(canaries: Canaries, tmp_path: Path) -> None:
    value = canaries.new("a value")
    (tmp_path / "core").write_bytes(b"\0" + value.encode() + b"\0")
    done = subprocess.run(["cat", str(tmp_path / "core")], capture_output=True, check=True)
    assert canaries.found_in("core", done.stdout) == ["a value in core"]
