"""Of which class a request is: a look into a table by method and subresource, nothing that costs anything."""

from typing import Any, Final

from vcstack.apiserver.queries import is_watch
from vcstack.apiserver.targets import PLAN, QUOTA_CHECK, STREAM, Target
from vcstack.specs.kinds.ratelimitpolicy import RouteClass

EXEMPT: Final = frozenset({"/healthz", "/readyz"})
"""Never limited: they tell whether the server is well, above all while it is flooded. They are answered from memory,
or share one question to the store."""
READING: Final = frozenset({"GET", "HEAD"})
LONG: Final = frozenset({RouteClass.STREAM, RouteClass.TRANSFER})
"""These go on for as long as the client likes: they are counted, and take no seats."""
LARGE: Final = frozenset({RouteClass.LIST, RouteClass.QUERY})
"""Their answers may be large."""
_LOGIN: Final = ("/api/v1/auth/", "/api/v1/join")
_SUBRESOURCES: Final = {
    "status": None,
    "finalize": None,
    "history": RouteClass.QUERY,
    "timeline": RouteClass.QUERY,
    "why": RouteClass.QUERY,
    "related": RouteClass.QUERY,
    "content": RouteClass.TRANSFER,
    "log": RouteClass.STREAM,
    "console": RouteClass.STREAM,
    "vnc": RouteClass.STREAM,
    "shell": RouteClass.STREAM,
    "recordings": RouteClass.QUERY,
    "screenshot": RouteClass.QUERY,
    "tunnel": RouteClass.STREAM,
    "heartbeat": RouteClass.HEARTBEAT,
    "certificate": RouteClass.HEARTBEAT,
    "encrypt": RouteClass.KEY_OPERATION,
    "decrypt": RouteClass.KEY_OPERATION,
    "reencrypt": RouteClass.KEY_OPERATION,
    "datakey": RouteClass.KEY_OPERATION,
    "sign": RouteClass.KEY_OPERATION,
    "verify": RouteClass.KEY_OPERATION,
    "value": RouteClass.KEY_OPERATION,
}
"""What is not named here is a read or a write by its method."""


def is_login(path: str) -> bool:
    """Return whether the path is one of logging in."""
    return path.startswith(_LOGIN)


def class_of(scope: Any, target: Target | None) -> RouteClass:
    """Return the class of a request by somebody known."""
    if target is None:
        if is_login(scope["path"]):
            return RouteClass.LOGIN
        if scope["path"].startswith("/api/v1/audit"):
            return RouteClass.QUERY
        if scope["path"] == STREAM:
            return RouteClass.STREAM
        if scope["path"] in (PLAN, QUOTA_CHECK):
            return RouteClass.WRITE  # each object is written but for the writing
        # Reviews are posted, but change nothing.
        return RouteClass.READ
    if target.subresource:
        found = _SUBRESOURCES.get(target.subresource)
        if found is not None:
            return found
    elif not target.name and scope.get("method", "GET") in READING:
        return RouteClass.STREAM if is_watch(scope["query_string"]) else RouteClass.LIST
    return RouteClass.READ if scope.get("method", "GET") in READING else RouteClass.WRITE
