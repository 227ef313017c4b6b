"""A node's namespaces: network, mount and UTS, kept by files instead of a holder process.

A process that holds namespaces open can be killed by hand and takes the host with it; a bind-mounted namespace file
cannot. The mount namespace gives a node private copies of the folders that daemons use by default, so that every tool
works inside a node with its default paths, and never sees the machine's own daemons.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

from deploy.lab import procfs
from deploy.lab.layout import Layout
from deploy.lab.shell import run

KINDS = ("mnt", "uts")
POLKIT_AGENT = "/usr/bin/pkttyagent"


def enter_argv(layout: Layout, node: str) -> list[str]:
    """The command prefix that runs a command inside a node, keeping its pid and descriptors."""
    mount, uts = layout.ns_file(node, "mnt"), layout.ns_file(node, "uts")
    return ["nsenter", f"--mount={mount}", f"--uts={uts}", f"--net={layout.netns_file(node)}", "--"]


def network_id(layout: Layout, node: str) -> int | None:
    """The identity of a node's network namespace, or None when the node has none."""
    return procfs.namespace_id(layout.netns_file(node))


def is_complete(layout: Layout, node: str) -> bool:
    """Whether all of a node's namespaces exist and were set up to the end."""
    found = procfs.namespace_id(layout.ns_file(node, "mnt"))
    try:
        ready = layout.ns_file(node, "ready").read_text().strip()
    except OSError:
        return False
    return (
        found is not None
        and ready == str(found)
        and procfs.namespace_id(layout.ns_file(node, "uts")) is not None
        and network_id(layout, node) is not None
    )


def ensure_folder(layout: Layout) -> None:
    """Makes the folder of namespace files a private mount, which the kernel asks for before it binds any there."""
    folder = layout.state / "ns"
    if folder not in procfs.mounts():
        run(["mount", "--bind", folder, folder])
        run(["mount", "--make-private", folder])


def ensure_network(layout: Layout, node: str) -> None:
    """Makes a node's network namespace: loopback up, no IPv6 of its own on links that come later.

    The nodes' own links carry IPv4 tunnels only; IPv6 of guests passes through them as payload and is not affected.
    """
    name, file = layout.netns(node), layout.netns_file(node)
    if procfs.namespace_id(file) is None:
        file.unlink(missing_ok=True)
        run(["ip", "netns", "add", name])
    script = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up"
    run(["nsenter", f"--net={file}", "sh", "-ec", script])


def create(layout: Layout, node: str, binds: Mapping[Path, str]) -> None:
    """Makes a node's mount and UTS namespaces with `binds` (folder to path); `delete` half-made ones first."""
    for kind in KINDS:
        layout.ns_file(node, kind).touch()
    for source, target in binds.items():
        source.mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
    mounts = [f"mount --bind {shlex.quote(str(source))} {target}" for source, target in binds.items()]
    ready = shlex.quote(str(layout.ns_file(node, "ready")))
    script = "\n".join(
        [
            f"hostname {node}",
            *mounts,
            # On a terminal virsh starts polkit's agent, which complains that no system bus is in here.
            f"test ! -e {POLKIT_AGENT} || mount --bind /dev/null {POLKIT_AGENT}",
            # sysfs shows the interfaces of the network namespace it was mounted in.
            "mount -t sysfs sysfs /sys",
            f"stat -Lc %i /proc/self/ns/mnt >{ready}",
        ]
    )
    unshare = ["unshare", f"--mount={layout.ns_file(node, 'mnt')}", f"--uts={layout.ns_file(node, 'uts')}"]
    run([*unshare, "--propagation", "private", "nsenter", f"--net={layout.netns_file(node)}", "sh", "-ec", script])


def adopt(layout: Layout, node: str, pid: int) -> None:
    """Keeps the namespaces of a living process as the node's own: guests still use them after the files were lost."""
    for kind in KINDS:
        file = layout.ns_file(node, kind)
        release(file)
        file.touch()
        run(["mount", "--bind", f"/proc/{pid}/ns/{kind}", file])
    inode = procfs.namespace_id(layout.ns_file(node, "mnt"))
    layout.ns_file(node, "ready").write_text(f"{inode}\n")


def release(file: Path) -> None:
    """Lets go of a kept namespace; absent is success."""
    while procfs.namespace_id(file) is not None:
        if run(["umount", "-l", file], check=False).returncode:
            return
    file.unlink(missing_ok=True)


def delete(layout: Layout, node: str, *, keep_network: bool = False) -> None:
    """Removes all of a node's namespaces; absent is success."""
    layout.ns_file(node, "ready").unlink(missing_ok=True)
    for kind in KINDS:
        release(layout.ns_file(node, kind))
    if not keep_network and layout.netns_file(node).exists():
        run(["ip", "netns", "del", layout.netns(node)], check=False)


def delete_folder(layout: Layout) -> None:
    """Undoes `ensure_folder`."""
    folder = layout.state / "ns"
    while folder in procfs.mounts():
        if run(["umount", "-l", folder], check=False).returncode:
            return


def nodes(layout: Layout) -> list[str]:
    """The nodes that have, or may have, a namespace on this machine."""
    prefix = layout.netns("")
    folder = layout.netns_file("").parent
    found = {file.name.removeprefix(prefix) for file in folder.glob(f"{prefix}*")} if folder.is_dir() else set()
    found |= {file.stem for file in (layout.state / "ns").glob("*.mnt")}
    return sorted(found)
