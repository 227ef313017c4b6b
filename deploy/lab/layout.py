"""Where a lab keeps its things, and the names it gives them.

Everything lies in the state folder. Names that must be unique on the machine (network namespaces, the short path)
carry a hash of the folder's path, so several labs run side by side.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = CHECKOUT / ".venv" / "bin"
CENTRAL = "central"
MARKER = ".vcstack-lab"
# Hidden by binds inside the nodes' mount namespaces, so a state folder there could not be seen by its own daemons.
HIDDEN = ("/run", "/var/run", "/etc/libvirt", "/var/lib/libvirt", "/var/lib/postgresql", "/var/log/libvirt", "/sys")


def default_state() -> Path:
    """`$VCSTACK_STATE`, else `var` in the checkout."""
    return Path(os.environ.get("VCSTACK_STATE") or CHECKOUT / "var")


@dataclass(frozen=True)
class Layout:
    """Paths and names of one lab. `cache` may be shared between labs: it holds only what can be made again."""

    state: Path
    cache: Path

    @classmethod
    def of(cls, state: Path, cache: Path | None = None) -> "Layout":
        """The layout of a state folder; raises LabError where no lab can live."""
        state = state.resolve()
        if any(state.is_relative_to(hidden) for hidden in HIDDEN):
            raise LabError("state folder", f"{state} cannot hold a lab, because the hosts cover that path.")
        chosen = cache or os.environ.get("VCSTACK_CACHE")
        return cls(state, Path(chosen).resolve() if chosen else state / "cache")

    @property
    def tag(self) -> str:
        """Six hex digits that tell this lab from others on the machine."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def short(self) -> Path:
        """A symlink to the state folder, because a socket's path is limited to 107 bytes (unix(7), sun_path)."""
        return Path(f"/run/vc-{self.tag}")

    def netns(self, node: str) -> str:
        """Name of a node's network namespace."""
        return f"vc-{self.tag}-{node}"

    def netns_file(self, node: str) -> Path:
        """The file that keeps a node's network namespace."""
        return Path("/run/netns") / self.netns(node)

    def ns_file(self, node: str, kind: str) -> Path:
        """The file that keeps a node's mount (`mnt`) or UTS (`uts`) namespace, or says it is complete (`ready`)."""
        return self.state / "ns" / f"{node}.{kind}"

    def node(self, node: str) -> Path:
        """A node's own folder."""
        return self.state / CENTRAL if node == CENTRAL else self.state / "hosts" / node

    def run(self, node: str) -> Path:
        """A node's `/run`, by the short path: usable for sockets from outside the node."""
        return self.short / self.node(node).relative_to(self.state) / "run"

    def log(self, node: str, program: str) -> Path:
        """The log of a program."""
        return self.state / "logs" / node / f"{program}.log"

    @property
    def supervisor(self) -> Path:
        """The supervisor's folder."""
        return self.state / "supervisor"

    def make(self) -> None:
        """Makes the state folder, its marker and the short path; idempotent."""
        for folder in ("ns", "logs", "supervisor/programs", "supervisor/groups", "hosts", "images"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        (self.state / "images").chmod(0o700)
        (self.state / MARKER).write_text("This folder holds a VC Stack lab; `make clean` removes it.\n")
        if self.short.is_symlink() and os.readlink(self.short) != str(self.state):
            raise LabError("state folder", f"{self.short} belongs to another lab, {os.readlink(self.short)}.")
        if not self.short.is_symlink():
            self.short.symlink_to(self.state)

    def load(self) -> dict[str, Any]:
        """What earlier runs decided (number of hosts, API port, datapath)."""
        try:
            found = json.loads((self.state / "lab.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def save(self, **decided: object) -> None:
        """Adds to what `load` returns."""
        write(self.state / "lab.json", json.dumps(self.load() | decided, indent=1) + "\n")


def write(path: Path, text: str, mode: int = 0o644) -> bool:
    """Replaces a file in one step if its text differs; returns whether it did."""
    try:
        if path.read_text() == text:
            return False
    except OSError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    fresh.rename(path)
    return True
