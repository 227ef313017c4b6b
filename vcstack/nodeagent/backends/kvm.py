"""Whether KVM works here, found out by really running a guest CPU: /dev/kvm opens on machines where none starts."""

import asyncio
import contextlib
import platform
import tempfile
from pathlib import Path

from vcstack.nodeagent.backends.files import write_file
from vcstack.nodeagent.domain_xml import KVM, TCG

TIMEOUT_SECONDS = 10.0
EXIT_PORT = 0xF4
"""The usual I/O port of QEMU's isa-debug-exit: QEMU ends with (value << 1) | 1."""
ANSWER = 0x10
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def build_firmware() -> bytes:
    """Return 64 KiB whose reset vector writes ANSWER to EXIT_PORT: mov al, ANSWER; out EXIT_PORT, al; hlt."""
    rom = bytearray(b"\xf4" * 65536)
    rom[0xFFF0:0xFFF5] = bytes((0xB0, ANSWER, 0xE6, EXIT_PORT, 0xF4))
    return bytes(rom)


async def runs_guest(accelerator: str) -> bool:
    """Return whether a guest CPU runs under kvm or tcg."""
    with tempfile.NamedTemporaryFile(suffix=".rom") as rom:
        rom.write(build_firmware())
        rom.flush()
        cpu = "host" if accelerator == KVM else "max"
        try:
            process = await asyncio.create_subprocess_exec(
                "qemu-system-x86_64", "-machine", f"pc,accel={accelerator}", "-cpu", cpu, "-m", "16",
                "-nodefaults", "-no-user-config", "-display", "none", "-bios", rom.name,
                "-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError:
            return False
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await process.wait() == (ANSWER << 1) | 1
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def choose_virt_type(probes: Path, wanted: str = "auto") -> str:
    """Return kvm or qemu; what was found holds until the machine boots again."""
    if wanted != "auto":
        return wanted
    memo = probes / "virt-type"
    key = f"{_read(BOOT_ID)} {platform.release()}"
    known, _, answer = _read(memo).rpartition(" ")
    if known == key:
        return answer
    found = KVM if platform.machine() == "x86_64" and await runs_guest(KVM) else TCG
    write_file(memo, f"{key} {found}".encode())
    return found


def _read(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
