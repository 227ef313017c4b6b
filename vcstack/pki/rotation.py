"""An authority and its successor, as pure steps: trusted by all, then signing, then alone, then the old key forgotten.

Whoever is killed between two steps finds in the record which was the last. What has to be seen before the next one is
the business of who takes the step.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from cryptography import x509

from vcstack.pki.authority import CLOCK_SKEW, CertificateAuthority, fingerprint, load_certificate


@dataclass(frozen=True, slots=True)
class Version:
    """One authority."""

    number: int
    certificate: bytes
    """PEM."""
    key: bytes
    """PEM."""

    @classmethod
    def of(cls, number: int, authority: CertificateAuthority) -> Self:
        """The authority under that number."""
        return cls(number, authority.cert_pem, authority.key_pem)

    @property
    def x509(self) -> x509.Certificate:
        """The certificate."""
        return load_certificate(self.certificate)

    @property
    def fingerprint(self) -> str:
        """What tells it from others."""
        return fingerprint(self.x509)

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return self.x509.not_valid_before_utc + CLOCK_SKEW

    @property
    def authority(self) -> CertificateAuthority:
        """It, able to sign."""
        return CertificateAuthority.of(self.certificate, self.key)


@dataclass(frozen=True, slots=True)
class Authorities:
    """The authorities of one kind of certificate, at one moment of their rotation."""

    versions: tuple[Version, ...]
    """Those trusted, the oldest first."""
    issuing: int
    """The number of the one that signs."""
    retired: Version | None = None
    """One that is trusted no more; kept until it is seen that nobody does."""

    @classmethod
    def first(cls, authority: CertificateAuthority) -> Self:
        """That authority alone."""
        return cls((Version.of(1, authority),), 1)

    @property
    def newest(self) -> Version:
        """The one made last."""
        return self.versions[-1]

    @property
    def current(self) -> CertificateAuthority:
        """The one that signs, with all that are trusted."""
        signing = next(each for each in self.versions if each.number == self.issuing)
        bundle = b"".join(each.certificate for each in self.versions)
        return CertificateAuthority.of(bundle, signing.key)

    @property
    def at_rest(self) -> bool:
        """Whether no rotation is under way."""
        return len(self.versions) == 1 and self.retired is None

    def begin(self, successor: CertificateAuthority) -> Self:
        """Have the successor trusted."""
        version = Version.of(self.newest.number + 1, successor)
        return replace(self, versions=(*self.versions, version))

    def switch(self) -> Self:
        """Have the newest sign."""
        return replace(self, issuing=self.newest.number)

    def retire(self) -> Self:
        """Trust the newest alone."""
        return replace(self, versions=(self.newest,), retired=self.versions[0])

    def forget(self) -> Self:
        """Keep nothing of the one retired."""
        return replace(self, retired=None)

    def living(self, now: datetime) -> Self:
        """Trust those only that have not ended."""
        return replace(self, versions=tuple(v for v in self.versions if v.x509.not_valid_after_utc > now))

    def to_json(self) -> bytes:
        """The record."""
        wire = {
            "versions": [_to_wire(each) for each in self.versions],
            "issuing": self.issuing,
            "retired": _to_wire(self.retired) if self.retired else None,
        }
        return json.dumps(wire).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What the record says."""
        wire = json.loads(text)
        retired = _from_wire(wire["retired"]) if wire["retired"] else None
        return cls(tuple(_from_wire(each) for each in wire["versions"]), wire["issuing"], retired)


@dataclass(frozen=True, slots=True)
class Report:
    """What a process of the manager says of its machine's files, after it has begun to use them."""

    name: str
    """The process."""
    trusted: frozenset[str]
    """Fingerprints of the authorities that it trusts."""
    issuers: frozenset[str]
    """Fingerprints of those that signed the certificates on its machine."""
    late: frozenset[str] = frozenset()
    """Those of them, by name, that end soon and have not been renewed."""


def _to_wire(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "certificate": version.certificate.decode(),
        "key": version.key.decode(),
    }


def _from_wire(wire: dict[str, Any]) -> Version:
    return Version(wire["number"], wire["certificate"].encode(), wire["key"].encode())
