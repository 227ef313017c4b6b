"""What every request has, for websockets: an id, safe headers, a look at where the page is from, a line in the log."""

import time
from typing import Any, Final

import structlog

from vcstack.apiserver.edges import REQUEST_ID, Origins, dress, pick, program_of, request_id_of
from vcstack.apiserver.identity import ANONYMOUS, SUBJECT_KEY

logger = structlog.get_logger("vcstack.apiserver.access")

ACCEPTED: Final = 101
CLOSED: Final = 403
"""What a client sees when a websocket is closed before it is accepted."""


class Handshake:
    """One websocket, until it is accepted or refused."""

    def __init__(self, origins: Origins, scope: Any) -> None:
        self._origins = origins
        self._scope = scope
        self._headers = pick(scope)
        self._began = time.monotonic()
        self._noted = False
        self.request_id = request_id_of(self._headers)
        structlog.contextvars.bind_contextvars(request_id=self.request_id)

    def demand_own_site(self) -> None:
        """Return unless a foreign page asks. Raises Forbidden."""
        self._origins.demand_own_site(self._scope, self._headers)

    def sending(self, send: Any) -> Any:
        """Return what sends the messages, the answer to the handshake with its headers."""

        async def dressed(message: Any) -> None:
            kind = message["type"]
            if kind == "websocket.http.response.start":
                dress(message, self.request_id)
                self._note(message["status"])
            elif kind == "websocket.accept":
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
                self._note(ACCEPTED)
            elif kind == "websocket.close":
                self._note(CLOSED)
            await send(message)

        return dressed

    def _note(self, status: int) -> None:
        """Log the handshake, once; the path alone, for a query may hold secrets."""
        if self._noted:
            return
        self._noted = True
        seconds = time.monotonic() - self._began
        logger.info(
            "websocket",
            path=self._scope["path"][:512],
            status=status,
            subject=self._scope.get(SUBJECT_KEY, ANONYMOUS.subject),
            milliseconds=round(seconds * 1000, 1),
            client=(self._scope.get("client") or ("",))[0],
            program=program_of(self._headers),
        )
