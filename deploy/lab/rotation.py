"""New master key and new certificate authority, while requests flow: what `make rotate` does, and a test as well.

Requests come by connections that stay and by new ones, read and write, and write a secret and read it back: one that
fails is told with its answer.
"""

import http.client
import json
import os
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

from deploy.lab.cloud import Lab
from deploy.lab.errors import LabError
from deploy.lab.layout import BIN, CHECKOUT
from deploy.lab.report import Report
from deploy.lab.shell import wait_until

PROJECT = "rotation"
PAUSE_SECONDS = 0.05
TIMEOUT_SECONDS = 30
ROTATION_SECONDS = 600
SHOWN_FAILURES = 10


@dataclass
class Load:
    """Requests that flow until it is left, each noted."""

    lab: Lab
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._send(None, "PATCH", "/api/v1/projects/" + PROJECT, {"kind": "Project", "metadata": {"name": PROJECT}})
        for name, run in (("read", self._read), ("write", self._write)):
            for fresh in (False, True):
                label = f"{name}, {'new' if fresh else 'kept'} connections"
                self.counts[label] = 0
                self._threads.append(threading.Thread(target=self._repeat, args=(label, run, fresh), name=label))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._send(None, "DELETE", f"/api/v1/projects/{PROJECT}")

    def describe(self) -> str:
        """What was asked and how it went, in lines."""
        lines = [f"{count} x {label}" for label, count in self.counts.items()]
        lines.append(f"slowest answer {self.slowest_seconds:.2f} s; failures: {len(self.failures)}")
        return "\n".join([*lines, *self.failures[:SHOWN_FAILURES]])

    def _repeat(self, label: str, run: Any, fresh: bool) -> None:
        connection: http.client.HTTPSConnection | None = None
        while not self._stop.wait(PAUSE_SECONDS):
            begun = time.monotonic()
            try:
                if connection is None or fresh:
                    connection = self._connect()
                run(connection, label, self.counts[label])
            except (OSError, http.client.HTTPException, LabError) as error:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {label}: {error!r}")
                connection = None
            self.counts[label] += 1
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
            if fresh and connection is not None:
                connection.close()
        if connection is not None:
            connection.close()

    def _read(self, connection: http.client.HTTPSConnection, label: str, number: int) -> None:
        self._send(connection, "GET", "/api/v1/projects")

    def _write(self, connection: http.client.HTTPSConnection, label: str, number: int) -> None:
        name = "new" if "new" in label else "kept"
        path = f"/api/v1/projects/{PROJECT}/secrets/{name}"
        metadata = {"name": name, "project": PROJECT}
        wanted = f"value {number}"
        self._send(connection, "PATCH", path, {"kind": "Secret", "metadata": metadata, "spec": {"data": {"v": wanted}}})
        found = json.loads(self._send(connection, "GET", f"{path}/value"))["values"]["v"]
        if found != wanted:
            raise LabError("load", f"{wanted!r} was written and {found!r} is read")

    def _connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.lab.path("pki/ca.crt")))
        port = self.lab.api_port
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=context)

    def _send(
        self, connection: http.client.HTTPSConnection | None, method: str, path: str, body: dict[str, Any] | None = None
    ) -> bytes:
        own = connection or self._connect()
        headers = {"authorization": f"Bearer {self.lab.path('admin-token').read_text().strip()}"}
        content = None
        if body is not None:
            headers["content-type"] = "application/apply-patch+json"
            content = json.dumps({"apiVersion": "vcstack.io/v1", **body})
            path += "?fieldManager=load&force=true"
        own.request(method, path, content, headers)
        answer = own.getresponse()
        text = answer.read()
        if connection is None:
            own.close()
        if answer.status >= 300:
            raise LabError("load", f"{method} {path}: {answer.status} {text[:300].decode(errors='replace')}")
        return text


def vcctl(lab: Lab, *words: str) -> str:
    """Run vcctl for this lab and return what it printed. Raises LabError."""
    environ = {**os.environ, "VCCTL_CONFIG": str(lab.path("vcctl.yaml"))}
    done = subprocess.run(
        [BIN / "vcctl", *words], capture_output=True, text=True, check=False, env=environ, cwd=CHECKOUT
    )
    if done.returncode:
        raise LabError(f"vcctl {' '.join(words)}", done.stderr.strip())
    return done.stdout


def rotate_master_key(lab: Lab) -> None:
    """Make a new master key and return when everything in the store is under it and the former is forgotten."""
    keyring = str(lab.path("keyring.json"))
    vcctl(lab, "secrets", "rotate", "--key-file", keyring)
    newest = max(_master_keys(lab))

    def is_alone() -> bool:
        return set(_needed(lab)) == {newest}

    wait_until("keyring", f"everything under version {newest}", is_alone, timeout=ROTATION_SECONDS)
    for old in _master_keys(lab) - {newest}:
        vcctl(lab, "secrets", "retire", str(old), "--key-file", keyring)


def rotate_authority(lab: Lab) -> None:
    """Replace the certificate authority and return when the former is trusted by nobody."""
    vcctl(lab, "ca", "rotate", "--overlap", "0s", "--wait", "--timeout", f"{ROTATION_SECONDS}s")


def rotate_under_load(lab: Lab, report: Report) -> bool:
    """Do both while requests flow; tell how it went, and return whether none failed."""
    with Load(lab) as load:
        with report.step("keyring", "a new master key, everything under it"):
            rotate_master_key(lab)
        with report.step("ca", "a new authority, all certificates of it, the old one forgotten"):
            rotate_authority(lab)
    for line in load.describe().splitlines():
        report.say("load", line)
    return not load.failures


def _master_keys(lab: Lab) -> set[int]:
    keys = json.loads(lab.path("keyring.json").read_text())
    return {int(each["version"]) for each in keys["keys"]}


def _needed(lab: Lab) -> list[int]:
    rows = [line.replace("*", " ").split() for line in vcctl(lab, "secrets", "status").splitlines()[1:]]
    return [int(row[0]) for row in rows if row and row[0].isdigit()]
