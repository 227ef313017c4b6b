"""Records websockets: consoles that are opened, and whatever is refused, before the handshake is answered."""

from typing import Any, Final

from vcstack.apiserver.audit.entry import SWITCHING_PROTOCOLS, begin
from vcstack.apiserver.audit.trail import Trail

REFUSED: Final = 403
"""What a client sees when a websocket is closed before it is accepted."""


def audited(trail: Trail | None, scope: Any, send: Any, request_id: str) -> Any:
    """Return what sends the websocket's messages and records its beginning."""
    if trail is None:
        return send
    entry = begin(trail, scope, request_id)

    async def recording(message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            entry.demand()
            await entry.finish(SWITCHING_PROTOCOLS)
        elif kind == "websocket.http.response.start":
            await entry.finish(message["status"])
        elif kind == "websocket.close":
            await entry.finish(REFUSED)
        await send(message)

    return recording
