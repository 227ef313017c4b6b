"""Records websockets: consoles that are opened, how long they were, and whatever is refused, before the handshake is
answered."""

import time
from typing import Any, Final

from vcstack.apiserver.audit.entry import SWITCHING_PROTOCOLS, begin
from vcstack.apiserver.audit.trail import Trail

TUNNEL: Final = "tunnel"
"""A host's, which comes and goes with the network; its beginnings are enough."""
REFUSED: Final = 403
"""What a client sees when a websocket is closed before it is accepted."""


class Recording:
    """One websocket. Without a trail nothing is recorded."""

    def __init__(self, trail: Trail | None, scope: Any, send: Any, request_id: str) -> None:
        self._trail = trail
        self._send = send
        self._entry = begin(trail, scope, request_id) if trail is not None else None
        self._opened: float | None = None

    async def send(self, message: Any) -> None:
        """Send the websocket's messages, its beginning once that is recorded."""
        kind, entry = message["type"], self._entry
        if entry is None:
            pass
        elif kind == "websocket.accept" and entry.error is not None:
            # Only to tell a page why it is refused.
            entry.finish(entry.error.CODE)
        elif kind == "websocket.accept":
            entry.demand()
            entry.finish(SWITCHING_PROTOCOLS)
            self._opened = time.monotonic()
        elif kind == "websocket.http.response.start":
            entry.finish(message["status"])
        elif kind == "websocket.close":
            entry.finish(REFUSED)
        await self._send(message)

    def end(self) -> None:
        """Record how long somebody was connected with an instance."""
        entry = self._entry
        if self._trail is None or entry is None or self._opened is None or entry.target is None:
            return
        if entry.target.subresource != TUNNEL:
            self._trail.record_end(entry, time.monotonic() - self._opened)
