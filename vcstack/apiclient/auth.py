"""The typed client of ``/api/v1/auth/...``: logging in, and everything about it that a user does.

Times in what it returns are the caller's: those of the server, moved by how far the two clocks are apart.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
import orjson

from vcstack.apiclient.authmessages import (
    ChallengeReply,
    CodeRequest,
    EnrolledReply,
    EnrolmentReply,
    InitialSecretReply,
    KeyRequest,
    KeySecretReply,
    LoginRequest,
    LogoutRequest,
    PasswordRequest,
    ProofRequest,
    RefreshRequest,
    TokensReply,
)
from vcstack.apiclient.connection import AUTH_ROOT, Connection
from vcstack.apiclient.ldapmessages import LdapLoginRequest
from vcstack.apiclient.oidcmessages import (
    OidcBeginReply,
    OidcBeginRequest,
    OidcCompleteRequest,
    OidcDeviceReply,
    OidcDeviceRequest,
    OidcPendingReply,
    OidcPollRequest,
)
from vcstack.apiclient.paths import object_path
from vcstack.clock import Clock, SystemClock
from vcstack.specs.kinds.apikey import APIKey
from vcstack.specs.kinds.user import User
from vcstack.specs.model import Model
from vcstack.specs.registry import get_kind

M = TypeVar("M", bound=Model)
Step = TokensReply | ChallengeReply
"""What a login leads to: tokens, or what is left to do."""
NEGLIGIBLE = timedelta(seconds=2)
"""The server tells its time in whole seconds."""


class AuthClient:
    """Logs in and out over a connection that needs to be nobody's, but where a session is said to be needed.

    All methods raise ``vcstack.specs.errors``: Unauthorized for what is not good, TooManyRequests after too many
    failures.
    """

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self.connection = connection
        self._clock = clock or SystemClock()

    async def login(self, user: str, password: str, *, device: str = "") -> Step:
        """Return tokens, or the challenge to answer next.

        Args:
            user: the user's name.
            password: the password, or the one-time secret.
            device: the deviceToken of an earlier login, which lets nobody in but keeps others from slowing it down.
        """
        return self._step(await self._post("login", LoginRequest(user=user, password=password, device=device)))

    async def set_password(self, challenge: str, new_password: str, *, device: str = "") -> Step:
        """Set the first password and go on with the login. Raises Invalid when it is not good enough."""
        body = PasswordRequest(challenge=challenge, new_password=new_password, device=device)
        return self._step(await self._post("password", body))

    async def verify_mfa(self, challenge: str, code: str, *, device: str = "") -> TokensReply:
        """Complete a login by a code of the authenticator or a recovery code."""
        answer = await self._post("mfa/verify", CodeRequest(challenge=challenge, code=code, device=device))
        return self._tokens(TokensReply.from_wire(answer.content), answer)

    async def begin_enrolment(self, challenge: str) -> EnrolmentReply:
        """Return the secret of a second factor that the login demands."""
        return EnrolmentReply.from_wire((await self._post("mfa/enrol", ProofRequest(challenge=challenge))).content)

    async def confirm_enrolment(self, challenge: str, code: str, *, device: str = "") -> EnrolledReply:
        """Complete a login by the first code of a new second factor; with recovery codes, shown once."""
        answer = await self._post("mfa/confirm", CodeRequest(challenge=challenge, code=code, device=device))
        reply = EnrolledReply.from_wire(answer.content)
        tokens = self._tokens(reply.tokens, answer) if reply.tokens else None
        return reply.model_copy(update={"tokens": tokens})

    async def refresh(self, refresh_token: str) -> TokensReply:
        """Return new tokens. The one given is used up: shown again it gives the same for half a minute, and ends the
        session after that.
        """
        answer = await self._post("refresh", RefreshRequest(refresh_token=refresh_token))
        return self._tokens(TokensReply.from_wire(answer.content), answer)

    async def logout(self, refresh_token: str = "") -> None:
        """End the session of the refresh token, without one that of the connection."""
        await self._post("logout", LogoutRequest(refresh_token=refresh_token))

    async def exchange(self, key_id: str, secret: str) -> TokensReply:
        """Return an access token for an API key. Raises Forbidden where it may not be used from here."""
        answer = await self._post("token", KeyRequest(key_id=key_id, secret=secret))
        return self._tokens(TokensReply.from_wire(answer.content), answer)

    # At an identity provider.

    async def begin_oidc(self, provider: str, redirect_uri: str) -> OidcBeginReply:
        """Return where a browser goes to log in at an identity provider. Raises NotFound, Invalid."""
        answer = await self._post("oidc/begin", OidcBeginRequest(provider=provider, redirect_uri=redirect_uri))
        reply = OidcBeginReply.from_wire(answer.content)
        return reply.model_copy(update={"expires_at": reply.expires_at + self._apart(answer)})

    async def complete_oidc(self, challenge: str, code: str, state: str, *, issuer: str = "") -> Step:
        """Complete a login by what the browser brought back; return as ``login``.

        Raises Forbidden where the user is not let in.
        """
        body = OidcCompleteRequest(challenge=challenge, code=code, state=state, issuer=issuer)
        return self._step(await self._post("oidc/complete", body))

    async def begin_device(self, provider: str) -> OidcDeviceReply:
        """Return what the user does on another device. Raises NotFound, Invalid where there is none."""
        answer = await self._post("oidc/device", OidcDeviceRequest(provider=provider))
        reply = OidcDeviceReply.from_wire(answer.content)
        return reply.model_copy(update={"expires_at": reply.expires_at + self._apart(answer)})

    async def poll_device(self, challenge: str) -> Step | OidcPendingReply:
        """Return as ``login`` when the user is done there. Raises Forbidden where the user is not let in."""
        answer = await self._post("oidc/poll", OidcPollRequest(challenge=challenge))
        wire: Mapping[str, Any] = orjson.loads(answer.content)
        if "pending" in wire:
            return OidcPendingReply.from_wire(wire)
        return self._step(answer)

    async def login_by_directory(self, provider: str, user: str, password: str) -> Step:
        """Return tokens for a user of a directory, or the challenge to answer next.

        Raises NotFound, Invalid, Forbidden where the user is not let in.
        """
        body = LdapLoginRequest(provider=provider, user=user, password=password)
        return self._step(await self._post("ldap/login", body))

    # What needs a session's connection.

    async def change_password(self, password: str, new_password: str, *, device: str = "") -> None:
        """Set another password; the user's other sessions end. Needs a session. Raises Invalid."""
        await self._post("password", PasswordRequest(password=password, new_password=new_password, device=device))

    async def enrol(self, password: str, code: str = "", *, device: str = "") -> EnrolmentReply:
        """Return a new second factor's secret; ``code`` where one is enrolled already. Needs a session.

        Who logged in at an identity provider has no password to give, but has to have done so within ten minutes.
        """
        answer = await self._post("mfa/enrol", ProofRequest(password=password, code=code, device=device))
        return EnrolmentReply.from_wire(answer.content)

    async def confirm(self, code: str) -> list[str]:
        """Make the new second factor count and return its recovery codes, shown once. Needs a session."""
        return EnrolledReply.from_wire((await self._post("mfa/confirm", CodeRequest(code=code))).content).recovery_codes

    async def renew_recovery_codes(self, password: str, code: str, *, device: str = "") -> list[str]:
        """Return new recovery codes; the old ones are good no more. Needs a session."""
        answer = await self._post("mfa/recoverycodes", ProofRequest(password=password, code=code, device=device))
        return EnrolledReply.from_wire(answer.content).recovery_codes

    async def disable_mfa(self, password: str, code: str, *, device: str = "") -> None:
        """Log in without a second factor from now on. Needs a session. Raises Forbidden where one is demanded."""
        await self._post("mfa/disable", ProofRequest(password=password, code=code, device=device))

    # What is done for others.

    async def issue_initial_secret(self, user: str) -> InitialSecretReply:
        """Return a one-time secret for the user, shown once; password and sessions end."""
        path = object_path(get_kind(User.KIND), None, user, "initialsecret")
        return InitialSecretReply.from_wire((await self.connection.request("POST", path)).content)

    async def reset_mfa(self, user: str) -> None:
        """Forget the second factor of a user who lost it; the user's sessions end."""
        await self.connection.request("DELETE", object_path(get_kind(User.KIND), None, user, "mfa"))

    async def issue_key_secret(self, name: str, *, project: str | None = None) -> KeySecretReply:
        """Return a new secret of an API key, shown once; the one before it stays good for the key's overlap."""
        path = object_path(get_kind(APIKey.KIND), project, name, "secret")
        return KeySecretReply.from_wire((await self.connection.request("POST", path)).content)

    async def _post(self, name: str, body: Model) -> httpx2.Response:
        return await self.connection.request("POST", AUTH_ROOT + name, content=body.to_json())

    def _step(self, answer: httpx2.Response) -> Step:
        wire: Mapping[str, Any] = orjson.loads(answer.content)
        if "challenge" not in wire:
            return self._tokens(TokensReply.from_wire(wire), answer)
        reply = ChallengeReply.from_wire(wire)
        return reply.model_copy(update={"expires_at": reply.expires_at + self._apart(answer)})

    def _tokens(self, reply: TokensReply, answer: httpx2.Response) -> TokensReply:
        apart = self._apart(answer)
        session_ends = reply.session_expires_at + apart if reply.session_expires_at else None
        return reply.model_copy(update={"expires_at": reply.expires_at + apart, "session_expires_at": session_ends})

    def _apart(self, answer: httpx2.Response) -> timedelta:
        """Return how far our clock is ahead of the server's; nothing when it does not tell its time."""
        try:
            theirs: datetime = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            return timedelta()
        apart = self._clock.now() - theirs.astimezone(UTC)
        return apart if abs(apart) > NEGLIGIBLE else timedelta()
