"""MAC addresses made from uids."""

import hashlib

MAC_PREFIX = "52:54"
"""Locally administered, unicast; with QEMU's and KVM's usual beginning."""
SERVER_MAC_PREFIX = "0a:54"
"""Locally administered, unicast; for what the cloud itself has on networks. No port may ask for one of them."""


def build_mac(uid: str, attempt: int = 0, *, prefix: str = MAC_PREFIX) -> str:
    """Return the MAC address made from a uid; another one for each attempt."""
    digest = hashlib.sha256(f"{uid}/{attempt}".encode()).hexdigest()
    return ":".join((prefix, *(digest[i : i + 2] for i in range(0, 8, 2))))
