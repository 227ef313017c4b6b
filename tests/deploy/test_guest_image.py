"""The tiny guest image, under plain QEMU: it boots, obeys its seed disk, lets in by key only, reboots, powers off."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.guest import wait_for_line, write_seed
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.daemons

SSH_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
USER_DATA = "#!/bin/sh\necho ran-on $(hostname)\n"


class Guest:
    """A running guest: its console, its ssh port, its monitor."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.console, self._monitor, self._key = folder / "console", folder / "monitor", folder / "key"
        self.port = free_port()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)
        write_seed(folder / "seed", "web-1", USER_DATA, (folder / "key.pub").read_text().strip())
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, folder / "disk"]
        subprocess.run(overlay, check=True)
        argv = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "128", "-display", "none",
            "-serial", f"file:{self.console}", "-monitor", f"unix:{self._monitor},server,nowait",
            "-drive", f"file={folder / 'disk'},if=virtio",
            "-drive", f"file={folder / 'seed'},if=virtio,format=raw,readonly=on",
            "-device", "virtio-net-pci,netdev=n,romfile=",
            "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22",
        ]  # fmt: skip
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def ssh(self, command: str, *, key: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in the guest."""
        identity = ["-i", str(self._key)] if key else ["-o", "IdentityFile=none"]
        argv = ["ssh", *SSH_OPTIONS, *identity, "-p", str(self.port), "root@127.0.0.1", command]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)

    def monitor(self, command: str) -> None:
        """Gives QEMU's monitor a command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._monitor))
            connection.recv(4096)
            connection.sendall(f"{command}\n".encode())
            time.sleep(0.2)


@pytest.fixture
def guest(tmp_path: Path, image: Path) -> Iterator[Guest]:
    running = Guest(tmp_path, image)
    yield running
    running.process.kill()
    running.process.wait()


def test_the_image_boots_obeys_its_seed_reboots_and_powers_off(guest: Guest) -> None:
    shown = wait_for_line(guest.console, "GUEST-READY")
    assert "GUEST-READY web-1 10.0.2.15 src=nocloud" in shown
    assert "USERDATA: ran-on web-1" in shown
    assert guest.ssh("hostname; cat /data/boots").stdout == "web-1\n1\n"
    refused = guest.ssh("true", key=False)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr

    guest.ssh("reboot")
    shown = wait_for_line(guest.console, "boots=2")
    assert shown.count("USERDATA-EXIT") == 1, "user data runs once for an instance"

    guest.monitor("system_powerdown")
    guest.process.wait(timeout=20)
    assert "GUEST-POWERBUTTON" in guest.console.read_text(errors="replace")
