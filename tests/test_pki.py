"""The internal CA: certificates that Python, OpenSSL and OVS accept, and files that are never half there."""

import ipaddress
import logging
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.ports import free_port
from vcstack.pki.authority import (
    CertificateAuthority,
    Issued,
    expires_at,
    load_certificate,
    needs_renewal,
    subject_alternative_names,
)
from vcstack.pki.files import locked, write_atomically
from vcstack.pki.installation import DEFAULT_SANS, ETCD_CLIENT, Installation, ensure_installation
from vcstack.pki.keys import UID_URN, PkiError, common_name, generate_key, generate_key_and_csr, key_to_pem
from vcstack.pki.local import LocalAuthority
from vcstack.pki.rotation import Authorities
from vcstack.pki.tls import (
    ReloadingContext,
    certificate_common_name,
    certificate_uid,
    client_ssl_context,
    peer_common_name,
    server_ssl_context,
)

ROOT = Path(__file__).parents[1]
SOUND_CSR = x509.load_pem_x509_csr(generate_key_and_csr("h1")[1]).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return ensure_installation(tmp_path_factory.mktemp("installation"))


def save(folder: Path, name: str, issued: Issued) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(issued.cert)
    key.write_bytes(issued.key)
    return cert, key


@contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[tuple[int, list[str | None]]]:
    """Greets each client with the common name it showed; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    names: list[str | None] = []

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with raw, context.wrap_socket(raw, server_side=True) as connection:
                    names.append(peer_common_name(connection))
                    connection.sendall(b"hello")
            except (ssl.SSLError, OSError):
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], names
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def greet(port: int, context: ssl.SSLContext, name: str) -> bytes:
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    with closing(raw), context.wrap_socket(raw, server_hostname=name) as connection:
        return connection.recv(5)


class TestHandshake:
    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "10.98.0.1"])
    def test_clients_accept_every_name_of_the_server(self, installation: Installation, name: str) -> None:
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        with tls_server(context) as (port, names):
            assert greet(port, client_ssl_context(installation.ca_cert), name) == b"hello"
        assert names == [None]

    @pytest.mark.parametrize("name", ["127.0.0.2", "example.org"])
    def test_clients_refuse_any_other_name(self, installation: Installation, name: str) -> None:
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        with tls_server(context) as (port, _), pytest.raises(ssl.SSLCertVerificationError, match="match"):
            greet(port, client_ssl_context(installation.ca_cert), name)

    def test_the_server_learns_the_name_in_the_clients_certificate(self, installation: Installation) -> None:
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        files = installation.management
        with tls_server(context) as (port, names):
            greet(port, client_ssl_context(installation.ca_cert, files.cert, files.key), "localhost")
        assert names == ["system:management"]

    def test_a_signed_request_is_good_for_a_handshake(self, installation: Installation, tmp_path: Path) -> None:
        ca = CertificateAuthority.load(installation.ca_cert, installation.ca_key)
        key, csr = generate_key_and_csr("whoever")
        cert_path, key_path = save(tmp_path, "h1", Issued(ca.sign_csr(csr, "system:host:h1", hours=1), key))
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        with tls_server(context) as (port, names):
            greet(port, client_ssl_context(installation.ca_cert, cert_path, key_path), "localhost")
        assert names == ["system:host:h1"]

    def test_a_clients_certificate_of_another_authority_is_refused_even_where_none_is_needed(
        self, installation: Installation, authority: CertificateAuthority, tmp_path: Path
    ) -> None:
        cert, key = save(tmp_path, "evil", authority.issue_client("system:management", hours=1))
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        with tls_server(context) as (port, names), pytest.raises((ssl.SSLError, ConnectionError)):
            greet(port, client_ssl_context(installation.ca_cert, cert, key), "localhost")
        assert names == []

    def test_a_servers_certificate_does_not_make_a_client(self, installation: Installation) -> None:
        files = installation.api
        context = server_ssl_context(files.cert, files.key, installation.ca_cert)
        with tls_server(context) as (port, names), pytest.raises((ssl.SSLError, ConnectionError)):
            greet(port, client_ssl_context(installation.ca_cert, files.cert, files.key), "localhost")
        assert names == []

    def test_a_clients_certificate_does_not_make_a_server(self, installation: Installation) -> None:
        files = installation.management
        context = server_ssl_context(files.cert, files.key, installation.ca_cert)
        refused = pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose")
        with tls_server(context) as (port, _), refused:
            greet(port, client_ssl_context(installation.ca_cert), "localhost")

    def test_an_expired_certificate_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        ca = CertificateAuthority.load(installation.ca_cert, installation.ca_key)
        cert, key = save(tmp_path, "old", ca.issue_server("old", ["localhost"], hours=0))
        context = server_ssl_context(cert, key, installation.ca_cert)
        refused = pytest.raises(ssl.SSLCertVerificationError, match="expired")
        with tls_server(context) as (port, _), refused:
            greet(port, client_ssl_context(installation.ca_cert), "localhost")

    def test_tls_below_1_2_is_refused(self, installation: Installation) -> None:
        context = server_ssl_context(installation.api.cert, installation.api.key, installation.ca_cert)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert client_ssl_context(installation.ca_cert).minimum_version == ssl.TLSVersion.TLSv1_2


class TestCertificates:
    @pytest.mark.parametrize(("name", "purpose"), [("api", "sslserver"), ("etcd", "sslserver"), ("etcd", "sslclient"),
                                                   ("ovn", "sslserver"), ("management", "sslclient")])  # fmt: skip
    def test_openssl_finds_them_strictly_correct(self, installation: Installation, name: str, purpose: str) -> None:
        cert = installation.ca_cert.parent / f"{name}.crt"
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
        subprocess.run([*command, "-CAfile", installation.ca_cert, cert], check=True, capture_output=True)

    def test_serials_are_random_and_lifetimes_short(self, authority: CertificateAuthority) -> None:
        certs = [authority.issue_client("a", hours=2).cert for _ in range(3)]
        serials = [load_certificate(cert).serial_number for cert in certs]
        assert len(set(serials)) == 3
        assert min(serials) > 2**64
        left = expires_at(certs[0]) - datetime.now(UTC)
        assert timedelta(hours=1.9) < left <= timedelta(hours=2)

    def test_renewal_is_due_after_two_thirds(self, authority: CertificateAuthority) -> None:
        cert = authority.issue_client("a", hours=30).cert
        assert not needs_renewal(cert)
        assert not needs_renewal(cert, datetime.now(UTC) + timedelta(hours=19))
        assert needs_renewal(cert, datetime.now(UTC) + timedelta(hours=21))

    def test_names_that_x509_cannot_hold_are_refused(self, authority: CertificateAuthority) -> None:
        for name in ("", "x" * 65):
            with pytest.raises(PkiError, match="1 to 64"):
                authority.issue_client(name, hours=1)

    def test_a_key_of_another_authority_does_not_load(self, authority: CertificateAuthority, tmp_path: Path) -> None:
        authority.save(tmp_path / "crt", tmp_path / "key")
        CertificateAuthority.load(tmp_path / "crt", tmp_path / "key")
        CertificateAuthority.create().save(tmp_path / "other", tmp_path / "key")
        with pytest.raises(PkiError, match="does not belong"):
            CertificateAuthority.load(tmp_path / "crt", tmp_path / "key")


class TestRequests:
    def test_nothing_that_the_request_asks_for_is_granted(self, authority: CertificateAuthority) -> None:
        key = generate_key()
        evil = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "system:management"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
            ]
        )
        builder = x509.CertificateSigningRequestBuilder().subject_name(evil)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        cert = load_certificate(authority.sign_csr(csr, "system:host:h1", hours=1))
        assert cert.subject.rfc4514_string() == "CN=system:host:h1"
        assert subject_alternative_names(cert) == []
        assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert cert.public_key() == key.public_key()

    def test_the_uid_is_the_one_given_whatever_the_request_asks_for(self, authority: CertificateAuthority) -> None:
        key = generate_key()
        builder = x509.CertificateSigningRequestBuilder().subject_name(common_name("x"))
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{UID_URN}h-evil")])
        csr = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM)
        assert certificate_uid(load_certificate(authority.sign_csr(pem, "system:host:h1", hours=1))) == ""
        cert = load_certificate(authority.sign_csr(pem, "system:host:h1", hours=1, uid="h-1"))
        assert certificate_uid(cert) == "h-1"
        assert certificate_common_name(cert) == "system:host:h1"
        assert subject_alternative_names(cert) == []
        assert certificate_uid(load_certificate(authority.reissue(cert, hours=1))) == "h-1"

    def test_a_certificate_with_two_uids_has_none(self) -> None:
        key, now, name = generate_key(), datetime.now(UTC), common_name("a")
        two = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(UID_URN + uid) for uid in ("h-1", "h-2")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now)
        assert certificate_uid(builder.add_extension(two, critical=False).sign(key, hashes.SHA256())) == ""

    def test_a_request_for_somebody_elses_key_is_refused(self, authority: CertificateAuthority) -> None:
        """The signature is replaced by one of another key over the same request."""
        _, csr = generate_key_and_csr("h1")
        der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(serialization.Encoding.DER))
        der[-1] ^= 1
        forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
        with pytest.raises(PkiError, match="not signed by its own key"):
            authority.sign_csr(forged, "system:host:h1", hours=1)

    @pytest.mark.parametrize(
        ("key", "accepted"),
        [
            (ec.generate_private_key(ec.SECP256R1()), True),
            (ec.generate_private_key(ec.SECP384R1()), True),
            (ed25519.Ed25519PrivateKey.generate(), True),
            (rsa.generate_private_key(65537, 2048), True),
            (rsa.generate_private_key(65537, 1024), False),
            (ec.generate_private_key(ec.SECP192R1()), False),
            (dsa.generate_private_key(2048), False),
        ],
        ids=["p256", "p384", "ed25519", "rsa2048", "rsa1024", "p192", "dsa"],
    )
    def test_weak_and_odd_keys_are_refused(
        self,
        authority: CertificateAuthority,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
        accepted: bool,
    ) -> None:
        digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        request = x509.CertificateSigningRequestBuilder().subject_name(common_name("h1")).sign(key, digest)
        csr = request.public_bytes(serialization.Encoding.PEM)
        if accepted:
            cert = load_certificate(authority.sign_csr(csr, "system:host:h1", hours=1))
            assert cert.public_key() == key.public_key()
        else:
            with pytest.raises(PkiError, match="a key must be"):
                authority.sign_csr(csr, "system:host:h1", hours=1)

    def test_a_request_that_is_too_long_is_refused(self, authority: CertificateAuthority) -> None:
        with pytest.raises(PkiError, match="larger than"):
            authority.sign_csr(b"x" * 20_000, "h", hours=1)

    @settings(max_examples=300, deadline=None)
    @given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4))
    def test_damaged_requests_are_refused_and_never_crash(
        self, authority: CertificateAuthority, flips: list[tuple[int, int]]
    ) -> None:
        der = bytearray(SOUND_CSR)
        for place, mask in flips:
            der[place % len(der)] ^= mask
        body = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
        for damaged in (body.encode(), bytes(der)):
            try:
                cert = load_certificate(authority.sign_csr(damaged, "system:host:h1", hours=1))
            except PkiError:
                continue
            assert certificate_common_name(cert) == "system:host:h1"

    def test_a_certificate_with_two_names_has_none(self) -> None:
        key = generate_key()
        two = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("a", "b")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(two, two, key.public_key(), 1, now, now)
        with pytest.raises(PkiError, match="exactly one"):
            certificate_common_name(builder.sign(key, hashes.SHA256()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_complete(paths: Installation) -> None:
    """Everything is there, fits together, and what is secret is ours alone."""
    ca = CertificateAuthority.load(paths.ca_cert, paths.ca_key)
    for files in (paths.etcd, paths.api, paths.ovn, paths.management):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        load_certificate(files.cert.read_bytes()).verify_directly_issued_by(ca.certificate)
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.ca_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.admin_token.stat().st_mode) == 0o600
    assert len(paths.admin_token.read_text()) == 43


CRASHING = """
import os, sys
from pathlib import Path
from vcstack.pki.installation import ensure_installation

