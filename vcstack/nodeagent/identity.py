"""Who this host is to the cloud: its key, made here and never sent, and its short-lived certificate."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from vcstack.apiclient.hosts import HostClient, IssuedCertificate
from vcstack.pki.authority import (
    find_issuer,
    fingerprint,
    is_late,
    load_certificate,
    load_certificates,
    mark_of,
    needs_renewal,
)
from vcstack.pki.files import PRIVATE, PUBLIC, write_atomically
from vcstack.pki.keys import common_name, generate_key, key_from_pem, key_to_pem
from vcstack.specs.errors import ApiError, Forbidden, Unauthorized

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
REFUSED_SECONDS = 10.0
"""Between attempts to join with a token that was refused; somebody may put another one there."""


CHASSIS_KEPT_SECONDS = 3600.0
"""ovn-controller may read an earlier pair until it has seen the name of the new one."""


class Pair(NamedTuple):
    """Files that belong together."""

    key: Path
    certificate: Path


class Trust(NamedTuple):
    """Which authorities matter to this host, by their fingerprints."""

    issuer: str
    """The one that signed the host's certificate."""
    trusted: tuple[str, ...]
    """Those whose certificates are good here."""

    @property
    def mark(self) -> str:
        """What heartbeats are answered with while this is as it should be."""
        return mark_of(self.issuer, self.trusted)


class JoinError(Exception):
    """The host cannot join; the text says what is missing."""


class Identity:
    """Key and certificates in the state folder, and copies of them for ovn-controller."""

    def __init__(self, folder: Path, host_name: str) -> None:
        self._folder = folder
        self._host_name = host_name

    @property
    def name(self) -> str:
        """Return what the certificate calls the host; OVN knows the chassis by it and lets it change that one only."""
        return f"system:host:{self._host_name}"

    @property
    def key(self) -> Path:
        """Return the private key's file."""
        return self._folder / "host.key"

    @property
    def certificate(self) -> Path:
        """Return the certificate's file."""
        return self._folder / "host.crt"

    @property
    def ca(self) -> Path:
        """Return the file of the cloud's CA."""
        return self._folder / "ca.crt"

    @property
    def joined(self) -> bool:
        """Return whether there is a certificate."""
        return self.certificate.is_file() and self.key.is_file()

    def expires_at(self) -> datetime:
        """Return when the certificate runs out."""
        return load_certificate(self.certificate.read_bytes()).not_valid_after_utc

    def is_late(self) -> bool:
        """Return whether the certificate ends soon and should have been renewed long ago."""
        return is_late(self.certificate.read_bytes())

    def trust(self) -> Trust:
        """Return whom the host trusts and who signed its certificate, as the files say."""
        trusted = load_certificates(self.ca.read_bytes())
        issuer = find_issuer(load_certificate(self.certificate.read_bytes()), trusted)
        return Trust(fingerprint(issuer) if issuer else "", tuple(fingerprint(each) for each in trusted))

    def ensure_ca(self, given: Path) -> None:
        """Trust the CA that the settings name until the host has joined; from then on the cloud says whom."""
        if not (self.joined and self.ca.exists()):
            write_atomically(self.ca, given.read_bytes(), PUBLIC)

    async def join(
        self, client: HostClient, token_file: Path | None, *, zone: str | None, labels: Mapping[str, str]
    ) -> None:
        """Get the first certificate, however long the API is away. Raises JoinError without a token."""
        while not self.joined:
            token = _read_token(token_file)
            try:
                csr = self._build_csr()
                answer = await client.join(
                    token=token, host_name=self._host_name, csr=csr, zone=zone, labels=dict(labels)
                )
                self._keep(answer)
                log.info("host.joined", host=self._host_name, expires=self.expires_at().isoformat())
            except (Forbidden, Unauthorized) as error:
                log.warning("join.refused", error=str(error), token_file=str(token_file))
                await asyncio.sleep(REFUSED_SECONDS)
            except ApiError as error:
                log.warning("join.waiting", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def renew_if_due(self, client: HostClient, mark: str | None = None) -> bool:
        """Get a new certificate for the same key, and whom to trust.

        That is when two thirds of the old one's life are over, or when the cloud's mark is no longer that of the
        authorities here: they are being rotated.
        """
        if not needs_renewal(self.certificate.read_bytes()) and mark in (None, self.trust().mark):
            return False
        self._keep(await client.renew(self._host_name, self._build_csr()))
        log.info("certificate.renewed", expires=self.expires_at().isoformat())
        return True

    def ensure_chassis_pair(self) -> Pair:
        """Return key and certificate for ovn-controller, under names that no other pair ever had.

        It loads a pair only when it finds both files changed in one look (Open vSwitch's
        stream_ssl_set_key_and_cert). Files replaced in place, one after the other, or the certificate alone,
        it would never load again.
        """
        certificate = self.certificate.read_bytes()
        stem = hashlib.sha256(certificate).hexdigest()[:16]
        pair = Pair(self._folder / f"chassis-{stem}.key", self._folder / f"chassis-{stem}.crt")
        for path, content, mode in (
            (pair.key, self.key.read_bytes(), PRIVATE),
            (pair.certificate, certificate, PUBLIC),
        ):
            if not path.is_file() or path.read_bytes() != content:
                write_atomically(path, content, mode)
        for path in self._folder.glob("chassis-*"):
            if path not in pair and time.time() - path.stat().st_mtime > CHASSIS_KEPT_SECONDS:
                path.unlink(missing_ok=True)
        return pair

    def _build_csr(self) -> str:
        """Return a request for the key of this host, made at the first time."""
        if not self.key.exists():
            write_atomically(self.key, key_to_pem(generate_key()), PRIVATE)
        key = key_from_pem(self.key.read_bytes())
        builder = x509.CertificateSigningRequestBuilder().subject_name(common_name(self.name))
        request = builder.sign(key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def _keep(self, issued: IssuedCertificate) -> None:
        """Keep what was issued; the certificate last, for it says that the host has joined."""
        write_atomically(self.ca, issued.ca.encode(), PUBLIC)
        write_atomically(self.certificate, issued.certificate.encode(), PUBLIC)


def _read_token(path: Path | None) -> str:
    if path is None:
        raise JoinError("this host has not joined yet and the settings name no joinTokenFile")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise JoinError(f"this host has not joined yet and {path} cannot be read: {error.strerror}") from error
