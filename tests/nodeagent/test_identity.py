"""A host's identity against the real API: joining once, keeping its key, renewing in time."""

import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fixtures.api import SYSTEM, Api
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.hosts import HostClient
from vcstack.nodeagent.identity import Identity, JoinError
from vcstack.pki.authority import CertificateAuthority, load_certificate
from vcstack.pki.files import PRIVATE, PUBLIC, write_atomically
from vcstack.pki.keys import common_name, key_from_pem
from vcstack.specs.errors import Forbidden
from vcstack.specs.registry import get_kind


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    (tmp_path / "pki").mkdir()
    return Identity(tmp_path / "pki", "h1")


@pytest.fixture
async def token_file(admin: ApiClient, tmp_path: Path) -> Path:
    path = tmp_path / "join-token"
    path.write_text((await HostClient(admin.connection).create_join_token("h1")).token)
    return path


@contextlib.asynccontextmanager
async def connected(api: Api, identity: Identity | None = None) -> AsyncIterator[HostClient]:
    files = {"cert_file": identity.certificate, "key_file": identity.key} if identity else {}
    async with Connection(api.settings(token=None, **files)) as connection:
        yield HostClient(connection)


async def join(api: Api, identity: Identity, token_file: Path | None) -> None:
    async with connected(api) as client:
        await identity.join(client, token_file, zone="z1", labels={})


def age(api: Api, identity: Identity) -> None:
    """Put a certificate for the same key in place, of whose hour 50 minutes are over."""
    authority = x509.load_pem_x509_certificate(api.installation.ca_cert.read_bytes())
    now = datetime.now(UTC)
    present = load_certificate(identity.certificate.read_bytes())
    builder = x509.CertificateBuilder(
        issuer_name=authority.subject,
        subject_name=common_name("system:host:h1"),
        public_key=key_from_pem(identity.key.read_bytes()).public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=50),
        not_valid_after=now + timedelta(minutes=10),
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = builder.add_extension(names, critical=False)
    made = builder.sign(key_from_pem(api.installation.ca_key.read_bytes()), hashes.SHA256())
    identity.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


async def test_joining_leaves_a_private_key_and_a_certificate_of_the_host(
    api: Api, identity: Identity, token_file: Path
) -> None:
    await join(api, identity, token_file)
    assert identity.joined
    assert identity.key.stat().st_mode & 0o777 == 0o600
    async with connected(api, identity) as client:
        assert (await client.beat("h1")).ttl_seconds > 0


async def test_who_has_joined_needs_no_token_any_more(api: Api, identity: Identity, token_file: Path) -> None:
    await join(api, identity, token_file)
    before = identity.certificate.read_bytes()
    await join(api, identity, None)
    assert identity.certificate.read_bytes() == before


async def test_without_a_token_joining_says_what_is_missing(api: Api, identity: Identity, tmp_path: Path) -> None:
    for token_file in (None, tmp_path / "none"):
        with pytest.raises(JoinError, match="has not joined yet"):
            await join(api, identity, token_file)


async def test_killed_after_the_token_was_taken_it_joins_with_the_same_key(
    api: Api, identity: Identity, token_file: Path
) -> None:
    await join(api, identity, token_file)
    identity.certificate.unlink()  # the answer never arrived
    key = identity.key.read_bytes()
    await join(api, identity, token_file)
    assert identity.joined
    assert identity.key.read_bytes() == key


async def test_a_certificate_is_renewed_when_due_and_works_on_the_open_connection(
    api: Api, identity: Identity, token_file: Path
) -> None:
    await join(api, identity, token_file)
    key = identity.key.read_bytes()
    age(api, identity)
    due = identity.expires_at()
    async with connected(api, identity) as client:
        assert await identity.renew_if_due(client)
        assert identity.expires_at() > due
        assert not await identity.renew_if_due(client)
        assert (await client.beat("h1")).ttl_seconds > 0
    assert identity.key.read_bytes() == key
    renewed = load_certificate(identity.certificate.read_bytes())
    assert renewed.public_key() == key_from_pem(key).public_key()


