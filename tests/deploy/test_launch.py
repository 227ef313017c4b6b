"""The launcher of the lab's programs, run as the supervisor runs it; no daemons needed."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.layout import CHECKOUT
from tests.fixtures.ports import free_port

LAUNCHER = CHECKOUT / "deploy" / "lab" / "launch.py"


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    return {
        "argv": ["true"], "user": None, "listen": None, "beside": [], "enter": [], "env": {"MARK": "yes"},
        "log": str(tmp_path / "logs" / "program.log"), "stamp": str(tmp_path / "stamp"), "cwd": str(tmp_path),
    }  # fmt: skip


def launch(tmp_path: Path, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    return subprocess.Popen([sys.executable, "-I", str(LAUNCHER), str(file)])


def log_of(spec: dict[str, Any]) -> str:
    return Path(spec["log"]).read_text()


def test_the_program_gets_the_launchers_pid_its_environment_and_the_log(tmp_path: Path, spec: dict[str, Any]) -> None:
    spec["argv"] = ["sh", "-c", "echo $$ $MARK; pwd; exit 3"]
    started = launch(tmp_path, spec)
    assert started.wait(timeout=60) == 3
    assert log_of(spec).split() == [str(started.pid), "yes", str(tmp_path)]


def test_the_socket_is_handed_over_as_systemd_does_and_the_port_is_free_for_a_restart(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    port = free_port()
    spec["listen"] = f"127.0.0.1:{port}"
    serve = (
        "import os,socket;"
        "s=socket.socket(fileno=3);"
        "assert os.environ['LISTEN_PID']==str(os.getpid()) and os.environ['LISTEN_FDS']=='1';"
        "c,_=s.accept();c.sendall(b'hello');c.close()"
    )
    spec["argv"] = [sys.executable, "-c", serve]
    for _ in range(2):
        started = launch(tmp_path, spec)
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    assert connection.recv(10) == b"hello"
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert started.wait(timeout=60) == 0, log_of(spec)


def test_a_program_that_fails_at_once_is_not_started_more_than_once_a_second(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    began = time.monotonic()
    for _ in range(2):
        launch(tmp_path, spec).wait(timeout=60)
    assert time.monotonic() - began >= 1.0


def test_a_command_beside_the_program_runs_and_is_not_its_child(tmp_path: Path, spec: dict[str, Any]) -> None:
    spec["beside"] = ["sh", "-c", "echo beside"]
    looks = f"until grep -q beside {spec['log']}; do sleep 0.05; done; cat /proc/$$/task/$$/children; echo done"
    spec["argv"] = ["sh", "-c", looks]
    assert launch(tmp_path, spec).wait(timeout=60) == 0
    beside, *children, done = log_of(spec).split()
    assert (beside, len(children), done) == ("beside", 1, "done"), "only cat itself is its child"


def test_a_log_that_grew_large_starts_afresh(tmp_path: Path, spec: dict[str, Any]) -> None:
    log = Path(spec["log"])
    log.parent.mkdir()
    with log.open("w") as out:
        out.truncate(33 << 20)
    spec["argv"] = ["echo", "new"]
    launch(tmp_path, spec).wait(timeout=60)
    assert log.read_text() == "new\n"
    assert log.with_name("program.log.1").stat().st_size == 33 << 20
