"""Certificate: a key and a certificate for a tenant's own services, signed by the project's own authority."""

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Name, Takes
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/certificate"
"""What was issued is revoked and its key destroyed before the object goes."""
ISSUED = "Issued"
"""True while the Secret holds a certificate that is as the spec wants it."""
EXPIRING = "Expiring"
"""True when the time for renewal has come and the certificate has not been renewed."""
DEFAULT_HOURS = 30 * 24


def _plain_address(text: str) -> str:
    """Return the address in its one form. Raises ValueError."""
    address = ipaddress.ip_address(text)
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a zone means another thing on each machine")
    if str(address) != text:
        raise ValueError(f"write it as {address}")
    return text


def _no_number(name: str) -> str:
    """Return the host name unless it is an address in disguise. Raises ValueError."""
    if name.rpartition(".")[2].isdigit():
        raise ValueError("a host name's last label is no number; addresses go into ipAddresses")
    return name


DnsName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", max_length=253
    ),
    AfterValidator(_no_number),
]
IpAddress = Annotated[str, Field(max_length=45), AfterValidator(_plain_address)]
CommonName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*]([A-Za-z0-9 ._@-]{0,62}[A-Za-z0-9])?$")]


class Usage(StrEnum):
    """What a certificate is good for."""

    SERVER_AUTH = "ServerAuth"
    CLIENT_AUTH = "ClientAuth"


class CertificateKeyAlgorithm(StrEnum):
    """What kind of key is made."""

    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    ED25519 = "Ed25519"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"


class CertificateSpec(Spec):
    """What the certificate is to say, and where it goes."""

    common_name: CommonName | None = None
    """The subject's name. Default the first of the names below."""
    dns_names: Annotated[list[DnsName], Field(max_length=64)] = Field(default_factory=list)
    """Host names in lower case; *.example.org stands for one label."""
    ip_addresses: Annotated[list[IpAddress], Field(max_length=64)] = Field(default_factory=list)
    """IPv4 and IPv6 addresses."""
    usages: Annotated[list[Usage], Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: [Usage.SERVER_AUTH]
    )
    """ServerAuth, ClientAuth or both."""
    duration_hours: Annotated[int, Field(ge=1, le=366 * 24)] = DEFAULT_HOURS
    """How long each certificate is good. Default 720, thirty days."""
    renew_before_hours: Annotated[int, Field(ge=1, le=366 * 24)] | None = None
    """How long before its end a new one is made. Default a third of durationHours."""
    key_algorithm: CertificateKeyAlgorithm = CertificateKeyAlgorithm.ECDSA_P256
    """What key is made for it, a new one each time."""
    secret_name: Annotated[Name, Takes(Change.IMMUTABLE)]
    """The Secret of this project that is made for it: certificate, privateKey, ca (whom to trust) and crl (what is
    revoked), all PEM. It must not be there yet, and goes with the Certificate."""

    @property
    def renew_before(self) -> timedelta:
        """Return how long before its end a certificate is renewed: less than its life, however short that is."""
        if self.renew_before_hours is not None:
            return timedelta(hours=self.renew_before_hours)
        return timedelta(hours=self.duration_hours) / 3

    @property
    def subject(self) -> str:
        """Return the name of the subject."""
        return (self.common_name or next(iter([*self.dns_names, *self.ip_addresses]), ""))[:64]


class CertificateStatus(Status):
    """What was observed of the certificate."""

    serial_number: str | None = None
    """The certificate's number, in hexadecimal digits."""
    fingerprint: str | None = None
    """Its SHA-256."""
    authority: str | None = None
    """The fingerprint of the project's authority that signed it."""
    issued_at: Time | None = None
    """When it was made."""
    expires_at: Time | None = None
    """When it ends."""
    renew_at: Time | None = None
    """When the next one is made."""


class Certificate(Resource[CertificateSpec, CertificateStatus]):
    """A key and a certificate for a tenant's own services, signed by the project's own authority."""

    KIND = "Certificate"
    status: CertificateStatus = Field(default_factory=CertificateStatus)


def _check(new: Certificate, old: Certificate | None, referenced: Referenced) -> Sequence[Cause]:
    """There is something to certify, and time to renew it."""
    spec, causes = new.spec, []
    if not spec.subject:
        message = "give dnsNames, ipAddresses or a commonName: a certificate without a name is good for nothing"
        causes.append(Cause(field="spec.dnsNames", reason="FieldValueRequired", message=message))
    elif Usage.SERVER_AUTH in spec.usages and not (spec.dns_names or spec.ip_addresses):
        message = "clients look for a server's name here or in ipAddresses, never in commonName"
        causes.append(Cause(field="spec.dnsNames", reason="FieldValueRequired", message=message))
    if spec.renew_before_hours is not None and spec.renew_before_hours >= spec.duration_hours:
        message = f"must be less than durationHours ({spec.duration_hours}), or it would be renewed all the time"
        causes.append(Cause(field="spec.renewBeforeHours", reason="FieldValueInvalid", message=message))
    for field, values in (("usages", spec.usages), ("dnsNames", spec.dns_names), ("ipAddresses", spec.ip_addresses)):
        if len(set(values)) < len(values):
            causes.append(Cause(field=f"spec.{field}", reason="FieldValueDuplicate", message="names something twice"))
    return causes


def _makes(certificate: Certificate) -> Mapping[str, int]:
    """Return the Secret that is made for it."""
    return {"secrets": 1}


register(
    KindDefinition(
        model=Certificate,
        plural="certificates",
        uid_prefix="crt",
        scope=Scope.PROJECT,
        short_names=("cert",),
        columns=(
            Column("SECRET", "spec.secretName"),
            Column("NAMES", "spec.dnsNames[*]"),
            Column("EXPIRES", "status.expiresAt"),
            Column("EXPIRING", "status.conditions[Expiring].status", wide=True),
            Column("SERIAL", "status.serialNumber", wide=True),
        ),
        view=(
            ViewColumn("secret_name", "spec.secretName"),
            ViewColumn("dns_names", "spec.dnsNames", "jsonb"),
            ViewColumn("expires_at", "status.expiresAt", "timestamptz"),
            ViewColumn("serial_number", "status.serialNumber"),
        ),
        ready_when=(ISSUED,),
        finalizers=(FINALIZER,),
        check=_check,
        makes=_makes,
        apply_order=20,
        category="security",
        example={
            "metadata": {"project": "demo", "name": "web"},
            "spec": {"dnsNames": ["web.example.org"], "secretName": "web-tls"},
        },
    )
)
