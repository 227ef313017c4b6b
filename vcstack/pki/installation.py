"""The secrets of one installation, made at its first start and kept."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature

from vcstack.pki.authority import (
    CertificateAuthority,
    Issued,
    load_certificate,
    needs_renewal,
    subject_alternative_names,
)
from vcstack.pki.files import PRIVATE, PUBLIC, Credential, locked, make_private_folder, write_atomically
from vcstack.pki.keys import PkiError, key_from_pem
from vcstack.pki.local import renew

# Renewed after two thirds of it, while the manager runs and at its start.
SERVICE_HOURS: Final = 24 * 7
# The loopback, and the address of the machine's end of the single-host bring-up's management network.
DEFAULT_SANS: Final = ("127.0.0.1", "localhost", "10.98.0.1")
MANAGEMENT_NAME: Final = "system:management"
ETCD_CLIENT: Final = "etcd-client.vcstack.internal"
"""What etcd asks of whoever calls it (--client-cert-allowed-hostname), for hosts have our authority's certificates.

No host, API or tenant ever gets this name. It need not be resolved.
"""
ADMIN_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Installation:
    """Where everything lies."""

    ca_cert: Path
    ca_key: Path
    etcd: Credential
    """Server; for clients as well, as members of etcd call each other with it."""
    api: Credential
    """Server."""
    ovn: Credential
    """Server and client: the NB and SB databases, and those who call them."""
    management: Credential
    """Client, `system:management`: vc-management towards etcd."""
    admin_token: Path

    @property
    def services(self) -> tuple[Credential, ...]:
        """All certificates but the CA's."""
        return (self.management, self.etcd, self.api, self.ovn)

    @property
    def etcd_clients(self) -> tuple[Credential, ...]:
        """Those that etcd lets in."""
        return (self.management, self.etcd)

    @classmethod
    def under(cls, state: Path) -> "Installation":
        """The paths below a state folder, whether or not there is anything."""
        pki = state / "pki"

        def credential(name: str) -> Credential:
            return Credential(pki / f"{name}.crt", pki / f"{name}.key")

        ca = credential("ca")
        return cls(
            ca_cert=ca.cert,
            ca_key=ca.key,
            etcd=credential("etcd"),
            api=credential("api"),
            ovn=credential("ovn"),
            management=credential("management"),
            admin_token=state / "admin-token",
        )


def ensure_installation(state: Path, sans: Sequence[str] = DEFAULT_SANS) -> Installation:
    """Make what is missing, damaged or due for renewal; keep the rest.

    Idempotent, and safe to kill at any line: each file appears whole or not at all, and a certificate
    that does not fit its key (killed between the two) is made again. The CA is never replaced.

    Raises:
        PkiError: the CA's files are damaged or its key is gone; nothing is made in its place, for that
            would cut off every host.
    """
    paths = Installation.under(state)
    make_private_folder(paths.ca_cert.parent)
    with locked(paths.ca_cert.parent):
        authority = _ensure_authority(paths)
        names = dict.fromkeys(paths.etcd_clients, (ETCD_CLIENT,))
        renew(paths.services, authority, hours=SERVICE_HOURS, names=names)
        client = partial(authority.issue_client, MANAGEMENT_NAME, hours=SERVICE_HOURS, sans=(ETCD_CLIENT,))
        server = partial(authority.issue_server, sans=sans, hours=SERVICE_HOURS)
        # Last: etcd looks up a member's names in their order, until one has its address.
        member = (*sans, ETCD_CLIENT)
        _ensure(paths.management, authority, (ETCD_CLIENT,), client)
        _ensure(paths.etcd, authority, member, partial(server, "etcd", sans=member, also_client=True))
        _ensure(paths.api, authority, sans, partial(server, "vcstack-api"))
        _ensure(paths.ovn, authority, sans, partial(server, "ovn", also_client=True))
        if not paths.admin_token.exists():
            token = secrets.token_urlsafe(ADMIN_TOKEN_BYTES).encode()
            write_atomically(paths.admin_token, token, PRIVATE)
    return paths


def _ensure_authority(paths: Installation) -> CertificateAuthority:
    if paths.ca_cert.exists():
        try:
            return CertificateAuthority.load(paths.ca_cert, paths.ca_key)
        except FileNotFoundError as error:
            raise PkiError(f"{paths.ca_key} is gone; restore it from a backup") from error
    # A key alone was left by a start that was killed in between: the certificate is made for it.
    key = key_from_pem(paths.ca_key.read_bytes()) if paths.ca_key.exists() else None
    authority = CertificateAuthority.create(key=key)
    authority.save(paths.ca_cert, paths.ca_key)
    return authority


def _ensure(
    paths: Credential, authority: CertificateAuthority, sans: Sequence[str], issue: Callable[[], Issued]
) -> None:
    if not _usable(paths, authority, sans):
        issued = issue()
        write_atomically(paths.key, issued.key, PRIVATE)
        write_atomically(paths.cert, issued.cert, PUBLIC)


def _usable(paths: Credential, authority: CertificateAuthority, sans: Sequence[str]) -> bool:
    """Whether the certificate is there, fits its key and names, is of this authority and not due."""
    try:
        pem = paths.cert.read_bytes()
        certificate = load_certificate(pem)
        if certificate.public_key() != key_from_pem(paths.key.read_bytes()).public_key():
            return False
        certificate.verify_directly_issued_by(authority.certificate)
    except (FileNotFoundError, PkiError, ValueError, TypeError, InvalidSignature):
        return False
    return set(subject_alternative_names(certificate)) == set(sans) and not needs_renewal(pem)
