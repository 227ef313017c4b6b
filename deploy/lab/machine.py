"""What the machine can do, found out by doing it, once after each boot of the machine."""

from dataclasses import dataclass
from pathlib import Path

from deploy.lab import kvm
from deploy.lab.layout import CENTRAL, Layout
from deploy.lab.shell import run

PROBE = "vcprobe"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Machine:
    """The machine's abilities."""

    datapath: str
    """Open vSwitch's datapath type: `system` where the kernel has one, else `netdev` (userspace)."""
    virt_type: str
    """libvirt's domain type: `kvm` where a guest starts with it, else `qemu` (TCG)."""

    def describe(self) -> str:
        """One line for a person."""
        switch = "kernel" if self.datapath == "system" else "userspace"
        guests = "KVM" if self.virt_type == "kvm" else "TCG (KVM starts none here)"
        return f"{switch} datapath; guests run under {guests}"


def _datapath(layout: Layout) -> str:
    # Loading the module changes no network; without the module the probe below simply fails.
    run(["modprobe", "-q", "openvswitch"], check=False)
    enter = ["nsenter", f"--net={layout.netns_file(CENTRAL)}", "--"]
    made = run([*enter, "ovs-dpctl", "add-dp", PROBE], check=False)
    if made.returncode == 0:
        run([*enter, "ovs-dpctl", "del-dp", PROBE], check=False)
    return "system" if made.returncode == 0 else "netdev"


def probe(layout: Layout) -> Machine:
    """The machine's abilities; asks for central's network namespace, in which a datapath is tried."""
    boot = BOOT_ID.read_text().strip()
    kept = layout.load().get("machine")
    if isinstance(kept, dict) and kept.get("boot") == boot:
        return Machine(str(kept["datapath"]), str(kept["virtType"]))
    found = Machine(_datapath(layout), kvm.choose())
    layout.save(machine={"boot": boot, "datapath": found.datapath, "virtType": found.virt_type})
    return found
