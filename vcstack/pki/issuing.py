"""Keys and certificates made for others, and lists of those that were revoked."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from vcstack.pki.authority import CLIENT, SERVER, CertificateAuthority, Issued

GENERATORS: Final[Mapping[str, Callable[[], CertificateIssuerPrivateKeyTypes]]] = {
    "ECDSA-P256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECDSA-P384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "RSA-4096": lambda: rsa.generate_private_key(65537, 4096),
}
USAGES: Final = {"ServerAuth": SERVER, "ClientAuth": CLIENT}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate is to say."""

    name: str
    sans: Sequence[str]
    usages: Sequence[str]
    hours: int
    algorithm: str


def issue(authority: CertificateAuthority, wish: Wish, now: datetime) -> Issued:
    """Return a new key and its certificate. An RSA key takes its seconds."""
    key = GENERATORS[wish.algorithm]()
    usages = [USAGES[each] for each in wish.usages]
    cert = authority.issue_for(key.public_key(), wish.name, usages=usages, sans=wish.sans, hours=wish.hours, now=now)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Issued(cert, key.private_bytes(encoding, form, serialization.NoEncryption()))


def build_crl(
    authority: CertificateAuthority, revoked: Mapping[int, datetime], number: int, now: datetime, *, days: int
) -> bytes:
    """Return the list of what is revoked (serial → when), good for so many days, as PEM."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(now).next_update(now + timedelta(days=days))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial, when in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return authority.sign_crl(builder).public_bytes(serialization.Encoding.PEM)


def find_reserved(names: Sequence[str], reserved: Sequence[str]) -> str | None:
    """Return the first of the names that stands for one that is reserved, or for one below it; None: none does."""
    return next((name for name in names if any(_stands_for(name, each) for each in reserved)), None)


def _stands_for(name: str, reserved: str) -> bool:
    address, other = _address(name), _address(reserved)
    if address is not None or other is not None:
        return address == other
    host = reserved.lower()
    if name.startswith("*."):
        return host.endswith(name[1:]) or name[2:] == host or name.endswith(f".{host}")
    return name == host or name.endswith(f".{host}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
