"""User: a person who may log in."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.claims import Claim
from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Name, RefersTo, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/credentials"
"""Credentials, sessions, API keys, grants and memberships go before the user does."""

Email = Annotated[str, StringConstraints(pattern=r"^([!-?A-~]{1,64}@[A-Za-z0-9.-]{1,189})?$")]
"""An address in ASCII; what it is worth only a mail to it can say."""
ExternalId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]


class UserSpec(Spec):
    """Who the user is. The object's name is the name to log in with; passwords and devices are kept elsewhere."""

    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain whose administrators look after the user; default the top of the tree."""
    display_name: Text = ""
    """A name for people."""
    email: Email = ""
    """Where the user is written to."""
    enabled: bool = True
    """false: no login, and what is logged in ends within seconds."""
    mfa_required: bool = False
    """Whether a second factor is demanded even when none is enrolled yet."""
    identity_provider: Annotated[Name | None, RefersTo("IdentityProvider"), Takes(Change.IMMUTABLE)] = None
    """Who knows the user's password; default this cloud."""
    external_id: Annotated[ExternalId | None, Takes(Change.IMMUTABLE)] = None
    """How the identity provider calls the user: OpenID Connect's sub, the idAttribute of LDAP."""


class UserStatus(Status):
    """What was observed of the user."""

    password_set_at: Time | None = None
    """When the password was last set."""
    mfa_enrolled: bool | None = None
    """Whether a second factor is enrolled."""
    last_login_at: Time | None = None
    """When the user last logged in."""
    external_groups: list[Text] = Field(default_factory=list)
    """The groups that the identity provider said last, of those that its groupMapping names. They count in sessions
    only, each as of its own login or last refresh."""
    external_groups_seen_at: Time | None = None
    """When it said so, or said it again: written once an hour at most while it stays the same."""


class User(Resource[UserSpec, UserStatus]):
    """A person who may log in."""

    KIND = "User"
    spec: UserSpec = Field(default_factory=UserSpec)
    status: UserStatus = Field(default_factory=UserStatus)


def _check(new: User, old: User | None, referenced: Referenced) -> Sequence[Cause]:
    """An identity provider and the name there come together."""
    if (new.spec.identity_provider is None) == (new.spec.external_id is None):
        return ()
    field = "spec.externalId" if new.spec.external_id is None else "spec.identityProvider"
    message = "identityProvider and externalId are given together or not at all"
    return (Cause(field=field, reason="FieldValueRequired", message=message),)


def _claims(user: User) -> Sequence[Claim]:
    """Claim the name at the identity provider: it stands for one user."""
    if user.spec.identity_provider is None or user.spec.external_id is None:
        return ()
    key = hashlib.sha256(user.spec.external_id.encode()).hexdigest()
    return (Claim(pool=f"identities/{user.spec.identity_provider}", key=key, field="spec.externalId"),)


def _must_exist(user: User) -> Sequence[Reference]:
    provider = user.spec.identity_provider
    known = (Reference("spec.identityProvider", Ref("IdentityProvider", None, provider)),) if provider else ()
    return (*in_domain(user.spec.domain), *known)


register(
    KindDefinition(
        model=User,
        plural="users",
        uid_prefix="usr",
        scope=Scope.GLOBAL,
        columns=(
            Column("DOMAIN", "spec.domain"),
            Column("DISPLAY_NAME", "spec.displayName"),
            Column("ENABLED", "spec.enabled", default="true"),
            Column("MFA", "status.mfaEnrolled"),
            Column("LAST_LOGIN", "status.lastLoginAt", format="age"),
            Column("EMAIL", "spec.email", wide=True),
            Column("PROVIDER", "spec.identityProvider", wide=True),
        ),
        view=(
            ViewColumn("domain", "spec.domain"),
            ViewColumn("display_name", "spec.displayName"),
            ViewColumn("email", "spec.email"),
            ViewColumn("enabled", "spec.enabled", "boolean"),
            ViewColumn("identity_provider", "spec.identityProvider"),
            ViewColumn("mfa_enrolled", "status.mfaEnrolled", "boolean"),
            ViewColumn("last_login_at", "status.lastLoginAt", "timestamptz"),
        ),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        claims=_claims,
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.domain",
        apply_order=4,
        category="identity",
        example={
            "metadata": {"name": "alice"},
            "spec": {"domain": "acme", "email": "alice@example.com"},
            "status": {
                "passwordSetAt": "2026-11-23T09:00:00Z",
                "mfaEnrolled": True,
                "lastLoginAt": "2026-11-23T09:00:00Z",
            },
        },
    )
)
