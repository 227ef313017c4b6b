"""Where requests really come from, when proxies stand before the server: only those named in the settings are believed.

A proxy that is trusted says so in X-Forwarded-For, to which each proxy adds whom it got the request from. The last one
there that is no trusted proxy itself is the client; what stands before it the client may have made up. Without the
setting the header is nothing.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from vcstack.apiserver.auth.tokens import Network, is_within

FORWARDED_FOR: Final = b"x-forwarded-for"


class Proxies:
    """The proxies that are believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def find_client(self, scope: Any) -> tuple[str, int] | None:
        """Return the client's address and port as the scope should have them."""
        client: tuple[str, int] | None = scope.get("client")
        if not self._networks or client is None or not is_within(client[0], self._networks):
            return client
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED_FOR]
        found = client
        for hop in reversed([hop.strip() for line in lines for hop in line.split(",")]):
            address = _read(hop)
            if address is None:
                break
            found = (address, 0)
            if not is_within(address, self._networks):
                break
        return found


def _read(hop: str) -> str | None:
    """Return the address of ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; None for none."""
    text = hop.partition("]")[0].removeprefix("[") if hop.startswith("[") else hop
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
