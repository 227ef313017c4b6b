"""The API's port on the machine: asked for, kept, or the next free one."""

import os
import socket

from deploy.lab.errors import LabError
from deploy.lab.layout import CHECKOUT, Layout

DEFAULT = 8443


def is_free(port: int) -> bool:
    """Whether nobody listens on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(layout: Layout) -> int:
    """`$VCSTACK_API_PORT`, else the port used before, else the first free one from 8443.

    A lab elsewhere than in the checkout starts looking at a number of its own, so that several labs that come up at the
    same moment do not meet at the same port.
    """
    asked = os.environ.get("VCSTACK_API_PORT")
    if asked:
        if not asked.isdecimal() or not 0 < int(asked) < 65536:
            raise LabError("port", f"VCSTACK_API_PORT is '{asked}', which is no port number.")
        return int(asked)
    kept = layout.load().get("port")
    if isinstance(kept, int):
        return kept
    first = DEFAULT if layout.state == CHECKOUT / "var" else 20000 + int(layout.tag, 16) % 10000
    for port in range(first, first + 200):
        if is_free(port):
            layout.save(port=port) if layout.state.is_dir() else None
            return port
    raise LabError("port", f"no port from {first} to {first + 199} is free; set VCSTACK_API_PORT.")
