"""APIKey: lets a program act for a user or as a service account. Its secret is shown once and kept hashed."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.role import check_rules
from vcstack.specs.kinds.rolebinding import Expiry
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Name, RefersTo, Takes
from vcstack.specs.permissions import Rule
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/credentials"
"""The secrets go before the key does."""
ACCEPTED = "Accepted"
"""False once the key or its secrets have run out."""


def check_network(value: str) -> str:
    """Return the network if it is canonical, else raise ValueError with the fix."""
    try:
        network = ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"{value!r} is no network; write e.g. 192.0.2.0/24, 192.0.2.7/32 or 2001:db8::/32") from error
    if str(network) != value:
        raise ValueError(f"{value!r} is not canonical; write {network}")
    return value


Network = Annotated[str, AfterValidator(check_network), Field(max_length=43)]


class APIKeySpec(Spec):
    """Whose key it is, and what it is good for at most."""

    user: Annotated[Name | None, RefersTo("User"), Takes(Change.IMMUTABLE)] = None
    """Of a key outside projects: the user for whom it acts."""
    service_account: Annotated[Name | None, RefersTo("ServiceAccount"), Takes(Change.IMMUTABLE)] = None
    """Of a key in a project: the service account as which it acts."""
    expires_at: Expiry | None = None
    """From then on it is good for nothing; default never."""
    rules: Annotated[list[Rule], Field(max_length=64)] = Field(default_factory=list)
    """What it may do at most, of what its owner may; default all of that."""
    source_networks: Annotated[list[Network], Field(max_length=64)] = Field(default_factory=list)
    """Where it may be used from; default everywhere."""
    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86400)] = 86400
    """How long the old secret stays good when a new one was made."""


class APIKeyStatus(Status):
    """What was observed of the key."""

    key_id: str | None = None
    """How the key is called when it is used."""
    secret_created_at: Time | None = None
    """When the present secret was made."""
    secret_expires_at: Time | None = None
    """When the present secret ends, because whoever made it had the right to for that long only."""
    previous_until: Time | None = None
    """Until when the secret before it is good."""
    last_used_at: Time | None = None
    """When it was last used, to within some minutes."""


class APIKey(Resource[APIKeySpec, APIKeyStatus]):
    """Lets a program act for a user or as a service account. Its secret is shown once and kept hashed."""

    KIND = "APIKey"
    status: APIKeyStatus = Field(default_factory=APIKeyStatus)


def _check(new: APIKey, old: APIKey | None, referenced: Referenced) -> Sequence[Cause]:
    """A global key is a user's, one in a project a service account's; its rules name kinds that exist."""
    given = {"user": new.spec.user, "serviceAccount": new.spec.service_account}
    wanted, other = ("serviceAccount", "user") if new.metadata.project else ("user", "serviceAccount")
    causes = []
    if not given[wanted]:
        message = f"is required: a key {'in' if new.metadata.project else 'outside'} a project is a {wanted}'s"
        causes.append(Cause(field=f"spec.{wanted}", reason="FieldValueRequired", message=message))
    if given[other]:
        message = f"must be left out: a key {'in' if new.metadata.project else 'outside'} a project is a {wanted}'s"
        causes.append(Cause(field=f"spec.{other}", reason="FieldValueForbidden", message=message))
    return [*causes, *check_rules(new.spec.rules, "spec.rules")]


def _must_exist(key: APIKey) -> Sequence[Reference]:
    if key.metadata.project:
        account = key.spec.service_account
        ref = Ref("ServiceAccount", key.metadata.project, account or "")
        return (Reference("spec.serviceAccount", ref),) if account else ()
    return (Reference("spec.user", Ref("User", None, key.spec.user)),) if key.spec.user else ()


register(
    KindDefinition(
        model=APIKey,
        plural="apikeys",
        uid_prefix="ak",
        scope=Scope.GLOBAL_OR_PROJECT,
        columns=(
            Column("USER", "spec.user"),
            Column("SERVICE_ACCOUNT", "spec.serviceAccount"),
            Column("KEY_ID", "status.keyId"),
            Column("EXPIRES", "spec.expiresAt"),
            Column("LAST_USED", "status.lastUsedAt", format="age"),
        ),
        view=(
            ViewColumn("user_name", "spec.user"),
            ViewColumn("service_account", "spec.serviceAccount"),
            ViewColumn("key_id", "status.keyId"),
            ViewColumn("expires_at", "spec.expiresAt", "timestamptz"),
            ViewColumn("last_used_at", "status.lastUsedAt", "timestamptz"),
        ),
        ready_when=(ACCEPTED,),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        owner_path="spec.user",
        apply_order=20,
        category="identity",
        spec_outside={"user": "alice"},
        example={
            "metadata": {"project": "demo", "name": "ci"},
            "spec": {"serviceAccount": "ci"},
            "status": {"keyId": "vck-5f0c2f1e9a7b4d3c", "secretCreatedAt": "2026-11-23T09:00:00Z"},
        },
    )
)
