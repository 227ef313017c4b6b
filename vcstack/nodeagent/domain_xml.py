"""What an instance is as a libvirt domain: pure functions from what is wanted to XML.

The elements are those of https://libvirt.org/formatdomain.html. Everything goes through an XML tree, so
that no string can break out of its attribute.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET  # builds only; what is read comes from libvirt

from vcstack.nodeagent.backends.hypervisor import MARK_TAG, NAMESPACE, Mark
from vcstack.nodeagent.names import domain_uuid

KVM, TCG = "kvm", "qemu"
TB_CACHE_MIB = 32
"""QEMU's translation cache under TCG; its own default of up to 1 GiB is far more than small guests need."""
VIDEO_KIB = 16 * 1024
"""The screen's memory: 2560 x 1600 points of 32 bit."""
BALLOON_SECONDS = 5
"""How often a guest with the driver tells what memory it uses."""

ET.register_namespace("vcstack", NAMESPACE)


@dataclass(frozen=True, slots=True)
class InterfaceWanted:
    """A network card."""

    mac: str
    tap: str
    mtu: int


@dataclass(frozen=True, slots=True)
class DomainWanted:
    """All that the definition follows from."""

    mark: Mark
    vcpus: int
    memory_mib: int
    virt_type: str
    """kvm or qemu."""
    root_disk: Path
    seed: Path
    serial_log: Path
    interfaces: Sequence[InterfaceWanted] = ()
    userspace_datapath: bool = False
    """Whether Open vSwitch runs without a kernel module: then guests compute their checksums."""


def seal(wanted: DomainWanted) -> Mark:
    """Return the mark with the digest of the definition."""
    bare = ET.tostring(_build_tree(wanted, None))
    return replace(wanted.mark, wanted=hashlib.sha256(bare).hexdigest()[:32])


def build_domain(wanted: DomainWanted) -> str:
    """Return the definition, its mark sealed."""
    return ET.tostring(_build_tree(wanted, seal(wanted)), encoding="unicode")


def build_interface(wanted: InterfaceWanted, *, userspace_datapath: bool) -> str:
    """Return one network card, to be plugged in."""
    return ET.tostring(_interface(wanted, userspace_datapath), encoding="unicode")


def build_mark(mark: Mark, *, defined: str = "", tag: str = f"{{{NAMESPACE}}}{MARK_TAG}") -> ET.Element:
    """Return the mark as the element of the domain's metadata.

    ``defined`` is the digest of the definition as the hypervisor reads it back.
    """
    element = ET.Element(
        tag,
        {
            "uid": mark.uid,
            "project": mark.project,
            "name": mark.name,
            "generation": str(mark.generation),
            "wanted": mark.wanted,
            "defined": defined,
        },
    )
    for name, digest in sorted(mark.reboot_fields.items()):
        ET.SubElement(element, "field", {"name": name, "digest": digest})
    return element


def _add(parent: ET.Element, path: str, attributes: dict[str, str] | None = None, text: str = "") -> ET.Element:
    """Add an element below those that path names before it."""
    for tag in path.split("/"):
        parent = ET.SubElement(parent, tag)
    parent.attrib.update(attributes or {})
    parent.text = text or None
    return parent


