"""IdentityProvider: a directory outside that knows users: by OpenID Connect or by LDAP."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.kinds.secret import Key
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Model, Name, RefersTo, Sensitive, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"
ANSWERING = "Answering"
"""True when it was asked lately what logins ask first, and answered as it should."""

HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$", max_length=1024)]
LdapUrl = Annotated[str, StringConstraints(pattern=r"^ldaps?://[A-Za-z0-9.\[\]:-]+/?$", max_length=1024)]
Attribute = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
"""The name of an LDAP attribute (RFC 4512, 1.4)."""
Filter = Annotated[str, StringConstraints(pattern=r"^\([ -~]{1,1000}\)$")]
"""An LDAP filter (RFC 4515) with a placeholder."""
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]


class ProviderType(StrEnum):
    """The protocol it speaks."""

    OIDC = "OIDC"
    LDAP = "LDAP"


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
    """What is asked for besides openid, e.g. groups where the provider has such a scope. With offline_access the
    provider is asked again at each refresh: groups are those of now, and who was removed there is out here."""
    mfa_acr_values: Annotated[list[Word], Field(max_length=8)] = Field(default_factory=list)
    """Values of the claim acr that mean that a second factor was asked for; they are wished for at each login with a
    browser (acr_values). The value mfa in the claim amr (RFC 8176) means so everywhere."""
    username_claim: Word = "preferred_username"
    """The claim that a new user's name is made of."""
    groups_claim: Word = "groups"
    """The claim that lists the user's groups there."""


class LDAPEncryption(StrEnum):
    """Whether what is said to the directory can be read on the way."""

    TLS = "TLS"
    NONE = "None"


class LDAPSecret(Model):
    """A value of a Secret."""

    project: Name
    """The project that the Secret is in."""
    name: Name
    """The Secret."""
    key: Key = "password"
    """Which of its values."""


class LDAPProvider(Model):
    """An LDAP directory (RFC 4511)."""

    url: Annotated[LdapUrl, Takes(Change.IMMUTABLE)]
    """ldaps://HOST[:636], or ldap://HOST[:389], which is switched to TLS (StartTLS). Another directory is another
    provider: its users are others."""
    encryption: LDAPEncryption = LDAPEncryption.TLS
    """None sends passwords as they are: for a lab, and only where whoever runs the cloud has allowed it in
    outbound.allowed."""
    ca_certificates: Annotated[str | None, Field(max_length=64 * 1024)] = None
    """The CAs that the directory's certificate is checked against, PEM; default those that the cloud trusts."""
    bind_dn: Text | None = None
    """As which entry users are looked for; default nobody (anonymous)."""
    bind_password: LDAPSecret | None = None
    """The password of bindDN. Whoever writes this has to be allowed to read that value."""
    user_base_dn: Annotated[Text, Field(min_length=1)]
    """Below which entry users are."""
    user_filter: Filter = "(uid={user})"
    """Which entry is meant by what was typed, {user}; further conditions keep others out. For Active Directory
    (&(objectClass=user)(sAMAccountName={user}))."""
    id_attribute: Annotated[Attribute, Takes(Change.IMMUTABLE)] = "entryUUID"
    """What tells entries apart for ever: becomes a user's externalId. objectGUID for Active Directory. Nobody there
    may be able to change it."""
    username_attribute: Attribute = "uid"
    """What a new user's name is made of."""
    display_name_attribute: Attribute = "cn"
    """A name for people."""
    email_attribute: Attribute = "mail"
    """Where a user is written to."""
    group_base_dn: Annotated[Text | None, Field(min_length=1)] = None
    """Below which entry groups are; default none: no groups are looked for."""
    group_filter: Filter = "(member={dn})"
    """Which groups somebody is in: {dn} is the user's or, for nested groups, the group's entry; {user} what
    usernameAttribute says."""
    group_name_attribute: Attribute = "cn"
    """What groupMapping's external names; dn for the whole name of the entry."""
    nested_group_levels: Annotated[int, Field(ge=0, le=8)] = 0
    """How many levels of groups in groups are followed; default 0: only those that list the user."""


class NewUsers(StrEnum):
    """What happens to somebody who logs in for the first time."""

    CREATE = "Create"
    REFUSE = "Refuse"


class SecondFactor(StrEnum):
    """Whose second factor counts."""

    EITHER = "Either"
    OURS = "Ours"
    THEIRS = "Theirs"


class GroupMapping(Model):
    """A group there that stands for a group here."""

    external: Annotated[Text, Field(min_length=1)]
    """The group's name there: a value of the claim, or an entry's name."""
    group: Annotated[Name, RefersTo("Group")]
    """The group here."""


