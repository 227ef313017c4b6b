"""The names of what an instance is made of on its host: all follow from uids, so a repeated create adopts."""

import re
import uuid

from vcstack.specs.kinds.port import Port

TAP_PATTERN = re.compile(r"tap[0-9a-f]{12}")
"""Names of interfaces that may be ours; whether they are says their alias."""
UID_PATTERN = re.compile(r"i-[0-9a-f]{12}")


def domain_uuid(instance_uid: str) -> str:
    """Return libvirt's UUID of the instance's domain."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, instance_uid))


def tap_name(port: Port) -> str:
    """Return the port's kernel interface; 15 characters, as many as the kernel allows (IFNAMSIZ less one)."""
    return f"tap{port.uid.rpartition('-')[2][:12]}"


def shell_device(network_uid: str) -> str:
    """Return the kernel interface by which shells reach the network's guests; 15 characters."""
    return f"shl{network_uid.rpartition('-')[2][:12]}"


def tap_alias(instance_uid: str) -> str:
    """Return the interface alias that marks a tap as ours."""
    return f"{ALIAS_PREFIX}{instance_uid}"


ALIAS_PREFIX = "vcstack:"
