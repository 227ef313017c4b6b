"""Whether this machine's KVM runs guests, decided by running one: /dev/kvm may exist, open, and still start nothing."""

import subprocess
import tempfile
from pathlib import Path

# A boot sector that does what no half-working KVM gets through (seen: one that could only emulate instructions, and
# ran real mode well): cli; lgdt; set CR0.PE; far jump to 32-bit code; load segments; iret to the next line;
# mov al,1; out 0xf4,al. QEMU's isa-debug-exit then ends with status (1 << 1) | 1 = 3.
CODE = bytes.fromhex(
    "fa31c08ed8660f01164e7c0f20c00c010f22c066ea1b7c0000080066b810008ed88ed0bc007000009c6a0868"
    "317c0000cfb001e6f4f40000000000000000ffff0000009acf00ffff00000092cf001700367c0000"
)
BOOT_SECTOR = CODE.ljust(510, b"\0") + b"\x55\xaa"
GUEST_SAID_SO = 3
TIMEOUT_SECONDS = 5.0


def accelerator_works(name: str, timeout: float = TIMEOUT_SECONDS) -> bool:
    """Whether a guest CPU executes code under a QEMU accelerator (`kvm`, `tcg`)."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "boot"
        disk.write_bytes(BOOT_SECTOR)
        argv = [
            "qemu-system-x86_64", "-accel", name, "-cpu", "host" if name == "kvm" else "qemu64",
            "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-no-reboot",
            "-drive", f"file={disk},format=raw,if=floppy,readonly=on",
        ]  # fmt: skip
        try:
            done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        except (subprocess.TimeoutExpired, OSError):
            return False
        return done.returncode == GUEST_SAID_SO


def choose() -> str:
    """libvirt's domain type for this machine: `kvm` where it works, else `qemu` (TCG)."""
    return "kvm" if Path("/dev/kvm").exists() and accelerator_works("kvm") else "qemu"
