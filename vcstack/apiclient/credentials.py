"""Who a connection speaks for when its token does not stay the same: a session, or an API key.

Access tokens last minutes, so both get another one in time, and once more when the server refuses one (it was
revoked, or a clock is wrong).

A session's refresh token is good once: whoever shows it again is taken for a thief, and the session ends. So a
session is kept in one place that all programs share, and renewed by one of them at a time.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import Field

from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.authmessages import TokensReply
from vcstack.apiclient.faults import BadCredential, LoggedOut
from vcstack.clock import Clock, SystemClock
from vcstack.specs.errors import Unauthorized, Unavailable
from vcstack.specs.meta import Time
from vcstack.specs.model import Model

RENEW_AFTER = 0.8
"""Of a token's life: early enough for a slow answer, and for a clock that goes wrong meanwhile."""
FINISH_SECONDS = 10.0
"""A renewal that has been sent is waited for, even by who was cancelled: its answer cannot be had again."""


class HeldTokens(Model):
    """What a session goes on with. Times are those of this machine's clock."""

    access_token: str
    """For the header Authorization: Bearer."""
    renew_at: Time
    """From then on another one is asked for."""
    expires_at: Time
    """From then on it is good for nothing."""
    refresh_token: str = ""
    """Good once, for the next tokens."""
    session: str = ""
    """The session's name."""
    session_expires_at: Time | None = None
    """When to log in again at the latest."""


class HeldSession(Model):
    """Somebody's session at one API, as it is kept between programs."""

    api_url: str
    """Nobody else is ever shown the tokens."""
    user: str
    """Who is, or was, logged in."""
    tokens: HeldTokens | None = None
    """None: the session has ended, and nobody else is to be taken for the user instead."""
    logged_out: bool = False
    """Whether the user ended it, so that what else the context says counts again."""
    devices: dict[str, str] = Field(default_factory=dict)
    """By user, the token that tells this device at the next login; it lets nobody in."""


class SessionPlace(Protocol):
    """Where a session is kept."""

    def read(self) -> HeldSession | None:
        """Return what is kept; None: nobody ever logged in."""

    def write(self, session: HeldSession) -> None:
        """Keep it instead, whole or not at all."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep everybody else who would renew or write waiting."""


class SessionInMemory:
    """A session of this process alone."""

    def __init__(self, session: HeldSession | None = None) -> None:
        self._session = session
        self._lock = asyncio.Lock()

    def read(self) -> HeldSession | None:
        """Return what is kept."""
        return self._session

    def write(self, session: HeldSession) -> None:
        """Keep it instead."""
        self._session = session

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep the other tasks waiting."""
        return self._lock


def hold(reply: TokensReply, now: datetime) -> HeldTokens:
    """Return what to keep of tokens that have just come."""
    return HeldTokens(
        access_token=reply.access_token,
        renew_at=now + RENEW_AFTER * (reply.expires_at - now),
        expires_at=reply.expires_at,
        refresh_token=reply.refresh_token or "",
        session=reply.session or "",
        session_expires_at=reply.session_expires_at,
    )


class SessionCredentials:
    """The access token of a session, renewed by its refresh token."""

    def __init__(self, place: SessionPlace, auth: AuthClient, *, api_url: str, clock: Clock | None = None) -> None:
        self._place = place
        self._auth = auth
        self._api_url = api_url
        self._clock = clock or SystemClock()
        self._held: HeldTokens | None = None

    async def token(self, *, refused: str = "") -> str:
        """Return an access token, another one than that which was refused.

        Raises:
            LoggedOut: the session has ended.
            Unavailable: it cannot be renewed now.
        """
        found = self._usable(self._held, refused) or self._usable(self._read(), refused)
        if found is None:
            found = await self._take_turn(refused)
        self._held = found
        return found.access_token

    async def aclose(self) -> None:
        """Close the connection that tokens come from."""
        await self._auth.connection.aclose()

    def _read(self) -> HeldTokens:
        session = self._place.read()
        if session is None or session.api_url != self._api_url or session.logged_out:
            raise LoggedOut(f"nobody is logged in to {self._api_url}")
        if session.tokens is None:
            raise LoggedOut(f"the session of {session.user} at {self._api_url} has ended")
        return session.tokens

    def _usable(self, held: HeldTokens | None, refused: str) -> HeldTokens | None:
        good = held is not None and held.access_token != refused and self._clock.now() < held.renew_at
        return held if good else None

    async def _take_turn(self, refused: str) -> HeldTokens:
        """Return tokens that somebody else has renewed meanwhile, or renew them."""
        async with self._place.locked():
            held = self._read()
            if self._usable(held, refused):
                return held
            renewing = asyncio.create_task(self._renew(held))
            try:
                return await asyncio.shield(renewing)
            except asyncio.CancelledError:
                done, _ = await asyncio.wait([renewing], timeout=FINISH_SECONDS)
                _ = [task.exception() for task in done]  # seen, though nobody waits for it any more
                raise
            except Unavailable:
                if held.access_token != refused and self._clock.now() < held.expires_at:
                    return held
                raise

    async def _renew(self, held: HeldTokens) -> HeldTokens:
        session = self._place.read()
        if session is None or not held.refresh_token:
            raise LoggedOut(f"nobody is logged in to {self._api_url}")
        try:
            reply = await self._auth.refresh(held.refresh_token)
        except Unauthorized as error:
            self._place.write(session.model_copy(update={"tokens": None}))
            raise LoggedOut(f"the session of {session.user} at {self._api_url} has ended") from error
        fresh = hold(reply, self._clock.now())
        self._place.write(session.model_copy(update={"tokens": fresh}))
        return fresh


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, as it was shown once."""

    key_id: str
    secret: str

    @classmethod
    def parse(cls, text: str, *, source: str) -> "ApiKey":
        """Return the key of ``KEYID:SECRET``. Raises BadCredential, which shows nothing of it."""
        key_id, colon, secret = text.strip().partition(":")
        if not colon or not key_id or not secret or any(c.isspace() for c in key_id + secret):
            raise BadCredential(f"{source} holds no API key: it is written KEYID:SECRET")
        return cls(key_id, secret)

    @classmethod
    def read(cls, path: Path) -> "ApiKey":
        """Return the key in a file. Raises BadCredential, OSError."""
        return cls.parse(path.read_text(), source=str(path))

    def __str__(self) -> str:
        return f"{self.key_id}:{self.secret}"


class KeyCredentials:
    """Access tokens for an API key, in memory only."""

    def __init__(self, key: ApiKey, auth: AuthClient, *, clock: Clock | None = None) -> None:
        self._key = key
        self._auth = auth
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._held: HeldTokens | None = None

    async def token(self, *, refused: str = "") -> str:
        """Return an access token, another one than that which was refused. Raises Unauthorized, Forbidden."""
        async with self._lock:
            held, now = self._held, self._clock.now()
            if held is None or held.access_token == refused or now >= held.renew_at:
                held = await self._exchange(held, refused)
            self._held = held
            return held.access_token

    async def aclose(self) -> None:
        """Close the connection that tokens come from."""
        await self._auth.connection.aclose()

    async def _exchange(self, held: HeldTokens | None, refused: str) -> HeldTokens:
        try:
            reply = await self._auth.exchange(self._key.key_id, self._key.secret)
        except Unavailable:
            if held is not None and held.access_token != refused and self._clock.now() < held.expires_at:
                return held
            raise
        return hold(reply, self._clock.now())
