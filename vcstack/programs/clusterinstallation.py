"""An installation whose secrets are kept as a Kubernetes cluster's Secrets: made once, handed to pods, kept fresh.

What is made at the first installation is never made again: each Secret is created if it is absent, and of what is in
it only certificates are renewed. A manager's pod works on a private copy in its volume, as on any machine; what
changes there (the authority, while it is rotated) goes back into the Secrets, for pods to come and for OVN's databases.
"""

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from vcstack.crypto import keyringfile
from vcstack.pki.authority import (
    CertificateAuthority,
    is_issued_by,
    load_certificate,
    needs_renewal,
    subject_alternative_names,
)
from vcstack.pki.files import PRIVATE, PUBLIC, make_private_folder, write_atomically
from vcstack.pki.installation import ETCD_CLIENT, MANAGEMENT_NAME, Installation, ensure_installation
from vcstack.pki.keys import PkiError
from vcstack.pki.local import LocalAuthority
from vcstack.programs.settings import KEYRING_NAME

CA: Final = "ca.crt"
CA_KEY: Final = "ca.key"
CERT: Final = "tls.crt"
KEY: Final = "tls.key"
ADMIN_TOKEN: Final = "admin-token"  # noqa: S105 - a file's name
PASSWORD: Final = "password"  # noqa: S105 - a field's name
BACKEND_HOURS: Final = 24 * 365
"""Certificates of etcd and PostgreSQL; a CronJob renews them after two thirds of it."""
PASSWORD_BYTES: Final = 24
SECRET_OF_TLS: Final = "kubernetes.io/tls"  # noqa: S105 - a type's name


class Objects(Protocol):
    """Secrets or ConfigMaps of a namespace."""

    def find(self, name: str) -> dict[str, bytes] | None:
        """Return the data; None: there is no such object."""

    def create(self, name: str, data: dict[str, bytes], *, of_type: str = "Opaque") -> bool:
        """Make the object; False: there is one already."""

    def update(self, name: str, data: dict[str, bytes]) -> None:
        """Set these values, keep the others."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the installation is kept."""

    release: str
    """What the names of all its objects begin with."""
    secrets: Objects
    trust: Objects
    """ConfigMaps: what everybody may read."""

    def name(self, part: str) -> str:
        """The name of an object of the release."""
        return f"{self.release}-{part}"


def prepare_installation(cluster: Cluster, ovn_names: Sequence[str]) -> None:
    """Make the authority, master keys, admin token and OVN's first certificate, unless they are there."""
    name = cluster.name("installation")
    kept = cluster.secrets.find(name)
    if kept is None:
        cluster.secrets.create(name, _make_installation())
        kept = cluster.secrets.find(name) or {}
    authority = CertificateAuthority.of(kept[CA], kept[CA_KEY])
    _ensure_credential(cluster, "ovn-tls", authority, ovn_names)
    if cluster.trust.find(cluster.name("trust")) is None:
        cluster.trust.create(cluster.name("trust"), {CA: authority.bundle})


def prepare_backends(cluster: Cluster, servers: Mapping[str, Sequence[str]]) -> None:
    """Make an authority for etcd and PostgreSQL alone, and certificates: by part the names of its server.

    Not the cloud's own authority: hosts have certificates of that, and have no business with the store.
    """
    name = cluster.name("backends-ca")
    kept = cluster.secrets.find(name)
    if kept is None:
        made = CertificateAuthority.create("VC Stack backends CA")
        cluster.secrets.create(name, {CERT: made.cert_pem, KEY: made.key_pem}, of_type=SECRET_OF_TLS)
        kept = cluster.secrets.find(name) or {}
    authority = CertificateAuthority.of(kept[CERT], kept[KEY])
    for part, names in servers.items():
        more = (ETCD_CLIENT,) if part == "etcd" else ()
        _ensure_credential(cluster, f"{part}-tls", authority, (*names, *more))
    _ensure_credential(cluster, "backends-client", authority, (ETCD_CLIENT,), server=False)


def prepare_password(cluster: Cluster, part: str) -> None:
    """Make a password, unless there is one."""
    if cluster.secrets.find(cluster.name(part)) is None:
        cluster.secrets.create(cluster.name(part), {PASSWORD: secrets.token_hex(PASSWORD_BYTES).encode()})


