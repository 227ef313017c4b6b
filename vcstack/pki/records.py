"""What is kept of certificates that were issued to tenants, and of those that were revoked."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509

from vcstack.pki.authority import CertificateAuthority, load_certificate
from vcstack.pki.issuing import build_crl

CRL_DAYS: Final = 14
"""How long a list of revoked certificates is good."""
CRL_REFRESH: Final = timedelta(days=7)
"""A list is made anew that long before its end."""


@dataclass(frozen=True, slots=True)
class Issuance:
    """The newest certificate of one Certificate, with its key."""

    certificate: str
    """PEM."""
    key: str
    """PEM."""
    wish: str
    """What it was issued for: another wish needs another certificate."""

    @property
    def x509(self) -> x509.Certificate:
        """The certificate."""
        return load_certificate(self.certificate.encode())

    @property
    def serial(self) -> str:
        """Its number, hexadecimal."""
        return f"{self.x509.serial_number:x}"

    def to_json(self) -> bytes:
        """The record."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What the record says."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was revoked of an authority's certificates, and the list of it as it is given out."""

    revoked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Serial number, hexadecimal → when it was revoked and when it would have ended, ISO 8601."""
    crl: str = ""
    """The signed list, PEM."""
    number: int = 0
    """The list's number."""
    next_update: str = ""
    """When the list ends."""
    authority: str = ""
    """The fingerprint of the authority that signed the list."""

    def with_revoked(self, serial: str, now: datetime, ends: datetime) -> Self:
        """These and one more."""
        if serial in self.revoked:
            return self
        return type(self)({**self.revoked, serial: (now.isoformat(), ends.isoformat())}, "", self.number)

    def listed(self, authority: CertificateAuthority, now: datetime) -> Self:
        """These with a list of them that is good for a while; the same when it is already."""
        fresh = self.next_update and datetime.fromisoformat(self.next_update) - now > CRL_REFRESH
        if self.crl and fresh and self.authority == authority.fingerprint:
            return self
        left = {s: (at, ends) for s, (at, ends) in self.revoked.items() if datetime.fromisoformat(ends) > now}
        entries = {int(serial, 16): datetime.fromisoformat(at) for serial, (at, _) in left.items()}
        crl = build_crl(authority, entries, self.number + 1, now, days=CRL_DAYS)
        until = (now + timedelta(days=CRL_DAYS)).isoformat()
        return type(self)(left, crl.decode(), self.number + 1, until, authority.fingerprint)

    def to_json(self) -> bytes:
        """The record."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What the record says."""
        wire = json.loads(text)
        revoked = {serial: (at, ends) for serial, (at, ends) in wire.pop("revoked").items()}
        return cls(revoked, **wire)
