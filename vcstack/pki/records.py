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
MOST_ISSUED: Final = 1000
"""So many certificates of one authority are good or revoked at a time: whatever is issued can be revoked."""
MOST_REVOKED: Final = 1200
"""So many a list holds: 64 KB, which is a Secret's value. More than the above, for issuing at once counts late."""


class ListFull(Exception):
    """A list has no room for another certificate."""


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

    def find_revoked(self, now: datetime) -> dict[str, tuple[str, str]]:
        """Those that have not ended: who has ended is trusted by nobody, on a list or not."""
        return {s: (at, ends) for s, (at, ends) in self.revoked.items() if datetime.fromisoformat(ends) > now}

    def with_revoked(self, serial: str, now: datetime, ends: datetime) -> Self:
        """These and one more. Raises ListFull."""
        if serial in self.revoked:
            return self
        if ends > now and len(self.find_revoked(now)) >= MOST_REVOKED:
            raise ListFull
        return type(self)({**self.revoked, serial: (now.isoformat(), ends.isoformat())}, "", self.number)

    def listed(self, authority: CertificateAuthority, now: datetime) -> Self:
        """These with a list of them that is good for a while; the same when it is already."""
        fresh = self.next_update and datetime.fromisoformat(self.next_update) - now > CRL_REFRESH
        if self.crl and fresh and self.authority == authority.fingerprint:
            return self
        left = self.find_revoked(now)
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
