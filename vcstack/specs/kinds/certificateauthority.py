"""CertificateAuthority: who signs the certificates of the cloud's own services and hosts, and its rotation."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.meta import Time
from vcstack.specs.model import Model
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

INTERNAL = "internal"
"""The one there is: it signs for services and hosts. Projects' own authorities are no objects."""
DISTRIBUTED = "Distributed"
"""True when whoever has to check certificates trusts the newest version; False while some do not, named."""
REISSUED = "Reissued"
"""True when all certificates in use are of the newest version."""
RETIRED = "Retired"
"""True when nobody trusts a version but the newest."""
EXPIRING = "Expiring"
"""True when the version that signs ends within half a year, or a certificate of a service ends and is not renewed."""


class CertificateAuthoritySpec(Spec):
    """Which version is wanted."""

    version: Annotated[int, Field(ge=1)] = 1
    """One more than the version in use begins a rotation: the next one is made, trusted by all, then signs, then the
    former is trusted no more. It cannot be called off, and never becomes smaller."""
    overlap_seconds: Annotated[int, Field(ge=0, le=90 * 86_400)] = 7 * 86_400
    """How long a new version is trusted at least before it signs. Services and hosts are waited for in any case; this
    is the time that others, such as people with a copy of the bundle, have to fetch the new one. Default a week."""


class AuthorityState(StrEnum):
    """What becomes of a version."""

    TRUSTED = "Trusted"
    ISSUING = "Issuing"
    RETIRING = "Retiring"


class AuthorityVersion(Model):
    """One version of the authority."""

    version: int
    """Its number."""
    state: AuthorityState
    """Trusted: its certificates are good. Issuing: it signs as well. Retiring: trusted no more, which is seen to."""
    fingerprint: str
    """The SHA-256 of its certificate."""
    created_at: Time
    """When it was made."""
    expires_at: Time
    """When its certificate ends."""


class CertificateAuthorityStatus(Status):
    """What was observed of the authority."""

    version: int | None = None
    """The version that signs."""
    versions: list[AuthorityVersion] | None = None
    """All there are, the oldest first."""
    expires_at: Time | None = None
    """When the version that signs ends."""
    bundle: str | None = None
    """The certificates to trust, PEM; they are no secret."""
    waiting_for: list[str] | None = None
    """Who holds up the present step, and why."""


class CertificateAuthority(Resource[CertificateAuthoritySpec, CertificateAuthorityStatus]):
    """Who signs the certificates of the cloud's own services and hosts."""

    KIND = "CertificateAuthority"
    spec: CertificateAuthoritySpec = Field(default_factory=CertificateAuthoritySpec)
    status: CertificateAuthorityStatus = Field(default_factory=CertificateAuthorityStatus)


def _check(new: CertificateAuthority, old: CertificateAuthority | None, referenced: Referenced) -> Sequence[Cause]:
    """There is one; its version grows by one at a time, for each needs the one before it."""
    causes = []
    if new.metadata.name != INTERNAL:
        message = f"there is one authority, {INTERNAL}; for certificates of a project's own make a Certificate"
        causes.append(Cause(field="metadata.name", reason="FieldValueForbidden", message=message))
    if old is None:
        return causes
    if new.spec.version < old.spec.version:
        message = f"{old.spec.version} is under way or done; an authority never comes back"
        causes.append(Cause(field="spec.version", reason="FieldValueForbidden", message=message))
    in_use = old.status.version
    if new.spec.version > old.spec.version and in_use is not None and new.spec.version > in_use + 1:
        message = f"version {in_use} signs; the next one is {in_use + 1}, one after the other"
        causes.append(Cause(field="spec.version", reason="FieldValueForbidden", message=message))
    return causes


register(
    KindDefinition(
        model=CertificateAuthority,
        plural="certificateauthorities",
        uid_prefix="ca",
        scope=Scope.GLOBAL,
        short_names=("ca",),
        columns=(
            Column("WANTED", "spec.version", default="1"),
            Column("SIGNS", "status.version"),
            Column("EXPIRES", "status.expiresAt"),
            Column("WAITING_FOR", "status.waitingFor[*]"),
        ),
        view=(
            ViewColumn("version", "status.version", "bigint"),
            ViewColumn("expires_at", "status.expiresAt", "timestamptz"),
        ),
        ready_when=(DISTRIBUTED, REISSUED, RETIRED),
        check=_check,
        apply_order=5,
        category="security",
        example={"metadata": {"name": "internal"}, "spec": {"overlapSeconds": 3600}},
    )
)
