"""What is kept of identities in the credentials store, and where.

    users/{uid}/password        PasswordRecord
    users/{uid}/mfa             MfaRecord
    challenges/{id}             ChallengeRecord     vanishes by itself
    sessions/{id}               SessionRecord       vanishes by itself
    apikeys/{uid}               KeyRecord
    signing/access              SigningRecord

Random secrets of 112 bits and more are kept as their SHA-256 (ASVS 5.0 V6.5.2 allows that), passwords as
Argon2id.
"""

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final

from pydantic import Field

from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.specs.meta import Time
from vcstack.specs.model import Model

SECRET_BYTES: Final = 32


class InitialSecret(Model):
    """A one-time secret that allows to set a password."""

    digest: str
    """Its SHA-256."""
    expires_at: Time
    """When it runs out."""


class PasswordRecord(Model):
    """How a user logs in."""

    password: str | None = None
    """Argon2's text; None: none has been set."""
    set_at: Time | None = None
    """When."""
    initial: InitialSecret | None = None
    """Until it is used up or replaced."""
    device_key: str
    """Marks the devices that have logged in; a new one makes them unknown again."""


class MfaRecord(Model):
    """A user's second factor."""

    secret: str | None = None
    """TOTP's, base32; None: not enrolled."""
    pending: str | None = None
    """A secret that waits for its first code."""
    last_step: int = 0
    """The last time step whose code was accepted; it and older ones are refused."""
    recovery: list[str] = Field(default_factory=list)
    """SHA-256 of the recovery codes that are left."""
    failures: int = 0
    """Wrong codes since the last right one, over all sources."""
    refused_until: Time | None = None
    """Devices that are not known have to wait until then."""


class VoucherRecord(Model):
    """Who vouched for the user of a session, and how to ask again."""

    provider: str
    """The IdentityProvider's name."""
    provider_uid: str
    """Its uid: another one of the same name is not asked."""
    external_id: str
    """What the provider calls the user."""
    user_name: str = ""
    """What the user typed there (LDAP)."""
    refresh_token: str = ""
    """The provider's own (OpenID Connect); empty: it cannot be asked again."""

    @property
    def can_be_asked(self) -> bool:
        """Return whether the provider can say later what has become of the user."""
        return bool(self.user_name or self.refresh_token)


class ChallengeRecord(Model):
    """A login that is not complete."""

    kind: ChallengeKind
    """What is left."""
    digest: str
    """SHA-256 of the challenge's secret half."""
    user: str
    """The user's name."""
    uid: str
    """The user's uid."""
    methods: list[str]
    """What has been proven so far, as RFC 8176 calls it."""
    stamp: str
    """Of the user's password when it was begun; with another password it is good no more."""
    initial: str = ""
    """The digest of the one-time secret that was shown."""
    attempts: int = 0
    """Codes tried."""
    voucher: VoucherRecord | None = None
    """When an identity provider has vouched for the user."""
    groups: list[str] = Field(default_factory=list)
    """The groups there that mean something here, as it said then."""
    expires_at: Time
    """When it runs out."""


class RotationRecord(Model):
    """The last time that a refresh token was used up."""

    digest: str
    """SHA-256 of the one that was."""
    salt: str
    """What its successor was made with, besides the token itself."""
    client: str
    """Who showed it, as a digest."""
    at: Time
    """When. For a moment the same client gets the same successor again."""


class SessionRecord(Model):
    """The refresh tokens of a session."""

    user: str
    """The user's name."""
    uid: str
    """The user's uid."""
    methods: list[str]
    """How the user logged in, as RFC 8176 calls it."""
    mac_key: str
    """Proves that an old refresh token was one of ours."""
    generation: int
    """How often it was refreshed."""
    digest: str
    """SHA-256 of the only refresh token that is good."""
    created_at: Time
    """When the user logged in."""
    expires_at: Time
    """When it ends, however much it is used."""
    idle_at: Time
    """When it ends unless it is refreshed."""
    voucher: VoucherRecord | None = None
    """Of a session that began at an identity provider."""
    rotation: RotationRecord | None = None
    """Of a session that was refreshed."""


class KeySecret(Model):
    """One secret of an API key."""

    digest: str
    """Its SHA-256."""
    created_at: Time
    """When it was made."""
    until: Time | None = None
    """When it ends because a newer one was made."""
    expires_at: Time | None = None
    """When it ends because the right to make it does."""

    @property
    def ends_at(self) -> datetime | None:
        """Return when it ends."""
        return min((end for end in (self.until, self.expires_at) if end is not None), default=None)


class KeyRecord(Model):
    """The secrets of an API key, the newest first."""

    project: str | None = None
    """The APIKey object's project."""
    name: str
    """Its name."""
    secrets: list[KeySecret]
    """At most two."""


class SigningKey(Model):
    """One key that signs access tokens."""

    kid: str
    """Its name: the RFC 7638 thumbprint."""
    private: dict[str, str]
    """The key as a JWK."""
    signs_from: Time
    """Until then it is only published."""
    verifies_until: Time | None = None
    """When its last tokens have expired; None: no newer key has been made."""


class SigningRecord(Model):
    """All keys, the newest last."""

    keys: list[SigningKey]
    """Those that sign, will sign, or signed tokens that may still be good."""


def new_secret(size: int = SECRET_BYTES) -> str:
    """Return a random secret, base64url."""
    return secrets.token_urlsafe(size)


def digest_of(secret: str) -> str:
    """Return the SHA-256 of a random secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def equal(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
