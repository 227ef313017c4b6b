"""The programs of a lab: what is run where. Each is written as one JSON file that `deploy.lab.launch` starts from."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.layout import BIN, CHECKOUT, Layout, write


@dataclass(frozen=True)
class Program:
    """One supervised program inside a node."""

    node: str
    name: str
    argv: list[str]
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 8
    listen: str | None = None
    beside: list[str] = field(default_factory=list)
    """A short command started next to every start of the program."""
    env: dict[str, str] = field(default_factory=dict)
    pid_file: str | None = None
    """For a program run by a wrapper: where, inside the node's `/run`, the program itself keeps its pid."""

    @property
    def key(self) -> str:
        """The supervisor's name for it."""
        return f"{self.node}:{self.name}"


def spec_file(layout: Layout, program: Program) -> Path:
    """Where a program's JSON lies."""
    return layout.supervisor / "programs" / f"{program.node}.{program.name}.json"


def write_spec(layout: Layout, program: Program) -> bool:
    """Writes what the launcher needs; returns whether it changed."""
    spec = {
        "argv": program.argv,
        "user": program.user,
        "listen": program.listen,
        "beside": program.beside,
        "enter": namespaces.enter_argv(layout, program.node),
        "log": str(layout.log(program.node, program.name)),
        "stamp": str(layout.supervisor / "programs" / f"{program.node}.{program.name}.start"),
        "cwd": str(layout.node(program.node)),
        # The mark by which a lab's own processes are told from others that a person or test runs inside a node.
        "env": {"VCSTACK_LAB": layout.tag, **program.env},
    }
    return write(spec_file(layout, program), json.dumps(spec, indent=1) + "\n", mode=0o600)


def supervisor_section(layout: Layout, program: Program) -> str:
    """The program's section in the supervisor's configuration."""
    launcher = CHECKOUT / "deploy" / "lab" / "launch.py"
    command = " ".join(
        f'"{part}"'.replace("%", "%%") for part in (BIN / "python", "-I", launcher, spec_file(layout, program))
    )
    # startsecs=0: a start counts at once, and each death is followed by a start; the launcher paces them.
    return f"""[program:{program.node}-{program.name}]
process_name={program.name}
command={command}
autostart=false
autorestart=true
startsecs=0
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_seconds}
stdout_logfile=NONE
stderr_logfile=NONE
"""
