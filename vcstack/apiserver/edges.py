"""What holds at the edge for every request, whoever asks and whatever for.

- Request ids: a client's own is taken when it is well formed.
- CORS: browsers let pages of origins that the operator names call the API. By default none.
- CSRF: what a browser adds by itself, a cookie or a client certificate, counts only for pages of our own origin or of
  those named. A bearer token proves that the caller means it; a browser never adds one by itself.
"""

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from vcstack.apiserver.identity import PEER_KEY
from vcstack.apiserver.replies import SAFE_HEADERS
from vcstack.specs.errors import Forbidden

REQUEST_ID: Final = b"x-request-id"
SESSION_HEADER: Final = "vcstack-session"
"""Its value ``cookie`` asks for the refresh token in a cookie."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
ALLOWED_HEADERS: Final = ("authorization", "content-range", "content-type", "range", SESSION_HEADER, "x-request-id")
EXPOSED_HEADERS: Final = (
    "content-range", "location", "ratelimit", "ratelimit-policy", "retry-after", "upload-offset", "www-authenticate",
    "x-request-id",
)  # fmt: skip
"""What a page of another origin may read besides the content."""
PREFLIGHT_SECONDS: Final = 600

_LOOKED_AT: Final = frozenset({REQUEST_ID, b"origin", b"cookie", b"sec-fetch-site", b"host", b"user-agent"})
_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_OWN_SITE: Final = frozenset({b"same-origin", b"none"})
"""Of Sec-Fetch-Site: our own page, or the user by the address bar (Fetch Metadata, section 2.3)."""

Picked = Mapping[bytes, bytes]


def pick(scope: Any) -> Picked:
    """Return the headers that the edge looks at; of several of a name the last."""
    return {name: value for name, value in scope["headers"] if name in _LOOKED_AT}


def request_id_of(headers: Picked) -> str:
    """Return the request's id: the client's, if nothing can be hidden in it, else a new one."""
    given = headers.get(REQUEST_ID)
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"


def program_of(headers: Picked) -> str:
    """Return the client's program as it calls itself, cut off."""
    return headers.get(b"user-agent", b"")[:100].decode("latin-1")


def dress(message: Any, request_id: str) -> None:
    """Add to the beginning of an answer what every answer has."""
    given = {name for name, _ in message["headers"]}
    extra = [header for header in SAFE_HEADERS if header[0] not in given]
    message["headers"] = [*message["headers"], *extra, (REQUEST_ID, request_id.encode())]


class Origins:
    """Which pages' requests are let in."""

    def __init__(self, allowed: tuple[str, ...], own_url: str) -> None:
        """Take the origins that an operator allows, and our address as users know it."""
        self._trusted = frozenset(origin.encode() for origin in (*allowed, own_url.rstrip("/")))
        self._cors = _build_cors(allowed) if allowed else None

    def demand_own_site(self, scope: Any, headers: Picked) -> None:
        """Return unless a foreign page made a browser send this. Raises Forbidden."""
        origin = headers.get(b"origin")
        is_socket = scope["type"] == "websocket"
        if is_socket:
            if origin is None or self._is_trusted(origin, headers):
                return
            raise Forbidden(
                "a page of another origin may open no websocket; the operator can allow it: api.corsOrigins"
            )
        by_cookie = b"cookie" in headers
        if not (by_cookie or PEER_KEY in scope) or scope["method"] in SAFE_METHODS:
            return
        if origin is not None:
            if self._is_trusted(origin, headers):
                return
        elif not by_cookie or headers.get(b"sec-fetch-site") in _OWN_SITE:
            return  # no browser sends a certificate without saying where the page is from
        raise Forbidden(
            "a request with a cookie or client certificate must come from a page of this address: its Origin or "
            "Sec-Fetch-Site does not say so"
        )

    def preflight(self, scope: Any, headers: Picked) -> Response | None:
        """Return the answer to a browser that asks what it may send; None when it does not ask."""
        if self._cors is None or scope["method"] != "OPTIONS" or b"origin" not in headers:
            return None
        asked = Headers(scope=scope)
        return self._cors.preflight_response(asked) if "access-control-request-method" in asked else None

    async def send(self, scope: Any, message: Any, send: Any) -> None:
        """Send a part of an answer, with what tells the browser which pages may read it."""
        if self._cors is None:
            await send(message)
        else:
            await self._cors.send(message, send, Headers(scope=scope))

    def _is_trusted(self, origin: bytes, headers: Picked) -> bool:
        return origin in self._trusted or origin == b"https://" + headers.get(b"host", b"")


def _build_cors(allowed: tuple[str, ...]) -> CORSMiddleware:
    return CORSMiddleware(
        _no_application,
        allow_origins=allowed,
        allow_methods=METHODS,
        allow_headers=ALLOWED_HEADERS,
        allow_credentials=True,
        expose_headers=EXPOSED_HEADERS,
        max_age=PREFLIGHT_SECONDS,
    )


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only the middleware's own parts are used")
