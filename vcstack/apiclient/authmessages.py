"""What is said about logging in, as it is on the wire: requests to ``/api/v1/auth/...`` and their answers."""

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from vcstack.specs.kinds.identityprovider import ProviderType
from vcstack.specs.meta import Time
from vcstack.specs.model import Model, Name

Short = Annotated[str, StringConstraints(max_length=512)]
Secret = Annotated[str, StringConstraints(max_length=4096)]
"""Longer than any good one; what is wrong with it is said by who knows."""


class ChallengeKind(StrEnum):
    """What is left to do before a login is complete."""

    VERIFY_MFA = "VerifyMFA"
    ENROL_MFA = "EnrolMFA"
    SET_PASSWORD = "SetPassword"  # noqa: S105 (a word, no password)


class LoginRequest(Model):
    """Who logs in."""

    user: Secret
    """The user's name."""
    password: Secret
    """The password, or the one-time secret."""
    device: Short = ""
    """The deviceToken of an earlier login."""


class PasswordRequest(Model):
    """A new password."""

    challenge: Short = ""
    """Of a login with a one-time secret; absent when logged in."""
    password: Secret = ""
    """The present one, when logged in."""
    new_password: Secret
    """The new one."""
    device: Short = ""
    """The deviceToken of an earlier login."""


class CodeRequest(Model):
    """A code, and for whom."""

    challenge: Short = ""
    """Of a login that is not complete; absent when logged in."""
    code: Short
    """Of the authenticator, or a recovery code."""
    device: Short = ""
    """The deviceToken of an earlier login."""


class ProofRequest(Model):
    """A proof that it still is the user."""

    challenge: Short = ""
    """Of a login that is not complete; absent when logged in."""
    password: Secret = ""
    """The password, when logged in."""
    code: Short = ""
    """A code, when logged in and a second factor is enrolled."""
    device: Short = ""
    """The deviceToken of an earlier login."""


class RefreshRequest(Model):
    """A refresh token."""

    refresh_token: Short = ""
    """It is used up. Absent: the one in the cookie."""


class LogoutRequest(Model):
    """Which session ends."""

    refresh_token: Short = ""
    """That of this token; absent: that of the cookie, else that of the access token."""


class KeyRequest(Model):
    """An API key."""

    key_id: Short
    """Its id."""
    secret: Short
    """Its secret."""


class OfferedProvider(Model):
    """An identity provider that everybody may know of."""

    name: Name
    """The IdentityProvider."""
    display_name: str = ""
    """What people choose; empty: its name."""
    type: ProviderType
    """OIDC: log in there with a browser; LDAP: with the password that the directory knows."""


class ProvidersReply(Model):
    """What the page for logging in offers besides a password."""

    items: list[OfferedProvider]
    """By name."""


class TokensReply(Model):
    """What the caller goes on with."""

    access_token: str
    """For the header Authorization: Bearer."""
    token_type: str = "Bearer"  # noqa: S105
    """Always Bearer."""
    expires_at: Time
    """When the access token expires."""
    refresh_token: str | None = None
    """Good once, for the next tokens. Absent when it is in the cookie."""
    session: str | None = None
    """The session's name."""
    session_expires_at: Time | None = None
    """When to log in again at the latest."""
    device_token: str | None = None
    """To be kept and shown at the next login; it lets nobody in."""


class ChallengeReply(Model):
    """What is left to do before the login is complete."""

    kind: ChallengeKind
    """VerifyMFA, EnrolMFA or SetPassword."""
    challenge: str
    """To be shown with the next step."""
    expires_at: Time
    """Until when."""


class EnrolmentReply(Model):
    """A second factor's secret, shown once."""

    secret: str
    """To be typed into an authenticator."""
    uri: str
    """The same as an otpauth:// address, for a QR code."""


class EnrolledReply(Model):
    """The second factor counts."""

    recovery_codes: list[str]
    """Each replaces the second factor once. Shown once."""
    tokens: TokensReply | None = None
    """When this completed a login."""


class InitialSecretReply(Model):
    """A one-time secret, shown once."""

    secret: str
    """To be handed to the user, who logs in with it and sets a password."""
    expires_at: Time
    """Until when."""


class KeySecretReply(Model):
    """An API key's secret, shown once."""

    key_id: str
    """How the key is called when it is used."""
    secret: str
    """Its secret."""
    created_at: Time
    """When it was made."""
    previous_until: Time | None = None
    """Until when the secret before it is good."""
    expires_at: Time | None = None
    """When it ends, because whoever asked for it has the right to it for that long only; absent: with the key."""
