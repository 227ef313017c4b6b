"""The HTTP side of logging in: ``/api/v1/auth/...``.

    POST login                {user, password, device?}          tokens or challenge
    POST password             {challenge, newPassword}           the first password: tokens or challenge
    POST password             {password, newPassword}  *         another password
    POST mfa/verify           {challenge, code}                  tokens
    POST mfa/enrol            {challenge}, or {password, code?} * secret and otpauth address
    POST mfa/confirm          {challenge, code}, or {code} *     recovery codes (and tokens)
    POST mfa/recoverycodes    {password, code}  *                recovery codes
    POST mfa/disable          {password, code}  *
    POST refresh              {refreshToken}, or {} with cookie  tokens
    POST logout               {refreshToken}, or {} with cookie or *
    POST token                {keyId, secret}                    an access token for an API key
    GET  keys                                                    the public keys, a JWK set
    GET  providers[?domain=NAME]                                 identity providers that everybody may know of
    POST oidc/...                                                see ``oidcroutes``
    POST ldap/login           {provider, user, password}         tokens or challenge

    * with the access token of a session

With the header ``vcstack-session: cookie`` refresh tokens are handed out in a cookie (``cookies``).
All answers but the last are for nobody's cache (the application's headers see to that).
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiclient.authmessages import (
    CodeRequest,
    EnrolledReply,
    EnrolmentReply,
    KeyRequest,
    LoginRequest,
    LogoutRequest,
    PasswordRequest,
    ProofRequest,
    ProvidersReply,
    RefreshRequest,
)
from vcstack.apiserver.audit.entry import note_error
from vcstack.apiserver.auth.apikeys import ApiKeys
from vcstack.apiserver.auth.cookies import find_refresh_token, forget, reply_step, reply_tokens
from vcstack.apiserver.auth.directory import Directory
from vcstack.apiserver.auth.login import Enrolled, LoginService
from vcstack.apiserver.auth.offered import OfferedProviders
from vcstack.apiserver.auth.requests import client_of, read
from vcstack.apiserver.auth.secondfactor import Enrolment
from vcstack.apiserver.auth.signing import SigningKeys
from vcstack.apiserver.auth.tokens import NOT_VALID, Access, AccessTokens
from vcstack.apiserver.queries import NONE, PROVIDERS, Query
from vcstack.apiserver.replies import error_reply, model_reply, value_reply
from vcstack.specs.errors import MethodNotAllowed, NotFound, Unauthorized

PREFIX: Final = "/api/v1/auth/"
Handler = Callable[[Request], Awaitable[Response]]


class AuthRoutes:
    """Answers ``/api/v1/auth/...``."""

    def __init__(
        self,
        login: LoginService,
        keys: ApiKeys,
        tokens: AccessTokens,
        signing: SigningKeys,
        directory: Directory,
        offered: OfferedProviders,
        more: Mapping[str, Handler],
    ) -> None:
        """Take the services, and ``more`` routes by their paths."""
        self._login = login
        self._keys = keys
        self._tokens = tokens
        self._signing = signing
        self._directory = directory
        self._offered = offered
        self.gets: dict[str, Handler] = {"keys": self.keys, "providers": self.providers}
        self.posts: dict[str, Handler] = {
            "login": self.login,
            "password": self.password,
            "mfa/verify": self.verify_mfa,
            "mfa/enrol": self.enrol,
            "mfa/confirm": self.confirm,
            "mfa/recoverycodes": self.recovery_codes,
            "mfa/disable": self.disable_mfa,
            "refresh": self.refresh,
            "logout": self.logout,
            "token": self.token,
            **more,
        }

    async def answer(self, request: Request) -> Response:
        """Return the answer to a request below the prefix. Raises ApiError."""
        path = request.scope["path"].removeprefix(PREFIX)
        Query.parse(request.scope["query_string"]).only(PROVIDERS if path == "providers" else NONE)
        handler = self.gets.get(path)
        if handler is not None:
            _demand_method(request, "GET", "HEAD")
            return await handler(request)
        handler = self.posts.get(path)
        if handler is None:
            raise NotFound(f"there is no route {request.scope['path'][:200]!r}; see /api/docs")
        _demand_method(request, "POST")
        return await handler(request)

    async def keys(self, request: Request) -> Response:
        """Return what access tokens are verified with."""
        return value_reply(self._signing.publish())

    async def providers(self, request: Request) -> Response:
        """Return the identity providers that say that everybody may know of them."""
        domain = Query.parse(request.scope["query_string"]).text("domain")
        return model_reply(ProvidersReply(items=self._offered.find(domain)))

    async def login(self, request: Request) -> Response:
        """Log in."""
        body = await read(request, LoginRequest)
        return reply_step(request, await self._login.login(body.user, body.password, client_of(request, body.device)))

    async def password(self, request: Request) -> Response:
        """Set the first password, or another one."""
        body = await read(request, PasswordRequest)
        client = client_of(request, body.device)
        if body.challenge:
            return reply_step(request, await self._login.set_password(body.challenge, body.new_password, client))
        access = await self._session(request)
        await self._login.change_password(access, body.password, body.new_password, client)
        return Response(status_code=204)

    async def verify_mfa(self, request: Request) -> Response:
        """Complete a login by a code."""
        body = await read(request, CodeRequest)
        return reply_step(
            request, await self._login.verify_mfa(body.challenge, body.code, client_of(request, body.device))
        )

    async def enrol(self, request: Request) -> Response:
        """Begin to enrol a second factor."""
        body = await read(request, ProofRequest)
        if body.challenge:
            return _enrolment(await self._login.begin_enrolment(body.challenge))
        access, client = await self._session(request), client_of(request, body.device)
        return _enrolment(await self._login.enrol(access, body.password, body.code, client))

    async def confirm(self, request: Request) -> Response:
        """Make the second factor count."""
        body = await read(request, CodeRequest)
        if body.challenge:
            client = client_of(request, body.device)
            return _enrolled(request, await self._login.confirm_enrolment(body.challenge, body.code, client))
        return _enrolled(request, await self._login.confirm(await self._session(request), body.code))

    async def recovery_codes(self, request: Request) -> Response:
        """Replace the recovery codes."""
        body = await read(request, ProofRequest)
        access, client = await self._session(request), client_of(request, body.device)
        codes = await self._login.renew_recovery_codes(access, body.password, body.code, client)
        return _enrolled(request, Enrolled(recovery_codes=codes))

    async def disable_mfa(self, request: Request) -> Response:
        """Remove the second factor."""
        body = await read(request, ProofRequest)
        access, client = await self._session(request), client_of(request, body.device)
        await self._login.disable_mfa(access, body.password, body.code, client)
        return Response(status_code=204)

    async def refresh(self, request: Request) -> Response:
        """Return new tokens."""
        body = await read(request, RefreshRequest)
        if body.refresh_token:
            return reply_step(request, await self._login.refresh(body.refresh_token, client_of(request)))
        try:
            tokens = await self._login.refresh(find_refresh_token(request), client_of(request))
        except Unauthorized as error:
            note_error(error)
            return forget(error_reply(error))
        return reply_tokens(request, tokens, came_by_cookie=True)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        body = await read(request, LogoutRequest)
        in_cookie = find_refresh_token(request)
        if body.refresh_token:
            await self._login.logout(body.refresh_token)
        elif in_cookie:
            with contextlib.suppress(Unauthorized):  # it ended before; the cookie goes all the same
                await self._login.logout(in_cookie)
        else:
            await self._login.logout_session(await self._session(request))
        done = Response(status_code=204)
        return forget(done) if in_cookie else done

    async def token(self, request: Request) -> Response:
        """Exchange an API key for an access token."""
        body = await read(request, KeyRequest)
        return reply_step(request, await self._keys.exchange(body.key_id, body.secret, client_of(request)))

    async def _session(self, request: Request) -> Access:
        """Return the session's access token that the request carries. Raises Unauthorized."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("log in first, or bring the challenge of a login")
        access = self._tokens.verify(token.strip())
        if not access.session or not await self._directory.has_session(access.session):
            raise Unauthorized(NOT_VALID)
        return access


def _demand_method(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(f"{request.scope['path']} knows {' and '.join(methods)} only")


def _enrolment(enrolment: Enrolment) -> Response:
    return model_reply(EnrolmentReply(secret=enrolment.secret, uri=enrolment.uri))


def _enrolled(request: Request, enrolled: Enrolled) -> Response:
    reply = EnrolledReply(recovery_codes=enrolled.recovery_codes)
    if enrolled.tokens is None:
        return model_reply(reply)
    return reply_tokens(request, enrolled.tokens, lambda tokens: reply.model_copy(update={"tokens": tokens}))
