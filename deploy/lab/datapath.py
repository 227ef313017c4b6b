"""Which Open vSwitch datapath the machine has, found out by making one."""

from deploy.lab.layout import CENTRAL, Layout
from deploy.lab.shell import run

PROBE = "vcprobe"


def choose(layout: Layout) -> str:
    """`system` where the kernel's datapath works, else `netdev` (userspace). Probed inside a node's network."""
    # Loading the module changes no network; without the module the probe below simply fails.
    run(["modprobe", "-q", "openvswitch"], check=False)
    enter = ["nsenter", f"--net={layout.netns_file(CENTRAL)}", "--"]
    made = run([*enter, "ovs-dpctl", "add-dp", PROBE], check=False)
    if made.returncode == 0:
        run([*enter, "ovs-dpctl", "del-dp", PROBE], check=False)
    return "system" if made.returncode == 0 else "netdev"
