"""What the figures were measured on, and what processes have used of it."""

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def describe_machine() -> list[str]:
    """Return sentences about the machine and the versions of what was measured."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024**2
    load = os.getloadavg()[0]
    return [
        f"{os.cpu_count()} CPUs ({model.group(1) if model else platform.machine()}), {memory:.0f} GiB of memory, "
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}, {_version('etcd', '--version')}, "
        f"{_version('ovsdb-server', '--version')}, {_version('qemu-system-x86_64', '--version')}",
        f"Load average at the beginning: {load:.1f}" + ("" if load < 0.5 else " (others were at work)"),
    ]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_seconds: float
    rss_mib: float
    peak_rss_mib: float


def read_usage(pid: int) -> Usage:
    """Return the use of one process: proc(5), fields 14 and 15 of stat, VmRSS and VmHWM of status."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()

    def mib(name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+)", status)
        return int(found.group(1)) / 1024 if found else 0.0

    return Usage((int(fields[11]) + int(fields[12])) / TICKS, mib("VmRSS"), mib("VmHWM"))


CGROUPS = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 10_000


@contextlib.contextmanager
def limited_cpu(pids: Iterable[int], share: float) -> Iterator[None]:
    """Give each of the processes that share of a core and no more, by a cgroup of its own (version 1 or 2).

    Raises:
        OSError: there are no cgroups here that we may make.
    """
    root = CGROUPS / "cpu" if (CGROUPS / "cpu").is_dir() else CGROUPS
    quota = int(share * PERIOD_MICROSECONDS)
    if root == CGROUPS:
        (root / "cgroup.subtree_control").write_text("+cpu")
        limits = {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    else:
        limits = {"cpu.cfs_period_us": f"{PERIOD_MICROSECONDS}", "cpu.cfs_quota_us": f"{quota}"}
    with contextlib.ExitStack() as stack:
        for pid in pids:
            group = root / f"vcstack-bench-{pid}"
            group.mkdir()
            stack.callback(group.rmdir)
            for name, value in limits.items():
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(pid))
            stack.callback((root / "cgroup.procs").write_text, str(pid))
        yield


def _version(program: str, option: str) -> str:
    try:
        said = subprocess.run([program, option], capture_output=True, text=True, timeout=10).stdout
    except FileNotFoundError:
        return f"no {program}"
    number = re.search(r"\d+\.\d+(\.\d+)?", said)
    return f"{program} {number.group(0) if number else '?'}"