class Killer:
    # Ends the process, without any cleaning up, before its k-th call to the file system.
    def __init__(self, k):
        self.left = k
    def __call__(self, event, args):
        if event in ("open", "os.rename", "os.mkdir", "fcntl.flock"):
            self.left -= 1
            if self.left < 0:
                os._exit(9)

os.umask(0)
for k in range(1000):
    state = Path(sys.argv[1]) / str(k)
    child = os.fork()
    if child == 0:
        sys.addaudithook(Killer(k))
        ensure_installation(state)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


class TestInstallation:
    def test_it_is_complete(self, installation: Installation) -> None:
        check_complete(installation)
        for files in (installation.etcd, installation.api, installation.ovn):
            cert = load_certificate(files.cert.read_bytes())
            more = {ETCD_CLIENT} if files is installation.etcd else set()
            assert set(subject_alternative_names(cert)) == {*DEFAULT_SANS, *more}
            names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert ipaddress.ip_address("10.98.0.1") in names.get_values_for_type(x509.IPAddress)

    def test_a_second_run_changes_nothing(self, tmp_path: Path) -> None:
        ensure_installation(tmp_path)
        before = contents(tmp_path)
        ensure_installation(tmp_path)
        assert contents(tmp_path) == before

    def test_killed_at_any_line_the_next_start_completes_it(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-c", CRASHING, tmp_path], check=True, cwd=ROOT)
        states = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
        assert len(states) > 40
        for state in states:
            before = contents(state)
            for name, content in before.items():
                if b"PRIVATE" in content or "token" in name:
                    assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
            paths = ensure_installation(state)
            check_complete(paths)
            kept = {name for name in before if name in ("pki/ca.key", "pki/ca.crt", "admin-token")}
            after = contents(state)
            assert all(after[name] == before[name] for name in kept), "a secret was replaced"

    @pytest.mark.parametrize("name", ["etcd", "api", "ovn", "management"])
    @pytest.mark.parametrize("lost", ["crt", "key"])
    def test_what_is_lost_or_does_not_fit_is_made_again_and_only_that(
        self, installation: Installation, tmp_path: Path, name: str, lost: str
    ) -> None:
        state = tmp_path / "state"
        shutil.copytree(installation.ca_cert.parents[1], state)
        before = contents(state)
        path = state / "pki" / f"{name}.{lost}"
        for damage in (
            path.unlink,
            lambda: path.write_bytes(b"x"),
            lambda: path.write_bytes(key_to_pem(generate_key())),
        ):
            damage()
            check_complete(ensure_installation(state))
            after = contents(state)
            changed = {each for each in before if before[each] != after[each]}
            assert changed == {f"pki/{name}.crt", f"pki/{name}.key"}

    def test_other_names_give_new_server_certificates(self, tmp_path: Path) -> None:
        paths = ensure_installation(tmp_path)
        before = contents(tmp_path)
        ensure_installation(tmp_path, [*DEFAULT_SANS, "192.0.2.7", "fd00::1", "cloud.example.org"])
        names = subject_alternative_names(load_certificate(paths.api.cert.read_bytes()))
        assert {"192.0.2.7", "fd00::1", "cloud.example.org"} < set(names)
        after = contents(tmp_path)
        for kept in ("pki/ca.crt", "pki/ca.key", "pki/management.crt", "admin-token"):
            assert after[kept] == before[kept]

    def test_an_authority_without_its_key_is_not_replaced(self, tmp_path: Path) -> None:
        paths = ensure_installation(tmp_path)
        paths.ca_key.unlink()
        with pytest.raises(PkiError, match="restore it"):
            ensure_installation(tmp_path)
        assert not paths.ca_key.exists()

    def test_two_at_once_make_one_authority(self, tmp_path: Path) -> None:
        results: list[bytes] = []

        def ensure() -> None:
            results.append(ensure_installation(tmp_path).ca_cert.read_bytes())

        threads = [threading.Thread(target=ensure) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        assert len(set(results)) == 1
        check_complete(Installation.under(tmp_path))


class TestReloading:
    def test_each_new_connection_finds_the_files_as_they_are_then(self, tmp_path: Path) -> None:
        """Another certificate and other authorities to trust; a context that was given a CA would never forget it."""
        files = ensure_installation(tmp_path)
        first = CertificateAuthority.load(files.ca_cert, files.ca_key)
        build = partial(server_ssl_context, files.api.cert, files.api.key, files.ca_cert)
        context = ReloadingContext.of(build, files.api.cert, files.api.key, files.ca_cert)
        old = save(tmp_path, "old", first.issue_client("a", hours=1))
        second = CertificateAuthority.create("second")
        new = save(tmp_path, "new", second.issue_client("b", hours=1))
        assert accepted(context, old)
        assert not accepted(context, new)
        files.ca_cert.write_bytes(first.cert_pem + second.cert_pem)
        assert accepted(context, old)
        assert accepted(context, new)
        files.ca_cert.write_bytes(second.cert_pem)
        assert not accepted(context, old)
        assert accepted(context, new)

    def test_half_replaced_files_change_nothing_yet(self, tmp_path: Path) -> None:
        files = ensure_installation(tmp_path)
        build = partial(server_ssl_context, files.api.cert, files.api.key, files.ca_cert)
        context = ReloadingContext.of(build, files.api.cert, files.api.key, files.ca_cert)
        before, key = context.current, files.api.key.read_bytes()
        files.api.key.write_bytes(key_to_pem(generate_key()))
        assert context.current is before
        files.api.key.write_bytes(key)
        assert context.current is not before

    def test_a_missing_file_changes_nothing_yet(self, tmp_path: Path) -> None:
        files = ensure_installation(tmp_path)
        local = LocalAuthority(files.ca_cert, files.ca_key)
        before = local.current
        files.ca_key.rename(tmp_path / "aside")
        assert local.current is before
        (tmp_path / "aside").rename(files.ca_key)
        assert local.current.fingerprint == before.fingerprint


def accepted(context: ssl.SSLContext, credential: tuple[Path, Path]) -> bool:
    """Whether a connection by that context's memory BIOs, as asyncio makes it, takes the client's certificate."""
    inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(inner, outer, server_side=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname = False
    theirs.verify_mode = ssl.CERT_NONE
    theirs.load_cert_chain(*credential)
    client = theirs.wrap_bio(outer, inner, server_side=False)
    try:
        for _ in range(10):
            for side in (client, server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError:
        return False
    return peer_common_name(server) in ("a", "b")


ROTATING = """
import os, sys
from pathlib import Path
from vcstack.pki.authority import CertificateAuthority, find_issuer, load_certificate
from vcstack.pki.keys import key_from_pem
from vcstack.pki.installation import Installation, ensure_installation
from vcstack.pki.files import locked
from vcstack.pki.local import LocalAuthority, renew
from vcstack.pki.rotation import Authorities

class Killer:
    # Ends the process, without any cleaning up, before its k-th call to the file system.
    def __init__(self, k):
        self.left = k
    def __call__(self, event, args):
        if event in ("open", "os.rename", "os.utime", "fcntl.flock"):
            self.left -= 1
            if self.left < 0:
                os._exit(9)

def follow(files, record):
    local = LocalAuthority(files.ca_cert, files.ca_key)
    local.replace(record.current)
    with locked(files.ca_cert.parent):
        renew(files.services, local.current, hours=1)

folder = Path(sys.argv[1])
second = CertificateAuthority.create("second")
for k in range(1000):
    files = ensure_installation(folder / str(k))
    record = Authorities.first(CertificateAuthority.load(files.ca_cert, files.ca_key)).begin(second)
    steps = [record, record.switch(), record.switch().retire()]
    child = os.fork()
    if child == 0:
        sys.addaudithook(Killer(k))
        for step in steps:
            follow(files, step)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # What lies there fits together, as any program that is started now needs it.
    authority = CertificateAuthority.load(files.ca_cert, files.ca_key)
    for each in files.services:
        certificate = load_certificate(each.cert.read_bytes())
        assert find_issuer(certificate, authority.trusted), (k, each)
        assert certificate.public_key() == key_from_pem(each.key.read_bytes()).public_key(), (k, each)
    ensure_installation(folder / str(k))
    for step in steps:
        follow(files, step)
    assert files.ca_cert.read_bytes() == second.cert_pem, k
    assert CertificateAuthority.load(files.ca_cert, files.ca_key).fingerprint == second.fingerprint, k
    if code == 0:
        break
print(k)
"""


class TestFollowing:
    def test_killed_at_any_line_of_a_rotation_the_files_fit_and_the_next_start_goes_on(self, tmp_path: Path) -> None:
        done = subprocess.run([sys.executable, "-c", ROTATING, tmp_path], check=True, cwd=ROOT, capture_output=True)
        assert int(done.stdout) > 40
        for state in tmp_path.iterdir():
            check_complete(Installation.under(state))

    def test_the_key_that_signs_decides_which_of_the_bundle_is_the_authority(self) -> None:
        first, second = CertificateAuthority.create("a"), CertificateAuthority.create("b")
        both = first.cert_pem + second.cert_pem
        for each in (first, second):
            assert CertificateAuthority.of(both, each.key_pem).fingerprint == each.fingerprint
        with pytest.raises(PkiError, match="does not belong"):
            CertificateAuthority.of(both, key_to_pem(generate_key()))

    def test_the_bundle_is_the_same_whoever_signs_and_the_mark_is_not(self) -> None:
        record = Authorities.first(CertificateAuthority.create("a")).begin(CertificateAuthority.create("b"))
        assert record.current.bundle == record.switch().current.bundle
        assert record.current.mark != record.switch().current.mark
        assert Authorities.from_json(record.to_json()) == record


def test_who_waits_for_another_process_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vcstack.pki")
    entered = threading.Event()

    def enter() -> None:
        with locked(tmp_path):
            entered.set()

    with locked(tmp_path):
        waiting = threading.Thread(target=enter)
        waiting.start()
        while not caplog.messages:
            time.sleep(0.01)
        assert not entered.is_set()
    waiting.join()
    assert caplog.messages == [f"waiting for another process that works on the files in {tmp_path}"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"x", 0o600)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.daemons
def test_ovs_accepts_them_on_both_ends(installation: Installation, tmp_path: Path) -> None:
    """ovsdb-server with the ovn certificate, ovsdb-client as management; OVS asks for both by default."""
    files, user = installation.ovn, installation.management
    ca = f"--ca-cert={installation.ca_cert}"
    schema, database = tmp_path / "schema", tmp_path / "db"
    schema.write_text('{"name": "T", "version": "1.0.0", "tables": {"A": {"columns": {"x": {"type": "string"}}}}}')
    subprocess.run(["ovsdb-tool", "create", database, schema], check=True)
    port = free_port()
    server = [f"--remote=pssl:{port}:127.0.0.1", f"--private-key={files.key}", f"--certificate={files.cert}", ca]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "ovsdb-server", *server, f"--unixctl={tmp_path}/ctl", database],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            client = [f"--private-key={user.key}", f"--certificate={user.cert}", ca, "--timeout=5"]
            command = ["ovsdb-client", *client, "list-dbs", f"ssl:127.0.0.1:{port}"]
            for _ in range(100):
                answer = subprocess.run(command, check=False, capture_output=True, text=True)
                if answer.returncode == 0:
                    break
                time.sleep(0.05)
            assert "T" in answer.stdout.split(), answer.stderr
        finally:
            process.kill()
