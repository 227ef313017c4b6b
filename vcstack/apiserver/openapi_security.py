"""How callers say who they are, for the OpenAPI document."""

from typing import Any, Final

from vcstack.apiserver.auth.cookies import COOKIE
from vcstack.apiserver.edges import SESSION_HEADER

Json = dict[str, Any]

SCHEMES: Final[Json] = {
    "session": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's access token, good for ten minutes. POST /api/v1/auth/login gives it, after "
        "/api/v1/auth/mfa/verify where a second factor is enrolled; POST /api/v1/auth/refresh renews it.",
    },
    "provider": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The same after a login at an identity provider. With a browser (OpenID Connect, authorization "
        "code with PKCE): POST /api/v1/auth/oidc/begin, open authorizationUrl, POST /api/v1/auth/oidc/complete. "
        "Without one: POST /api/v1/auth/oidc/device, then /api/v1/auth/oidc/poll.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A program's access token. POST /api/v1/auth/token exchanges an API key for it.",
    },
    "adminToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that `vc-management init` writes, for setting up and for emergencies.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A host's certificate, system:host:NAME. POST /api/v1/join gives the first one for a one-time "
        "token, POST /api/v1/hosts/NAME/certificate the next ones.",
    },
    "refreshCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The refresh token of a page in a browser, for /api/v1/auth/refresh and logout only. A login "
        "with the header `vcstack-session: cookie` sets it.",
    },
}
EVERYBODY: Final[list[Json]] = [{name: []} for name in ("session", "provider", "apiKey", "adminToken", "certificate")]
"""Any of these, where an operation does not say otherwise."""
BY_COOKIE: Final = frozenset({"/api/v1/auth/refresh", "/api/v1/auth/logout"})


GIVING_TOKENS: Final = frozenset(
    f"/api/v1/auth/{step}"
    for step in (
        "login",
        "password",
        "mfa/verify",
        "mfa/confirm",
        "refresh",
        "oidc/complete",
        "oidc/poll",
        "ldap/login",
    )
)
SESSION_PARAMETER: Final[Json] = {
    "name": SESSION_HEADER,
    "in": "header",
    "required": False,
    "description": "cookie: the refresh token comes in a cookie that no script can read, not in the body.",
    "schema": {"type": "string", "enum": ["cookie"]},
}


def security_of(path: str, operation: Json) -> list[Json] | None:
    """Return what the operation asks for, when it is not what all do."""
    if path in BY_COOKIE:
        return [{}, {"refreshCookie": []}, *([{"session": []}] if path.endswith("logout") else [])]
    found: list[Json] | None = operation.get("security")
    return found
