"""The tiny guest image, under plain QEMU: it boots, obeys its seed disk, lets in by key only, reboots, powers off."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.guest import wait_for_line, write_seed
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.daemons

SSH_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
USER_DATA = "#!/bin/sh\necho ran-on $(hostname)\n"


def make_key(path: Path) -> str:
    """Makes a key pair and returns its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


class Guest:
    """A running guest: its console, its ssh port, its monitor."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.console, self._monitor, self._key = folder / "console", folder / "monitor", folder / "key"
        self.port = free_port()
        self._certified = folder / "certified"
        made = {name: make_key(folder / name) for name in ("key", "certified", "authority")}
        write_seed(folder / "seed", "web-1", USER_DATA, f"{made['key']}\n- cert-authority {made['authority']}")
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, folder / "disk"]
        subprocess.run(overlay, check=True)
        self._argv = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "128", "-display", "none",
            "-serial", f"file:{self.console}", "-monitor", f"unix:{self._monitor},server,nowait",
            "-drive", f"file={folder / 'disk'},if=virtio",
            "-drive", f"file={folder / 'seed'},if=virtio,format=raw,readonly=on",
            "-device", "virtio-net-pci,netdev=n,romfile=",
            "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Boots it from its disk as that is, with an empty console."""
        self.process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL)

    def pull_the_plug(self) -> None:
        """Ends it as a crash does."""
        self.process.kill()
        self.process.wait()
        self.console.unlink()

    def ssh(self, command: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command in the guest, by the instance's key or another one."""
        argv = ["ssh", *SSH_OPTIONS, "-i", str(key or self._key), "-p", str(self.port), "root@127.0.0.1", command]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)

    def certify(self, login: str) -> Path:
        """Returns a key with a certificate of the project's authority for that login name."""
        sign = ["ssh-keygen", "-q", "-s", self._key.with_name("authority"), "-I", "ada", "-n", login, "-V", "-1h:+1h"]
        subprocess.run([*sign, self._certified.with_suffix(".pub")], check=True)
        return self._certified

    def monitor(self, command: str) -> None:
        """Gives QEMU's monitor a command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._monitor))
            for line in ("", f"{command}\n"):  # what is not read when we go is lost, so its prompt is waited for
                connection.sendall(line.encode())
                shown = b""
                while not shown.endswith(b"\n(qemu) "):
                    shown += connection.recv(4096)


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
    assert guest.ssh("tty; whoami", guest.certify("root")).stdout == "not a tty\nroot\n"
    refused = guest.ssh("true", guest.certify("operator"))
    assert refused.returncode == 255, "a certificate for another login name lets nobody in"
    assert "Permission denied (publickey)" in refused.stderr
    host_key = guest.ssh("cat /data/ssh/host_key.pub").stdout

    guest.ssh("reboot")
    shown = wait_for_line(guest.console, "boots=2")
    assert guest.ssh("cat /data/ssh/host_key.pub").stdout == host_key != ""
    assert shown.count("USERDATA-EXIT") == 1, "user data runs once for an instance"

    guest.monitor("system_powerdown")
    guest.process.wait(timeout=300)
    assert "GUEST-POWERBUTTON" in guest.console.read_text(errors="replace")


def test_the_plug_may_be_pulled(guest: Guest) -> None:
    for _ in range(2):
        wait_for_line(guest.console, "GUEST-READY")
        # What is written goes to the disk at once, but nothing says that it has to be durable.
        guest.ssh("cd /proc/sys/vm; echo 10 >dirty_writeback_centisecs; echo 10 >dirty_expire_centisecs; sleep 3")
        guest.pull_the_plug()
        guest.start()
    wait_for_line(guest.console, "GUEST-READY")
    assert guest.ssh("mount | grep -c /data; dmesg | grep EXT4-fs.*error").stdout == "1\n"
