"""The NoCloud drive: what cloud-init is told, as an ISO 9660 image with the label cidata. Same input, same bytes.

https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycdlib import PyCdlib, dates

SECTOR = 2048
ROUTE_METRIC = 100
FIXED_TIME = 1_500_000_000.0
"""The date of everything on the drive."""
_ESCAPED = re.compile("[\x7f-\uffff]")
_TIMES = (
    "creation_time", "access_time", "modification_time", "attribute_change_time",
    "backup_time", "expiration_time", "effective_time",
)  # fmt: skip
_DESCRIPTOR_TIMES = slice(813, 881)
"""ISO 9660 section 8.4.26 to 8.4.29: creation, modification, expiration, effective, 17 bytes each."""
_ROOT_TIME = slice(174, 181)
"""ISO 9660 section 8.4.18: the date in the root's directory record."""


@dataclass(frozen=True, slots=True)
class SeedCard:
    """A network card and where the guest has its addresses there from."""

    mac: str
    mtu: int
    dhcp4: bool = False
    addresses: Sequence[str] = ()
    """With the prefix length: those that the guest sets itself."""
    routes: Sequence[tuple[str, str]] = ()
    """Destination and next hop, beside those that DHCP tells."""
    dns_servers: Sequence[str] = ()
    """Beside those that DHCP tells."""


@dataclass(frozen=True, slots=True)
class SeedWanted:
    """What the guest is told."""

    instance_id: str
    host_name: str
    ssh_keys: Sequence[str] = ()
    """Lines as in authorized_keys, with options."""
    user_data: str = ""
    cards: Sequence[SeedCard] = ()
    """In order; of what is not told, cloud-init would ask DHCPv4 on the first card and nothing else."""


def build_seed(wanted: SeedWanted) -> bytes:
    """Return the image of the drive."""
    files = {
        "meta-data": _text(
            {
                "instance-id": wanted.instance_id,
                "local-hostname": wanted.host_name,
                "public-keys": list(wanted.ssh_keys),
            }
        ),
        "user-data": wanted.user_data.encode(),
    }
    if wanted.cards:
        files["network-config"] = _text(_network(wanted.cards))
    return _build_iso(files)


def _text(value: dict[str, Any]) -> bytes:
    """Return JSON that is YAML too: no character of a value means anything to a reader of either.

    Beyond the basic plane characters stay as they are: JSON writes two escapes for them, which YAML reads
    as two characters.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def _network(cards: Sequence[SeedCard]) -> dict[str, Any]:
    """Return cloud-init's networking configuration, version 2.

    Each card is named: cloud-init's renderers but netplan's find no card by its MAC alone. Of several default
    routes the one of the first card is preferred.

    https://cloudinit.readthedocs.io/en/latest/reference/network-config-format-v2.html
    """
    return {"version": 2, "ethernets": {f"eth{i}": _ethernet(i, card) for i, card in enumerate(cards)}}


def _ethernet(number: int, card: SeedCard) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "match": {"macaddress": card.mac},
        "set-name": f"eth{number}",
        "mtu": card.mtu,
        "dhcp4": card.dhcp4,
        "dhcp6": False,
    }
    if card.dhcp4:
        wire["dhcp4-overrides"] = {"route-metric": ROUTE_METRIC + number}
    if card.addresses:
        wire["addresses"] = list(card.addresses)
    if card.routes:
        wire["routes"] = [{"to": to, "via": via, "metric": ROUTE_METRIC + number} for to, via in card.routes]
    if card.dns_servers:
        wire["nameservers"] = {"addresses": list(card.dns_servers)}
    return wire


def _build_iso(files: dict[str, bytes]) -> bytes:
    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata", sys_ident="LINUX")
    try:
        for number, (name, content) in enumerate(files.items()):
            short = f"/FILE{number}.;1"  # for readers that know neither Joliet nor Rock Ridge, of which there are none
            iso.add_fp(io.BytesIO(content), len(content), iso_path=short, rr_name=name, joliet_path=f"/{name}")
        descriptors: tuple[Any, ...] = (iso.pvd, iso.joliet_vd)
        for descriptor in descriptors:
            _fix_times(descriptor.root_dir_record)
            for record in descriptor.root_dir_record.children:
                _fix_times(record)
        out = io.BytesIO()
        iso.write_fp(out)
    finally:
        iso.close()
    return _fix_descriptors(bytearray(out.getvalue()))


def _fix_times(record: Any) -> None:
    """Set the times of a directory record and of its Rock Ridge entries."""
    record.date = _time()
    for entries in (record.rock_ridge.dr_entries, record.rock_ridge.ce_entries) if record.rock_ridge else ():
        stamps = entries.tf_record if entries else None
        for name in _TIMES:
            if getattr(stamps, name, None) is not None:
                setattr(stamps, name, _time())


def _fix_descriptors(image: bytearray) -> bytes:
    """Set the times in the volume descriptors, which pycdlib takes from the clock as it writes."""
    epoch = dates.VolumeDescriptorDate()
    epoch.new(FIXED_TIME)
    never = b"0" * 16 + b"\0"
    sector = 16
    while image[sector * SECTOR] != 255:
        start = sector * SECTOR
        if image[start] in (1, 2):
            stamp = epoch.record()
            image[start + _DESCRIPTOR_TIMES.start : start + _DESCRIPTOR_TIMES.stop] = stamp + stamp + never + stamp
            image[start + _ROOT_TIME.start : start + _ROOT_TIME.stop] = _time().record()
        sector += 1
    return bytes(image)


def _time() -> Any:
    fixed = dates.DirectoryRecordDate()
    fixed.new(FIXED_TIME)
    return fixed
