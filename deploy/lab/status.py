"""What a lab's processes look like right now."""

from collections.abc import Iterable

from deploy.lab import procfs
from deploy.lab.cloud import Lab

HEADINGS = ("NODE", "PROGRAM", "STATE", "PID", "UPTIME", "MEMORY")


def _uptime(seconds: float) -> str:
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _row(node: str, program: str, state: str, pid: int | None) -> tuple[str, ...]:
    if pid is None:
        return (node, program, state, "-", "-", "-")
    return (node, program, state, str(pid), _uptime(procfs.uptime_seconds(pid)), f"{procfs.memory_mib(pid):.0f} MiB")


def rows(lab: Lab) -> list[tuple[str, ...]]:
    """One row for each program and guest: node, program, state, pid, uptime, memory."""
    states = {f"{info['group']}:{info['name']}": str(info["statename"]) for info in lab.supervisor.infos()}
    found = [_row("-", "supervisord", "RUNNING" if lab.supervisor.pid() else "STOPPED", lab.supervisor.pid())]
    for program, pid in lab.each_program():
        found.append(_row(program.node, program.name, states.get(program.key, "STOPPED"), pid()))
    for node in lab.hosts:
        found += [_row(node, "guest", "RUNNING", pid) for pid in lab.guests(node)]
    return found


def table(lines: Iterable[tuple[str, ...]]) -> str:
    """The rows as an aligned table under their headings."""
    everything = [HEADINGS, *lines]
    widths = [max(len(line[i]) for line in everything) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in everything)  # fmt: skip