def _build_tree(wanted: DomainWanted, mark: Mark | None) -> ET.Element:
    domain = ET.Element("domain", {"type": wanted.virt_type})
    _add(domain, "name", text=wanted.mark.uid)
    _add(domain, "uuid", text=domain_uuid(wanted.mark.uid))
    _add(domain, "title", text=f"{wanted.mark.project}/{wanted.mark.name}")
    if mark is not None:
        _add(domain, "metadata").append(build_mark(mark))
    _add(domain, "memory", {"unit": "MiB"}, str(wanted.memory_mib))
    _add(domain, "vcpu", {"placement": "static"}, str(wanted.vcpus))
    system = _add(domain, "os")
    # i440fx: hot-plug without root ports, and the tiny guest is up a second sooner than on q35.
    _add(system, "type", {"arch": "x86_64", "machine": "pc"}, "hvm")
    _add(system, "boot", {"dev": "hd"})
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if wanted.virt_type == TCG:
        _add(features, "tcg/tb-cache", {"unit": "MiB"}, str(TB_CACHE_MIB))
    _add(domain, "cpu", _cpu(wanted.virt_type))
    _add(domain, "clock", {"offset": "utc"})
    # A guest that powers off or crashes is gone; whether it starts again is decided here, not by libvirt.
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _add(domain, f"on_{event}", text=action)
    _devices(_add(domain, "devices"), wanted)
    return domain


def _cpu(virt_type: str) -> dict[str, str]:
    if virt_type == KVM:
        return {"mode": "host-passthrough", "check": "none", "migratable": "on"}
    return {"mode": "maximum", "check": "none"}


def _devices(devices: ET.Element, wanted: DomainWanted) -> None:
    _disk(devices, wanted.root_disk, "qcow2", "vda", "root")
    _disk(devices, wanted.seed, "raw", "vdb", "seed", readonly=True)
    _add(devices, "controller", {"type": "usb", "model": "none"})
    devices.extend(_interface(i, wanted.userspace_datapath) for i in wanted.interfaces)
    serial = _add(devices, "serial", {"type": "pty"})
    _add(serial, "log", {"file": str(wanted.serial_log), "append": "on"})
    _add(serial, "target", {"port": "0"})
    _add(_add(devices, "console", {"type": "pty"}), "target", {"type": "serial", "port": "0"})
    agent = _add(devices, "channel", {"type": "unix"})
    _add(agent, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
    # QEMU's VNC server listens nowhere: the agent hands it one end of a socket for each viewer.
    _add(_add(devices, "graphics", {"type": "vnc", "sharePolicy": "force-shared"}), "listen", {"type": "none"})
    _add(_add(devices, "video"), "model", {"type": "vga", "vram": str(VIDEO_KIB), "heads": "1", "primary": "yes"})
    # Where the pointer is, not where to it moved; guests without a driver go on with the PS/2 mouse.
    _add(devices, "input", {"type": "tablet", "bus": "virtio"})
    _add(_add(devices, "rng", {"model": "virtio"}), "backend", {"model": "random"}, "/dev/urandom")
    balloon = _add(devices, "memballoon", {"model": "virtio", "freePageReporting": "on"})
    _add(balloon, "stats", {"period": str(BALLOON_SECONDS)})


def _disk(devices: ET.Element, path: Path, format_: str, target: str, serial: str, *, readonly: bool = False) -> None:
    disk = _add(devices, "disk", {"type": "file", "device": "disk"})
    _add(disk, "driver", {"name": "qemu", "type": format_, **({} if readonly else {"discard": "unmap"})})
    _add(disk, "source", {"file": str(path)})
    _add(disk, "target", {"dev": target, "bus": "virtio"})
    # Guests name disks by arrival; /dev/disk/by-id/virtio-SERIAL holds.
    _add(disk, "serial", text=serial)
    if readonly:
        _add(disk, "readonly")


def _interface(wanted: InterfaceWanted, userspace_datapath: bool) -> ET.Element:
    interface = ET.Element("interface", {"type": "ethernet"})
    _add(interface, "mac", {"address": wanted.mac})
    _add(interface, "target", {"dev": wanted.tap, "managed": "no"})
    _add(interface, "model", {"type": "virtio"})
    if userspace_datapath:
        # The userspace datapath drops what leaves a guest without a checksum: ping works, TCP hangs.
        _add(_add(interface, "driver", {"name": "qemu"}), "host", {"csum": "off"})
    _add(interface, "mtu", {"size": str(wanted.mtu)})
    _add(interface, "rom", {"enabled": "no"})
    return interface
