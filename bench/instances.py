"""From apply to a running domain, on the real lab, beside libvirt's own start of the same XML and plain QEMU.

The lab is made in ``var/bench`` and is gone afterwards, however the run ends. One that ``$BENCH_STATE`` names is left
up for the next run.
"""

import os
import re
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson

from bench.table import Row
from deploy.lab import Lab
from deploy.lab.layout import BIN
from deploy.lab.namespaces import enter_argv

SECTION = "One instance on the real lab"
PROJECT = "bench"
RUNS = 7
AT_ONCE = 20
LIMIT_SECONDS = 1.0
WAIT_SECONDS = 180.0
POLL_SECONDS = 0.01
HOST = "h1"
RUNNING = "<domstatus state='running'"
VAR = Path(os.environ.get("VCSTACK_STATE") or Path(__file__).parents[1] / "var")
KEPT = os.environ.get("BENCH_STATE")
STATE = Path(KEPT or VAR / "bench")
CACHE = Path(os.environ.get("VCSTACK_CACHE") or VAR / "cache")

GROUND = f"""
apiVersion: vcstack.io/v1
kind: Project
metadata: {{name: {PROJECT}}}
---
apiVersion: vcstack.io/v1
kind: Flavor
metadata: {{name: bench}}
spec: {{vcpus: 1, memoryMiB: 96, rootDiskGiB: 1}}
---
apiVersion: vcstack.io/v1
kind: Network
metadata: {{project: {PROJECT}, name: web}}
spec: {{}}
---
apiVersion: vcstack.io/v1
kind: Subnet
metadata: {{project: {PROJECT}, name: web-v4}}
spec: {{network: web, cidr: 10.20.0.0/24}}
"""


