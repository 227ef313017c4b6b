"""The HTTP side of logging in by a directory: ``/api/v1/auth/ldap/...``.

POST ldap/login      {provider, user, password}           tokens or challenge
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.ldapmessages import LdapLoginRequest
from vcstack.apiserver.auth.cookies import reply_step
from vcstack.apiserver.auth.ldaplogins import LdapLogins
from vcstack.apiserver.auth.requests import client_of, read


class LdapRoutes:
    """Answers them."""

    def __init__(self, logins: LdapLogins) -> None:
        self._logins = logins
        self.posts: Mapping[str, Callable[[Request], Awaitable[Response]]] = {"ldap/login": self.login}

    async def login(self, request: Request) -> Response:
        """Log in."""
        body = await read(request, LdapLoginRequest)
        done = await self._logins.login(body.provider, body.user, body.password, client_of(request))
        return reply_step(request, done)
