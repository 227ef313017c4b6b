"""The certificate authority: it says who is who within one installation."""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vcstack.pki.files import PRIVATE, PUBLIC, write_atomically
from vcstack.pki.keys import (
    UID_URN,
    PkiError,
    PrivateKey,
    common_name,
    csr_public_key,
    generate_key,
    key_from_pem,
    key_to_pem,
)

CA_LIFETIME: Final = timedelta(days=3650)
# Clocks of hosts differ; without this a fresh certificate is not yet valid on some.
CLOCK_SKEW: Final = timedelta(minutes=5)
# X.520's upper bound for a common name; OpenSSL refuses longer ones.
MAX_COMMON_NAME: Final = 64

SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, both PEM."""

    cert: bytes
    key: bytes


class CertificateAuthority:
    """Signs certificates with one key on P-256; while it is rotated, others are trusted beside it."""

    def __init__(
        self, certificate: x509.Certificate, key: PrivateKey, trusted: Sequence[x509.Certificate] = ()
    ) -> None:
        if certificate.public_key() != key.public_key():
            raise PkiError("the CA's key does not belong to its certificate")
        self.certificate = certificate
        self.trusted = tuple(trusted) or (certificate,)
        """All whose certificates are good, this one's included."""
        self._key = key

    @classmethod
    def create(
        cls,
        name: str = "VC Stack CA",
        key: PrivateKey | None = None,
        *,
        excluded: Sequence[str] = (),
        now: datetime | None = None,
    ) -> Self:
        """A new authority, for `key` if there is one already.

        Args:
            name: its common name.
            key: its key.
            excluded: host names (with all below them), addresses and networks that no certificate of it is good for.
            now: when it begins.
        """
        key = key or generate_key()
        subject = common_name(name)
        builder = _builder(subject, subject, key.public_key(), CA_LIFETIME, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        if excluded:
            constraints = x509.NameConstraints(None, [_excluded_name(each) for each in excluded])
            builder = builder.add_extension(constraints, critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert_path: Path, key_path: Path) -> Self:
        """The authority in these files: of the certificates in the one the one that the key in the other belongs to.

        Raises:
            PkiError: they do not fit each other or are damaged.
            FileNotFoundError: one of them is absent.
        """
        return cls.of(cert_path.read_bytes(), key_path.read_bytes())

    @classmethod
    def of(cls, bundle: bytes, key: bytes) -> Self:
        """The authority whose key that is, with all those of the bundle trusted. Raises PkiError."""
        trusted, own = load_certificates(bundle), key_from_pem(key)
        issuing = [each for each in trusted if each.public_key() == own.public_key()]
        return cls(issuing[0] if issuing else trusted[0], own, trusted)

    def save(self, cert_path: Path, key_path: Path) -> None:
        """Write both files, the key first: a certificate that is there has its key."""
        write_atomically(key_path, key_to_pem(self._key), PRIVATE)
        write_atomically(cert_path, self.bundle, PUBLIC)

    @property
    def cert_pem(self) -> bytes:
        """The CA's certificate."""
        return to_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The CA's key."""
        return key_to_pem(self._key)

    @property
    def bundle(self) -> bytes:
        """The certificates to trust, the oldest first: who signs does not change it."""
        return b"".join(to_pem(each) for each in self.trusted)

    @property
    def fingerprint(self) -> str:
        """What tells this authority from others."""
        return fingerprint(self.certificate)

    @property
    def mark(self) -> str:
        """What changes when another authority signs or others are trusted."""
        return mark_of(self.fingerprint, [fingerprint(each) for each in self.trusted])

    def issue_server(self, name: str, sans: Sequence[str], *, hours: int, also_client: bool = False) -> Issued:
        """A key and a certificate for a server.

        Args:
            name: the common name.
            sans: host names and IP addresses by which clients call it.
            hours: lifetime.
            also_client: valid for clients as well; etcd's gateway calls etcd with its own certificate.
        """
        usages = [SERVER, CLIENT] if also_client else [SERVER]
        key = generate_key()
        return Issued(self._sign(key.public_key(), name, usages, _general_names(sans), hours), key_to_pem(key))

    def issue_client(self, name: str, *, hours: int, sans: Sequence[str] = ()) -> Issued:
        """A key and a certificate for the client `name`, for instance `system:management`.

        Args:
            name: the common name.
            hours: lifetime.
            sans: host names that servers ask for, as etcd does for ETCD_CLIENT.
        """
        key = generate_key()
        return Issued(self._sign(key.public_key(), name, [CLIENT], _general_names(sans), hours), key_to_pem(key))

    def sign_csr(self, csr: bytes, name: str, *, hours: int, uid: str = "") -> bytes:
        """A client certificate for the key of a request, as `name`, whatever the request calls itself.

        Returns the certificate as PEM.

        Args:
            csr: the request, PEM.
            name: the common name.
            hours: lifetime.
            uid: of the object that the name means today; another one may have the name tomorrow.

        Raises:
            PkiError: the request is damaged, unproven, or its key is not acceptable.
        """
        sans = [x509.UniformResourceIdentifier(UID_URN + uid)] if uid else []
        return self._sign(csr_public_key(csr), name, [CLIENT], sans, hours)

    def reissue(self, certificate: x509.Certificate, *, hours: int, also: Sequence[str] = ()) -> bytes:
        """A new certificate for the same key, name, addresses and usages, as PEM.

        The key stays, so that the one file that changes is replaced at once: no server ever sees a certificate
        beside a key of another.

        Args:
            certificate: the present one.
            hours: lifetime.
            also: names and addresses that it is to be good for besides.
        """
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        present = subject_alternative_names(certificate)
        sans = [*_names_in(certificate), *_general_names([each for each in also if each not in present])]
        return self._sign(certificate.public_key(), str(names[0].value), list(usages), sans, hours)

    def issue_for(
        self,
        key: CertificatePublicKeyTypes,
        name: str,
        *,
        usages: Sequence[x509.ObjectIdentifier],
        sans: Sequence[str],
        hours: int,
        now: datetime,
    ) -> bytes:
        """A certificate for a key that somebody else has made, as PEM."""
        return self._sign(key, name, usages, _general_names(sans), hours, now)

    def sign_crl(self, builder: x509.CertificateRevocationListBuilder) -> x509.CertificateRevocationList:
        """A list of revoked certificates of this authority."""
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        return builder.add_extension(authority, critical=False).sign(self._key, hashes.SHA256())

    def _sign(
        self,
        key: CertificatePublicKeyTypes,
        name: str,
        usages: Sequence[x509.ObjectIdentifier],
        sans: Sequence[x509.GeneralName],
        hours: int,
        now: datetime | None = None,
    ) -> bytes:
        if not 0 < len(name) <= MAX_COMMON_NAME:
            raise PkiError(f"a common name has 1 to {MAX_COMMON_NAME} characters: {name!r}")
        issuer = self.certificate
        builder = _builder(common_name(name), issuer.subject, key, timedelta(hours=hours), now)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        builder = builder.add_extension(authority, critical=False)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def load_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in the text.

    Raises:
        PkiError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PkiError(f"not a certificate: {error}") from error


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates in the text.

    Raises:
        PkiError: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PkiError(f"not a certificate: {error}") from error


def to_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """The certificate's SHA-256, in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def mark_of(issuer: str, trusted: Iterable[str]) -> str:
    """What changes when another authority signs or others are trusted, from their fingerprints."""
    return hashlib.sha256(" ".join([issuer, *sorted(trusted)]).encode()).hexdigest()[:16]


def find_issuer(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The one of the authorities that has signed the certificate, None when none has."""
    return next((each for each in authorities if is_issued_by(certificate, each)), None)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the certificate is of that authority, by its signature: names may be alike."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def expires_at(cert: bytes) -> datetime:
    """When a PEM certificate ends."""
    return load_certificate(cert).not_valid_after_utc


def needs_renewal(cert: bytes, now: datetime | None = None) -> bool:
    """Whether two thirds of the lifetime have passed; the last third is left for failed attempts."""
    certificate = load_certificate(cert)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (now or datetime.now(UTC)) >= start + (end - start) * 2 / 3


def is_late(cert: bytes, now: datetime | None = None) -> bool:
    """Whether five sixths of the lifetime have passed: it should have been renewed long ago."""
    certificate = load_certificate(cert)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (now or datetime.now(UTC)) >= start + (end - start) * 5 / 6


def subject_alternative_names(certificate: x509.Certificate) -> list[str]:
    """The host names and IP addresses that a certificate is good for."""
    named = (x509.DNSName, x509.IPAddress)
    return [str(each.value) for each in _names_in(certificate) if isinstance(each, named)]


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    lifetime: timedelta,
    now: datetime | None = None,
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,  # for RSA key exchange, which TLS 1.3 no longer has and EC keys cannot do
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names_in(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _general_names(sans: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(each) for each in sans]


def _excluded_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)