def seed(state: Path, given: Path, sans: Sequence[str]) -> Installation:
    """Return the installation in a pod's volume, begun from what the mounted Secret has.

    What is there already is newer than the Secret or the same.
    """
    paths = Installation.under(state)
    make_private_folder(state)
    make_private_folder(paths.ca_cert.parent)
    # The key first, as everywhere: a certificate that is there has its key.
    for name, path, mode in (
        (CA_KEY, paths.ca_key, PRIVATE),
        (CA, paths.ca_cert, PUBLIC),
        (KEYRING_NAME, state / KEYRING_NAME, PRIVATE),
        (ADMIN_TOKEN, paths.admin_token, PRIVATE),
    ):
        if not path.exists():
            write_atomically(path, (given / name).read_bytes(), mode)
    return ensure_installation(state, sans)


def copy_private(source: Path, target: Path) -> list[str]:
    """Copy a mounted Secret's files to where only we can read them; return which were different.

    The kubelet gives a mounted Secret to the pod's group, and a private key that a group may read is refused.
    """
    make_private_folder(target)
    changed = []
    # A key before its certificate: who sees the new certificate finds its key.
    for path in sorted(source.iterdir(), key=lambda each: (each.suffix != ".key", each.name)):
        if path.name.startswith("..") or not path.is_file():
            continue
        content, copy = path.read_bytes(), target / path.name
        if not copy.exists() or copy.read_bytes() != content:
            write_atomically(copy, content, PRIVATE)
            changed.append(path.name)
    return changed


def publish(cluster: Cluster, state: Path) -> list[str]:
    """Bring the Secrets up to what this pod, whose API is ready, knows; return which were changed."""
    paths = Installation.under(state)
    authority = LocalAuthority(paths.ca_cert, paths.ca_key).current
    wanted = {CA: authority.bundle, CA_KEY: authority.key_pem}
    changed = []
    if _differs(cluster.secrets.find(cluster.name("installation")), wanted):
        cluster.secrets.update(cluster.name("installation"), wanted)
        changed.append("installation")
    if _differs(cluster.trust.find(cluster.name("trust")), {CA: authority.bundle}):
        cluster.trust.update(cluster.name("trust"), {CA: authority.bundle})
        changed.append("trust")
    kept = cluster.secrets.find(cluster.name("ovn-tls"))
    if kept is not None and (kept.get(CA) != authority.bundle or not _is_good(kept, authority)):
        cluster.secrets.update(cluster.name("ovn-tls"), _renewed(kept, authority))
        changed.append("ovn-tls")
    return changed


def _make_installation() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        paths = ensure_installation(state)
        keyringfile.ensure(state / KEYRING_NAME)
        return {
            CA: paths.ca_cert.read_bytes(),
            CA_KEY: paths.ca_key.read_bytes(),
            KEYRING_NAME: (state / KEYRING_NAME).read_bytes(),
            ADMIN_TOKEN: paths.admin_token.read_bytes(),
        }


def _ensure_credential(
    cluster: Cluster, part: str, authority: CertificateAuthority, names: Sequence[str], *, server: bool = True
) -> None:
    """Make a certificate of the authority for these names, or renew it: a server's, or the manager's as a client."""
    name = cluster.name(part)
    kept = cluster.secrets.find(name)
    if kept is not None and _is_good(kept, authority) and _names_of(kept) == set(names):
        return
    if server:
        issued = authority.issue_server(part, names, hours=BACKEND_HOURS, also_client=True)
    else:
        issued = authority.issue_client(MANAGEMENT_NAME, hours=BACKEND_HOURS, sans=names)
    data = {CERT: issued.cert, KEY: issued.key, CA: authority.bundle}
    if kept is None:
        cluster.secrets.create(name, data, of_type=SECRET_OF_TLS)
    else:
        cluster.secrets.update(name, data)


def _renewed(kept: Mapping[str, bytes], authority: CertificateAuthority) -> dict[str, bytes]:
    """The same key and names, certified by who signs now."""
    fresh = authority.reissue(load_certificate(kept[CERT]), hours=BACKEND_HOURS)
    return {CERT: fresh, KEY: kept[KEY], CA: authority.bundle}


def _is_good(kept: Mapping[str, bytes], authority: CertificateAuthority) -> bool:
    try:
        issued = is_issued_by(load_certificate(kept[CERT]), authority.certificate)
        return issued and not needs_renewal(kept[CERT])
    except (KeyError, PkiError):
        return False


def _names_of(kept: Mapping[str, bytes]) -> set[str]:
    return set(subject_alternative_names(load_certificate(kept[CERT])))


def _differs(kept: Mapping[str, bytes] | None, wanted: Mapping[str, bytes]) -> bool:
    return kept is not None and any(kept.get(key) != value for key, value in wanted.items())