async def test_a_machine_whose_host_was_made_anew_renews_nothing_and_joins_as_it_is_told(
    api: Api, identity: Identity, token_file: Path, admin: ApiClient
) -> None:
    await join(api, identity, token_file)
    host = await api.store.get(get_kind("Host"), None, "h1")
    await api.store.delete(get_kind("Host"), None, "h1", actor=SYSTEM)
    await api.store.finalize(get_kind("Host"), None, "h1", host.wire["metadata"]["finalizers"], actor=SYSTEM)
    await api.store.create(get_kind("Host"), {"metadata": {"name": "h1"}, "spec": {}}, actor=SYSTEM)
    age(api, identity)
    before = identity.certificate.read_bytes()
    async with connected(api, identity) as client:
        with pytest.raises(Forbidden, match=r"another Host has the name now; to join again, remove pki/host\.crt"):
            await identity.renew_if_due(client)
        assert identity.certificate.read_bytes() == before
        identity.certificate.unlink()
        write_atomically(
            token_file, (await HostClient(admin.connection).create_join_token("h1")).token.encode(), PRIVATE
        )
        await join(api, identity, token_file)
    async with connected(api, identity) as client:
        assert (await client.beat("h1")).ttl_seconds > 0


async def test_ovn_controller_gets_each_pair_under_names_of_its_own(
    api: Api, identity: Identity, token_file: Path
) -> None:
    await join(api, identity, token_file)
    first = identity.ensure_chassis_pair()
    assert first == identity.ensure_chassis_pair()
    assert first.key.stat().st_mode & 0o777 == 0o600
    age(api, identity)
    second = identity.ensure_chassis_pair()
    assert not {first.key, first.certificate} & {second.key, second.certificate}
    assert second.certificate.read_bytes() == identity.certificate.read_bytes()
    assert first.key.exists()  # it may not have seen the new name yet
    for path in first:
        os.utime(path, (0, 0))
    identity.ensure_chassis_pair()
    assert sorted(identity.key.parent.glob("chassis-*")) == sorted(second)


async def test_a_half_written_pair_is_completed(api: Api, identity: Identity, token_file: Path) -> None:
    await join(api, identity, token_file)
    pair = identity.ensure_chassis_pair()
    pair.certificate.unlink()
    assert identity.ensure_chassis_pair() == pair
    assert pair.certificate.read_bytes() == identity.certificate.read_bytes()


async def test_a_host_takes_over_another_authority_as_soon_as_a_heartbeat_tells(
    api: Api, identity: Identity, token_file: Path
) -> None:
    """Asked only when something changed; then whom to trust comes with the certificate."""
    await join(api, identity, token_file)
    files = api.installation
    bundle, key = files.ca_cert.read_bytes(), files.ca_key.read_bytes()
    successor = CertificateAuthority.create("successor")
    async with connected(api, identity) as client:
        assert (await client.beat("h1")).authority == identity.trust().mark
        assert not await identity.renew_if_due(client, identity.trust().mark)
        try:
            write_atomically(files.ca_cert, bundle + successor.cert_pem, PUBLIC)
            mark = (await client.beat("h1")).authority
            assert mark != identity.trust().mark
            assert await identity.renew_if_due(client, mark)
            trust = identity.trust()
            assert (trust.mark, len(trust.trusted)) == (mark, 2)
            assert trust.issuer != successor.fingerprint

            write_atomically(files.ca_key, successor.key_pem, PRIVATE)
            assert await identity.renew_if_due(client, (await client.beat("h1")).authority)
            assert identity.trust().issuer == successor.fingerprint
        finally:
            write_atomically(files.ca_key, key, PRIVATE)
            write_atomically(files.ca_cert, bundle, PUBLIC)


async def test_until_it_has_joined_a_host_trusts_whom_the_settings_name(
    api: Api, identity: Identity, token_file: Path, tmp_path: Path
) -> None:
    for content in (b"wrong", api.installation.ca_cert.read_bytes()):
        (tmp_path / "given").write_bytes(content)
        identity.ensure_ca(tmp_path / "given")
        assert identity.ca.read_bytes() == content
    await join(api, identity, token_file)
    (tmp_path / "given").unlink()
    identity.ensure_ca(tmp_path / "given")
    assert identity.ca.read_bytes() == api.installation.ca_cert.read_bytes()
