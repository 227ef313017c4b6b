"""Taking a lab down, wholly or only what a killed supervisor left behind. Nothing here touches anything else."""

import os
import shutil
import time
from collections.abc import Callable

from deploy.lab import central, host, namespaces, procfs
from deploy.lab.errors import LabError
from deploy.lab.layout import CENTRAL, MARKER, Layout
from deploy.lab.programs import Program
from deploy.lab.report import Report
from deploy.lab.shell import run
from deploy.lab.supervisor import Supervisor


def _supervisor_processes(layout: Layout) -> list[int]:
    """A supervisord that does not answer, and launchers that have not yet become their program."""
    marks = (f"{layout.short}/supervisor/supervisord.conf", f"{layout.supervisor}/programs/")
    pids = [int(entry.name) for entry in procfs.PROC.iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and any(mark in procfs.command(pid) for mark in marks)]


def _inside(layout: Layout) -> list[int]:
    found: list[int] = []
    for node in namespaces.nodes(layout):
        found += procfs.in_network(namespaces.network_id(layout, node))
    return found


def end_orphans(layout: Layout, supervisor: Supervisor) -> None:
    """After the supervisor died: ends the programs it left, so that they can be started anew. Guests live on."""
    if supervisor.pid() is not None:
        return
    procfs.end(_supervisor_processes(layout), gentle_seconds=0)
    procfs.end(pid for pid in _inside(layout) if _is_ours(layout, pid))


def _is_ours(layout: Layout, pid: int) -> bool:
    if procfs.is_guest(pid):
        return False
    # PostgreSQL overwrites its environment; nothing else of it runs in a lab's central node.
    return procfs.carries(pid, "VCSTACK_LAB", layout.tag) or procfs.command(pid).startswith(central.POSTGRES)


def take_down(
    layout: Layout,
    supervisor: Supervisor,
    programs: Callable[[str], list[Program]],
    report: Report,
    guest_seconds: float,
) -> None:
    """Stops guests, programs and supervisor, and removes every namespace; absent is success."""
    hosts = [node for node in namespaces.nodes(layout) if node != CENTRAL]
    if supervisor.pid() is not None:
        with report.step("programs", "vc-compute and vc-management stopped"):
            # First, so that nobody starts again what is being stopped.
            for node in (*hosts, CENTRAL):
                for program in programs(node):
                    if program.name in (host.COMPUTE, central.MANAGEMENT):
                        supervisor.stop(program)
    guests = [pid for pid in _inside(layout) if procfs.is_guest(pid)]
    if guests:
        with report.step("guests", f"{len(guests)} powered off"):
            _power_off(layout, hosts, guest_seconds)
    with report.step("programs", "all stopped"):
        supervisor.shutdown()
        procfs.end(_supervisor_processes(layout), gentle_seconds=0)
        procfs.end(_inside(layout))
    with report.step("network", "namespaces removed"):
        for node in namespaces.nodes(layout):
            namespaces.delete(layout, node)
        namespaces.delete_folder(layout)
        if layout.short.is_symlink() and os.readlink(layout.short) == str(layout.state):
            layout.short.unlink()


def _power_off(layout: Layout, hosts: list[str], seconds: float) -> None:
    """Presses the guests' power buttons, then ends those still there."""
    if seconds > 0:
        press = 'for d in $(timeout 20 virsh list --name); do timeout 10 virsh shutdown "$d"; done'
        for name in hosts:
            if namespaces.is_complete(layout, name):
                run([*namespaces.enter_argv(layout, name), "sh", "-c", press], check=False, timeout=600)
        deadline = time.monotonic() + seconds
        while any(procfs.is_guest(pid) for pid in _inside(layout)) and time.monotonic() < deadline:
            time.sleep(0.1)
    procfs.end(pid for pid in _inside(layout) if procfs.is_guest(pid))


def refuse_strangers(layout: Layout) -> None:
    """Raises LabError unless the state folder is absent or one that a lab was made in."""
    # `make test` alone leaves a cache without a lab.
    if not layout.state.exists() or not {entry.name for entry in layout.state.iterdir()} - {"cache", "lock"}:
        return
    if not (layout.state / MARKER).is_file():
        raise LabError("clean", f"{layout.state} holds no lab (no {MARKER} in it), so it is not removed.")


def remove_state(layout: Layout) -> None:
    """Removes the state folder; refuses while anything is still mounted in it."""
    below = [mount for mount in procfs.mounts() if mount.is_relative_to(layout.state)]
    if below:
        raise LabError("clean", f"{below[0]} is still mounted; unmount it and run this again.")
    if layout.state.exists():
        shutil.rmtree(layout.state)