class Bench:
    """The lab as this benchmark uses it."""

    def __init__(self) -> None:
        self.lab = Lab(STATE, 1, cache=CACHE)
        self.environment = {**os.environ, "VCCTL_CONFIG": str(STATE / "vcctl.yaml")}

    def prepare(self) -> None:
        """Bring the lab up, with the image and a network."""
        self.lab.up(with_quickstart=True)
        self.vcctl("apply", "-f", "-", text=GROUND)
        self.vcctl("patch", "host", HOST, "--patch", '{"spec": {"overcommit": {"vcpuPercent": 10000}}}')

    def vcctl(self, *arguments: str, text: str = "") -> str:
        """Run vcctl and return what it says."""
        command = [str(BIN / "vcctl"), *arguments]
        done = subprocess.run(command, input=text, text=True, capture_output=True, env=self.environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def inside(self, *command: str) -> str:
        """Run a command inside the host."""
        argv = [*enter_argv(self.lab.layout, HOST), *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def running(self) -> set[str]:
        """Return the names of the running domains, from libvirt's own status files: asking it would slow it down.

        It notes a machine as running when its create is about to return; QEMU's process is there long before.
        """
        folder = self.lab.layout.node(HOST) / "run" / "libvirt" / "qemu"
        return {p.stem for p in folder.glob("i-*.xml") if RUNNING in _read(p)}

    def apply(self, *names: str) -> None:
        """Apply the instances with one vcctl."""
        wire = [
            {
                "apiVersion": "vcstack.io/v1",
                "kind": "Instance",
                "metadata": {"project": PROJECT, "name": name},
                "spec": {
                    "flavor": "bench",
                    "image": "tiny",
                    "networkInterfaces": [{"name": "eth0", "network": "web"}],
                },
            }
            for name in names
        ]
        self.vcctl("apply", "-f", "-", text="\n---\n".join(orjson.dumps(w).decode() for w in wire))

    def time_to_running(self, *names: str) -> float:
        """Return the seconds from the begin of vcctl apply until all their domains run."""
        before, begin = self.running(), time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            applying = pool.submit(self.apply, *names)
            while len(self.running() - before) < len(names):
                if applying.done():
                    applying.result()
                if time.monotonic() - begin > WAIT_SECONDS:
                    raise RuntimeError(f"{names} do not run after {WAIT_SECONDS} s")
                time.sleep(POLL_SECONDS)
            took = time.monotonic() - begin
            applying.result()
        return took

    def uid(self, name: str) -> str:
        """Return an instance's uid."""
        found: dict[str, Any] = orjson.loads(self.vcctl("get", "instance", name, "--project", PROJECT, "-o", "json"))
        return str(found["metadata"]["uid"])

    def delete(self, *names: str) -> None:
        """Delete instances and wait until they are gone."""
        self.vcctl("delete", "instance", *names, "--project", PROJECT, "--wait")


def measure() -> list[Row]:
    """Run all and return the rows."""
    bench = Bench()
    try:
        bench.prepare()
        return _measure(bench)
    finally:
        if not KEPT:
            bench.lab.clean()


def _measure(bench: Bench) -> list[Row]:
    bench.time_to_running("warm-up")
    xml = bench.inside("virsh", "dumpxml", "--inactive", bench.uid("warm-up"))
    ours, cli = [], []
    for n in range(RUNS):
        begin = time.monotonic()
        bench.vcctl("version")
        cli.append(time.monotonic() - begin)
        ours.append(bench.time_to_running(f"one-{n}"))
        bench.delete(f"one-{n}")
    many = [f"many-{n}" for n in range(AT_ONCE)]
    all_at_once = bench.time_to_running(*many)
    bench.delete(*many)
    libvirt, qemu = _time_libvirt(bench, xml), _time_qemu(bench, xml)
    bench.delete("warm-up")
    return _rows(ours, cli, all_at_once, libvirt, qemu)


def _time_libvirt(bench: Bench, xml: str) -> list[float]:
    """Create a transient domain of the same XML on a disk of its own, the instance itself stopped."""
    uid = bench.uid("warm-up")
    _stop(bench, "warm-up", uid)
    tree = ET.fromstring(xml)
    for element in (tree.find("uuid"), tree.find("metadata")):
        if element is not None:
            tree.remove(element)
    name = tree.find("name")
    assert name is not None
    name.text = "bench-libvirt"
    file = bench.lab.layout.node(HOST) / "run" / "bench.xml"
    file.write_text(ET.tostring(tree, encoding="unicode"))
    took = []
    for _ in range(RUNS):
        begin = time.monotonic()
        bench.inside("virsh", "create", "/run/bench.xml")
        took.append(time.monotonic() - begin)
        bench.inside("virsh", "destroy", "bench-libvirt")
    return took


def _time_qemu(bench: Bench, xml: str) -> list[float]:
    """Start QEMU by hand with the same disk, until its monitor answers."""
    tree = ET.fromstring(xml)
    source = tree.find("devices/disk/source")
    assert source is not None
    accelerator = "kvm" if tree.get("type") == "kvm" else "tcg"
    script = (
        f"exec qemu-system-x86_64 -machine pc,accel={accelerator} -m 96 -display none -nodefaults -snapshot "
        f"-drive file={source.get('file')},if=virtio,format=qcow2 -qmp stdio"
    )
    took = []
    for _ in range(RUNS):
        begin = time.monotonic()
        argv = [*enter_argv(bench.lab.layout, HOST), "sh", "-c", script]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
            assert qemu.stdout is not None
            greeting = qemu.stdout.readline()
            took.append(time.monotonic() - begin)
            qemu.kill()
        if not re.search("QMP", greeting):
            raise RuntimeError(f"QEMU did not start: {greeting!r}")
    return took


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _stop(bench: Bench, name: str, uid: str) -> None:
    bench.vcctl("patch", "instance", name, "--project", PROJECT, "--patch", '{"spec": {"powerState": "Stopped"}}')
    deadline = time.monotonic() + WAIT_SECONDS
    while uid in bench.running():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} does not stop")
        time.sleep(0.2)


def _rows(ours: list[float], cli: list[float], many: float, libvirt: list[float], qemu: list[float]) -> list[Row]:
    median, cli_median = statistics.median(ours), statistics.median(cli)
    beside, plain = statistics.median(libvirt), statistics.median(qemu)
    spread = f"{min(ours):.2f} to {max(ours):.2f} s"
    above = median - beside

    def row(name: str, ours: str, beside: str = "", ratio: float | None = None, **limit: Any) -> Row:
        return Row(SECTION, name, ours, beside, ratio, **limit)

    return [
        row(
            "vcctl apply to domain running", f"{median:.2f} s (median of {RUNS}, {spread})",
            f"virsh create of the same XML {beside:.2f} s", median / beside,
        ),
        row(
            "above libvirt", f"{above:.2f} s, of which {cli_median:.2f} s are vcctl's own start",
            limit=f"≤ {LIMIT_SECONDS:.0f} s", holds=above <= LIMIT_SECONDS,
        ),
        row("beside plain QEMU", f"{median:.2f} s", f"QEMU to its monitor {plain:.2f} s", median / plain),
        row(
            f"{AT_ONCE} applied at once, all running", f"{many:.2f} s",
            f"{AT_ONCE} times virsh create, one after another, {AT_ONCE * beside:.2f} s", many / (AT_ONCE * beside),
        ),
    ]  # fmt: skip
