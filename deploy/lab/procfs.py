"""Finding and ending processes by what /proc says of them.

A lab's processes are known by the network namespace they live in, never by a name alone: the machine and other labs
run the same programs.
"""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def command(pid: int) -> str:
    """The process's command line; empty when it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_guest(pid: int) -> bool:
    """Whether the process is a guest's machine (QEMU) or belongs to one (its TPM)."""
    try:
        program = Path(os.readlink(PROC / str(pid) / "exe")).name.removesuffix(" (deleted)")
    except OSError:
        return False
    return program.startswith("qemu-system-") or program == "swtpm"


def namespace_id(path: Path) -> int | None:
    """The inode of the namespace behind a file, or None when the file holds no namespace."""
    try:
        found, own = path.stat(), (PROC / "self/ns/net").stat()
    except OSError:
        return None
    return found.st_ino if found.st_dev == own.st_dev else None


def in_network(inode: int | None) -> list[int]:
    """The live processes in a network namespace."""
    if inode is None:
        return []
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                same = (entry / "ns/net").stat().st_ino == inode
            except OSError:
                continue
            if same and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def mounts() -> list[Path]:
    """Every mount point this process sees. Unlike os.path.ismount this tells binds within one file system, too."""
    lines = (PROC / "self/mountinfo").read_text().splitlines()
    # proc(5): the mount point is the fifth field, with blanks written in octal.
    return [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]


def carries(pid: int, variable: str, value: str) -> bool:
    """Whether the process was started with an environment variable."""
    try:
        return f"{variable}={value}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def memory_mib(pid: int) -> float:
    """Resident memory; 0 when the process is gone."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1048576


def uptime_seconds(pid: int) -> float:
    """Time since the process started; 0 when it is gone."""
    try:
        ticks = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        up = float((PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return up - ticks / os.sysconf("SC_CLK_TCK")


def end(pids: Iterable[int], *, gentle_seconds: float = 3) -> None:
    """Ends processes: SIGTERM, and SIGKILL for those that stay; returns when all are gone."""
    left = list(pids)
    for sign, seconds in ((signal.SIGTERM, gentle_seconds), (signal.SIGKILL, 30.0)):
        for pid in left:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + seconds
        while (left := [pid for pid in left if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not left:
            return
