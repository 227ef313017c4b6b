"""Guests outlive everything but a `down` of their own lab."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.lab import Lab, host, procfs
from tests.deploy.guest import domain_xml, wait_for_line
from tests.deploy.observed import eventually, leftovers

pytestmark = pytest.mark.daemons


def start_guest(lab: Lab, image: Path) -> tuple[int, Path]:
    disk, console = lab.path("hosts/h1/disk.qcow2"), lab.path("hosts/h1/console")
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(disk)]
    lab.host_exec("h1", overlay, check=True)
    lab.path("hosts/h1/guest.xml").write_text(domain_xml("one", disk, console))
    lab.host_exec("h1", ["virsh", "define", str(lab.path("hosts/h1/guest.xml"))], check=True)
    lab.host_exec("h1", ["virsh", "start", "one"], check=True)
    eventually("one guest", lambda: len(lab.guests("h1")) == 1)  # libvirt starts others for a moment, to try QEMU
    (pid,) = lab.guests("h1")
    return pid, console


def test_a_guest_survives_every_death_but_down_powers_it_off(tmp_path: Path, cache: Path, image: Path) -> None:
    lab = Lab(tmp_path / "state", cache=cache)
    try:
        lab.up("infra")
        guest, console = start_guest(lab, image)

        for program in host.INFRA:
            lab.kill("h1", program)
        supervisor = lab.supervisor.pid()
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        lab.up("infra")
        eventually("the same guest alone", lambda: lab.guests("h1") == [guest])
        assert "running" in lab.host_exec("h1", ["virsh", "domstate", "one"], check=True).stdout

        # Even the files that keep the host's namespaces may be lost.
        for kind in ("mnt", "uts"):
            subprocess.run(["umount", lab.layout.ns_file("h1", kind)], check=True)
        lab.up("infra")
        eventually("the same guest alone", lambda: lab.guests("h1") == [guest])
        assert "running" in lab.host_exec("h1", ["virsh", "domstate", "one"], check=True).stdout

        wait_for_line(console, "GUEST-READY")
    finally:
        lab.down(guest_seconds=60)
    assert not procfs.alive(guest)
    assert "GUEST-POWERBUTTON" in console.read_text(errors="replace")
    assert leftovers(lab) == []

    # The host's disk is kept: after the next boot libvirt still knows the domain, powered off.
    try:
        lab.up("infra")
        assert "shut off" in lab.host_exec("h1", ["virsh", "domstate", "one"], check=True).stdout
    finally:
        lab.down(guest_seconds=0)
