"""What the tests look at: the machine's own network, and what a lab leaves behind."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from deploy.lab import Lab, procfs


def machine_network() -> str:
    """Everything of the machine's own network that a lab could disturb."""
    commands = (
        ["ip", "-o", "-d", "link"],
        ["ip", "-o", "addr"],
        ["ip", "route", "show", "table", "all"],
        ["sh", "-c", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/*/disable_ipv6"],
    )
    shown = [subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in commands]
    # Lifetimes of addresses and routes count down by themselves.
    return "\n".join(" ".join(word for word in text.split() if not word.endswith("sec")) for text in shown)


def eventually(what: str, look: Callable[[], object]) -> None:
    """Waits until `look` returns something true."""
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


GRACE_SECONDS = 30.0
"""The sleep of a shell that was killed ends by itself within half a second."""


def leftovers(lab: Lab) -> list[str]:
    """Processes, namespaces, mounts and links that belong to a lab and stay."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := _find_leftovers(lab)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _find_leftovers(lab: Lab) -> list[str]:
    tag, state = lab.layout.tag, str(lab.state)
    found = [f"netns {file.name}" for file in Path("/run/netns").glob(f"vc-{tag}-*")]
    found += [f"mount {mount}" for mount in procfs.mounts() if mount.is_relative_to(lab.state)]
    if lab.layout.short.is_symlink():
        found.append(f"link {lab.layout.short}")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        words = procfs.command(pid)
        if procfs.alive(pid) and (procfs.carries(pid, "VCSTACK_LAB", tag) or state in words or f"vc-{tag}" in words):
            found.append(f"process {pid} {words}")
    return found