class IdentityProviderSpec(Spec):
    """Where the directory is."""

    type: Annotated[ProviderType, Takes(Change.IMMUTABLE)]
    """OIDC: OpenID Connect, LDAP: a directory that passwords are checked by."""
    enabled: bool = True
    """false: nobody logs in by it, and the sessions that began by it end within seconds."""
    display_name: Text = ""
    """What people choose at login."""
    offered: bool = False
    """true: the page for logging in shows its display name, name and type to everybody who opens it; of a provider with
    a domain, to who opens it as /console/login?domain=DOMAIN. Default: who logs in by it has to know its name."""
    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain that its users get into; default the top of the tree."""
    oidc: OIDCProvider | None = None
    """Of type OIDC."""
    ldap: LDAPProvider | None = None
    """Of type LDAP."""
    new_users: NewUsers = NewUsers.CREATE
    """Who logs in for the first time: Create a User named after this provider and the user there, or Refuse all for
    whom nobody has made a User with this identityProvider and the externalId."""
    second_factor: SecondFactor = SecondFactor.EITHER
    """Whose second factor counts. Either: the provider's where it says that it asked for one, else one enrolled here,
    which is asked for when there is one or when one is demanded (mfaRequired, the setting login.mfaRequired). Ours: one
    enrolled here, whatever the provider says. Theirs: the provider's alone; who needs one and had none is refused.
    Directories never say so: there Either is the same as Ours."""
    group_mapping: Annotated[list[GroupMapping], Field(max_length=256)] = Field(default_factory=list)
    """Which groups there stand for groups here, in sessions that began by this provider. Asked at each login, and at
    each refresh where the provider can be asked without the user. A group that is not listed gives nothing."""


class IdentityProviderStatus(Status):
    """What was observed of the provider, which is asked every five minutes: its discovery document and keys (OpenID
    Connect), or whether the cloud may log in there and sees its users and groups (LDAP)."""

    answered_at: Time | None = None
    """When it last answered as it should."""
    failed_at: Time | None = None
    """When it last did not."""
    failures: int | None = None
    """How often in a row it did not."""


class IdentityProvider(Resource[IdentityProviderSpec, IdentityProviderStatus]):
    """A directory outside that knows users, by OpenID Connect or LDAP."""

    KIND = "IdentityProvider"
    status: IdentityProviderStatus = Field(default_factory=IdentityProviderStatus)


def _check(new: IdentityProvider, old: IdentityProvider | None, referenced: Referenced) -> Sequence[Cause]:
    """The section of its type is given and no other, and filters have their placeholder."""
    spec, causes = new.spec, []
    for name, section in (("oidc", spec.oidc), ("ldap", spec.ldap)):
        if name == spec.type.value.lower() and section is None:
            message = f"is required for type {spec.type}"
            causes.append(Cause(field=f"spec.{name}", reason="FieldValueRequired", message=message))
        elif name != spec.type.value.lower() and section is not None:
            message = f"must be left out for type {spec.type}"
            causes.append(Cause(field=f"spec.{name}", reason="FieldValueForbidden", message=message))
    return [*causes, *_check_ldap(spec.ldap)] if spec.ldap else causes


def _check_ldap(ldap: LDAPProvider) -> Sequence[Cause]:
    causes = []
    if "{user}" not in ldap.user_filter:
        message = "does not say where the user's name goes: {user}"
        causes.append(Cause(field="spec.ldap.userFilter", reason="FieldValueInvalid", message=message))
    if "{dn}" not in ldap.group_filter and "{user}" not in ldap.group_filter:
        message = "does not say where the user goes: {dn} or {user}"
        causes.append(Cause(field="spec.ldap.groupFilter", reason="FieldValueInvalid", message=message))
    if (ldap.bind_dn is None) != (ldap.bind_password is None):
        field = "spec.ldap.bindDn" if ldap.bind_dn is None else "spec.ldap.bindPassword"
        message = "bindDn and bindPassword are given together or not at all"
        causes.append(Cause(field=field, reason="FieldValueRequired", message=message))
    if ldap.encryption is LDAPEncryption.NONE and ldap.url.startswith("ldaps:"):
        message = "ldaps:// is always encrypted"
        causes.append(Cause(field="spec.ldap.encryption", reason="FieldValueInvalid", message=message))
    if ldap.nested_group_levels and "{dn}" not in ldap.group_filter:
        message = "groups in groups are found by {dn} in groupFilter only"
        causes.append(Cause(field="spec.ldap.nestedGroupLevels", reason="FieldValueInvalid", message=message))
    return causes


def secret_of(provider: IdentityProvider) -> Ref | None:
    """Return the Secret that it names."""
    secret = provider.spec.ldap.bind_password if provider.spec.ldap else None
    return Ref("Secret", secret.project, secret.name) if secret else None


def _must_exist(provider: IdentityProvider) -> Sequence[Reference]:
    secret = secret_of(provider)
    named = (Reference("spec.ldap.bindPassword.name", secret),) if secret else ()
    return (*in_domain(provider.spec.domain), *named)


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
            Column("ENABLED", "spec.enabled", default="true"),
            Column("ANSWERED", "status.answeredAt", format="age"),
        ),
        view=(ViewColumn("type", "spec.type"), ViewColumn("domain", "spec.domain")),
        ready_when=(ANSWERING,),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.domain",
        apply_order=4,
        category="identity",
        example={
            "metadata": {"name": "corporate"},
            "spec": {"type": "OIDC", "oidc": {"issuerUrl": "https://id.example.com", "clientId": "cloud"}},
        },
    )
)
