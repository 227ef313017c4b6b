"""IdentityProvider: a directory outside that knows users, by OpenID Connect."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.model import Change, Model, Name, RefersTo, Sensitive, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"

HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$", max_length=1024)]
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]


class ProviderType(StrEnum):
    """The protocol it speaks."""

    OIDC = "OIDC"


class OIDCProvider(Model):
    """An OpenID Connect provider."""

    issuer_url: Annotated[HttpsUrl, Takes(Change.IMMUTABLE)]
    """Where its discovery document is, less /.well-known/openid-configuration. Another issuer is another provider:
    its users are others, whatever they are called there."""
    client_id: Word
    """How it knows this cloud."""
    client_secret: Annotated[str | None, Field(min_length=1, max_length=4096), Sensitive()] = None
    """The secret that goes with it; default none, for a public client."""
    scopes: Annotated[list[Word], Field(max_length=16)] = Field(default_factory=lambda: ["profile", "email"])
    """What is asked for besides openid, e.g. groups where the provider has such a scope."""
    username_claim: Word = "preferred_username"
    """The claim that a new user's name is made of."""
    groups_claim: Word = "groups"
    """The claim that lists the user's groups there."""


class NewUsers(StrEnum):
    """What happens to somebody who logs in for the first time."""

    CREATE = "Create"
    REFUSE = "Refuse"


class GroupMapping(Model):
    """A group there that stands for a group here."""

    external: Annotated[Text, Field(min_length=1)]
    """The group's name there: a value of the claim, or an entry's name."""
    group: Annotated[Name, RefersTo("Group")]
    """The group here."""


class IdentityProviderSpec(Spec):
    """Where the directory is."""

    type: Annotated[ProviderType, Takes(Change.IMMUTABLE)]
    """OIDC: OpenID Connect."""
    display_name: Text = ""
    """What people choose at login."""
    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain that its users get into; default the top of the tree."""
    oidc: OIDCProvider | None = None
    """Of type OIDC."""
    new_users: NewUsers = NewUsers.CREATE
    """Who logs in for the first time: Create a User named after this provider and the user there, or Refuse all for
    whom nobody has made a User with this identityProvider and the externalId."""
    group_mapping: Annotated[list[GroupMapping], Field(max_length=256)] = Field(default_factory=list)
    """Which groups there give membership here, settled at each login. A group that is not listed gives nothing."""


class IdentityProviderStatus(Status):
    """What was observed of the provider."""


class IdentityProvider(Resource[IdentityProviderSpec, IdentityProviderStatus]):
    """A directory outside that knows users, by OpenID Connect."""

    KIND = "IdentityProvider"
    status: IdentityProviderStatus = Field(default_factory=IdentityProviderStatus)


def _check(new: IdentityProvider, old: IdentityProvider | None, referenced: Referenced) -> Sequence[Cause]:
    """The section of its type is given."""
    if new.spec.oidc is not None:
        return ()
    return (Cause(field="spec.oidc", reason="FieldValueRequired", message="is required for type OIDC"),)


register(
    KindDefinition(
        model=IdentityProvider,
        plural="identityproviders",
        uid_prefix="idp",
        scope=Scope.GLOBAL,
        short_names=("idp",),
        columns=(
            Column("TYPE", "spec.type"),
            Column("DISPLAY_NAME", "spec.displayName"),
            Column("DOMAIN", "spec.domain"),
        ),
        view=(ViewColumn("type", "spec.type"), ViewColumn("domain", "spec.domain")),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=lambda provider: in_domain(provider.spec.domain),
        domain_path="spec.domain",
        apply_order=5,
        category="identity",
    )
)
