"""Starting the tiny guest in tests: its seed disk, its domain XML, and reading its console."""

import io
import time
from pathlib import Path

import pycdlib


def write_seed(path: Path, name: str, user_data: str = "", keys: str = "") -> None:
    """Writes a NoCloud disk."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    meta = f"instance-id: i-{name}\nlocal-hostname: {name}\npublic-keys:\n- {keys}\n"
    for file, text in (("meta-data", meta), ("user-data", user_data)):
        body = text.encode()
        upper = file.upper().replace("-", "")
        iso.add_fp(io.BytesIO(body), len(body), f"/{upper}.;1", rr_name=file, joliet_path=f"/{file}")
    iso.write(str(path))
    iso.close()


def domain_xml(name: str, disk: Path, console: Path) -> str:
    """A small domain without a network, its serial line logged to a file."""
    return f"""<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
      <target dev='vda' bus='virtio'/></disk>
    <serial type='file'><source path='{console}'/></serial>
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>"""


def wait_for_line(console: Path, words: str, timeout: float = 300) -> str:
    """Waits until the console shows `words` and returns what it shows."""
    deadline = time.monotonic() + timeout
    while True:
        shown = console.read_text(errors="replace") if console.exists() else ""
        if words in shown:
            return shown
        assert time.monotonic() < deadline, f"no {words!r} on the console:\n{shown}"
        time.sleep(0.1)
