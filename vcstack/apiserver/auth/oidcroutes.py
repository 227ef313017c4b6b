"""The HTTP side of logging in by OpenID Connect: ``/api/v1/auth/oidc/...``.

POST oidc/begin      {provider, redirectUri}              where the browser goes, a challenge
POST oidc/complete   {challenge, code, state, issuer?}    tokens or challenge
POST oidc/device     {provider}                           what the user does elsewhere, a challenge
POST oidc/poll       {challenge}                          tokens or challenge, or that it is not done yet
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.oidcmessages import (
    OidcBeginReply,
    OidcBeginRequest,
    OidcCompleteRequest,
    OidcDeviceReply,
    OidcDeviceRequest,
    OidcPendingReply,
    OidcPollRequest,
)
from vcstack.apiserver.audit.entry import note_nothing_done
from vcstack.apiserver.auth.cookies import reply_step
from vcstack.apiserver.auth.oidc import OidcLogins, Pending
from vcstack.apiserver.auth.requests import client_of, read
from vcstack.apiserver.replies import model_reply


class OidcRoutes:
    """Answers them."""

    def __init__(self, logins: OidcLogins) -> None:
        self._logins = logins
        self.posts: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
            "oidc/begin": self.begin,
            "oidc/complete": self.complete,
            "oidc/device": self.device,
            "oidc/poll": self.poll,
        }

    async def begin(self, request: Request) -> Response:
        """Begin a login with a browser."""
        body = await read(request, OidcBeginRequest)
        login = await self._logins.begin(body.provider, body.redirect_uri)
        return model_reply(
            OidcBeginReply(
                authorization_url=login.url, state=login.state, challenge=login.challenge, expires_at=login.expires_at
            )
        )

    async def complete(self, request: Request) -> Response:
        """Complete a login by what the browser brought back."""
        body = await read(request, OidcCompleteRequest)
        done = await self._logins.complete(body.challenge, body.code, body.state, body.issuer, client_of(request))
        return reply_step(request, done)

    async def device(self, request: Request) -> Response:
        """Begin a login that goes on on another device."""
        body = await read(request, OidcDeviceRequest)
        login = await self._logins.begin_device(body.provider, client_of(request))
        return model_reply(
            OidcDeviceReply(
                user_code=login.user_code,
                verification_uri=login.verification_uri,
                verification_uri_complete=login.verification_uri_complete,
                challenge=login.challenge,
                interval_seconds=login.interval_seconds,
                expires_at=login.expires_at,
            )
        )

    async def poll(self, request: Request) -> Response:
        """Return tokens when the user is done."""
        body = await read(request, OidcPollRequest)
        found = await self._logins.poll(body.challenge, client_of(request))
        if isinstance(found, Pending):
            note_nothing_done()
            return model_reply(OidcPendingReply(interval_seconds=found.interval_seconds))
        return reply_step(request, found)
