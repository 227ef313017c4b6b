"""Talking to supervisord, the well-kept supervisor from PyPI that runs and restarts every program of a lab."""

import http.client
import os
import signal
import socket
import subprocess
import xmlrpc.client
from pathlib import Path
from typing import Any

from deploy.lab import procfs
from deploy.lab.errors import LabError
from deploy.lab.layout import BIN, CHECKOUT, Layout, write
from deploy.lab.programs import Program, supervisor_section, write_spec
from deploy.lab.shell import wait_until

ALREADY = (60, 90)  # supervisor.xmlrpc.Faults: ALREADY_STARTED, ALREADY_ADDED
NOT_RUNNING = 70
GONE = (xmlrpc.client.Fault, OSError, http.client.HTTPException)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Kept where the base class closes it from.
        connection = _UnixConnection(self._path)
        self._connection = (host, connection)
        return connection


class Supervisor:
    """One lab's supervisord."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._socket = layout.short / "supervisor" / "s.sock"
        self.log = layout.state / "logs" / "supervisord.log"

    def _call(self, method: str, *args: object) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._socket)) as proxy:
            return getattr(proxy.supervisor, method)(*args)

    def pid(self) -> int | None:
        """The pid of the running supervisord, or None."""
        try:
            return int(self._call("getPID"))
        except GONE:
            return None

    def ensure(self) -> bool:
        """Starts supervisord in a session of its own unless it runs; returns whether it did."""
        if self.pid() is not None:
            return False
        folder = self._layout.supervisor
        config = folder / "supervisord.conf"
        base = self._layout.short / "supervisor"
        text = (
            f"[supervisord]\nnodaemon=true\nlogfile={self._layout.short}/logs/supervisord.log\nloglevel=info\n"
            f"logfile_maxbytes=10MB\nlogfile_backups=1\npidfile={base}/supervisord.pid\nchildlogdir={base}\n"
            "nocleanup=true\nuser=root\nminfds=4096\n"
            f"[unix_http_server]\nfile={base}/s.sock\nchmod=0700\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[include]\nfiles={base}/groups/*.conf\n"
        )
        write(config, text)
        # Groups are added as they are needed, so that nothing left over from a smaller or larger lab is kept.
        for stale in (folder / "groups").glob("*.conf"):
            stale.unlink()
        (folder / "s.sock").unlink(missing_ok=True)
        with (self._layout.state / "logs" / "supervisord.out").open("w") as out:
            started = subprocess.Popen(
                [BIN / "python", "-m", "deploy.lab.supervise", "-n", "-c", base / "supervisord.conf"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=CHECKOUT, start_new_session=True,
            )  # fmt: skip
        wait_until("supervisor", "supervisord's start", lambda: self._up(started), log=Path(out.name))
        return True

    def _up(self, started: subprocess.Popen[bytes]) -> bool:
        if started.poll() is not None:
            raise LabError("supervisor", "supervisord ended at once.", self._layout.state / "logs" / "supervisord.out")
        if self.pid() is None:
            return False
        # It is on its own now: no warning about a child that outlives us.
        started.returncode = 0
        return True

    def add(self, node: str, programs: list[Program]) -> None:
        """Makes a node's programs known, stopped; running ones stay so unless they would be run differently now."""
        for program in programs:
            if write_spec(self._layout, program) and self.info(program)["pid"]:
                self.stop(program)
        names = ",".join(f"{node}-{program.name}" for program in programs)
        sections = [supervisor_section(self._layout, program) for program in programs]
        text = f"[group:{node}]\nprograms={names}\n" + "".join(sections)
        group = self._layout.supervisor / "groups" / f"{node}.conf"
        changed = write(group, text)
        known = {info["group"] for info in self.infos()}
        if not changed and node in known:
            return
        self._call("reloadConfig")
        if node in known:
            # Only a newer version of this lab changes a group, and then its programs have to be started anew.
            self._call("stopProcessGroup", node)
            self._call("removeProcessGroup", node)
        self._call("addProcessGroup", node)

    def start(self, program: Program) -> None:
        """Starts a program unless it runs; does not wait for more than the fork."""
        try:
            self._call("startProcess", program.key, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in ALREADY:
                raise LabError(program.key, fault.faultString, self.log) from fault

    def stop(self, program: Program) -> None:
        """Stops a program and returns when it is gone; a stopped one is success."""
        pid = self.info(program).get("pid", 0)
        try:
            self._call("stopProcess", program.key, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != NOT_RUNNING:
                raise LabError(program.key, fault.faultString, self.log) from fault
        # The supervisor itself sends SIGKILL after stop_seconds.
        wait_until(
            program.key, "its end",
            lambda: not (pid and procfs.alive(pid)) and self.info(program)["statename"] != "STOPPING",
            timeout=program.stop_seconds + 30, log=self._layout.log(program.node, program.name),
        )  # fmt: skip

    def info(self, program: Program) -> dict[str, Any]:
        """What the supervisor knows of one program (`statename`, `pid`, ...)."""
        try:
            found = self._call("getProcessInfo", program.key)
        except GONE:
            return {"statename": "UNKNOWN", "pid": 0}
        return dict(found)

    def infos(self) -> list[dict[str, Any]]:
        """What the supervisor knows of all programs; empty when it does not run."""
        try:
            return list(self._call("getAllProcessInfo"))
        except GONE:
            return []

    def shutdown(self, timeout: float = 15) -> None:
        """Stops every program, then supervisord itself; returns when both are gone. Not running is success."""
        pid = self.pid()
        if pid is None:
            return
        for info in self.infos():
            if info["pid"]:
                try:
                    self._call("stopProcess", f"{info['group']}:{info['name']}", False)
                except GONE:
                    continue
        try:
            wait_until("supervisor", "the end of all programs", self._all_stopped, timeout=timeout, log=self.log)
            self._call("shutdown")
            wait_until("supervisor", "its end", lambda: not procfs.alive(pid), timeout=5, log=self.log)
        except (LabError, *GONE):
            os.kill(pid, signal.SIGKILL)

    def _all_stopped(self) -> bool:
        return not any(info["pid"] and procfs.alive(info["pid"]) for info in self.infos())
