"""What libvirt says of a domain, read into our words. Pure; the XML comes from libvirt itself."""

import hashlib
from xml.etree import ElementTree as ET

from vcstack.nodeagent.backends.hypervisor import MARK_TAG, NAMESPACE, LiveInterface, Mark

_MARK = f"{{{NAMESPACE}}}{MARK_TAG}"
_FIELDS = ("field", f"{{{NAMESPACE}}}field")
"""libvirt puts the children of a metadata element into its namespace, or not, by how it came there."""


def parse(xml: str) -> ET.Element:
    """Return the tree of a document that libvirt wrote."""
    return ET.fromstring(xml)  # noqa: S314 - libvirt is trusted with far more than this


def read_mark(domain: ET.Element) -> tuple[Mark | None, str]:
    """Return the mark and the digest of the definition as it was read back; None and '' without one."""
    element = domain.find(f"metadata/{_MARK}")
    if element is None or not element.get("uid"):
        return None, ""
    generation = element.get("generation", "0")
    mark = Mark(
        uid=element.get("uid", ""),
        project=element.get("project", ""),
        name=element.get("name", ""),
        generation=int(generation) if generation.isdecimal() else 0,
        wanted=element.get("wanted", ""),
        reboot_fields={f.get("name", ""): f.get("digest", "") for f in element if f.tag in _FIELDS},
    )
    return mark, element.get("defined", "")


def digest_definition(inactive: ET.Element) -> str:
    """Return a digest of everything but the metadata, in which the digest itself is kept."""
    copy = parse(ET.tostring(inactive, encoding="unicode"))
    for metadata in copy.findall("metadata"):
        copy.remove(metadata)
    canonical = ET.canonicalize(ET.tostring(copy, encoding="unicode"), strip_text=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def read_interfaces(domain: ET.Element) -> tuple[LiveInterface, ...]:
    """Return the network cards."""
    found = []
    for interface in domain.findall("devices/interface"):
        mac, target, mtu = interface.find("mac"), interface.find("target"), interface.find("mtu")
        found.append(
            LiveInterface(
                mac="" if mac is None else mac.get("address", ""),
                tap="" if target is None else target.get("dev", ""),
                mtu=None if mtu is None else int(mtu.get("size", "0")),
            )
        )
    return tuple(found)


def read_serial_device(domain: ET.Element) -> str | None:
    """Return the terminal of the first serial line, None unless the machine runs."""
    source = domain.find("devices/serial[@type='pty']/source")
    return None if source is None else source.get("path")


def has_screen(domain: ET.Element) -> bool:
    """Return whether the machine has a screen that can be looked at."""
    return domain.find("devices/graphics[@type='vnc']") is not None
