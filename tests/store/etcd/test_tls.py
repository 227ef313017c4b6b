"""TLS towards a real etcd that asks for client certificates."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.etcd import EtcdServer
from tests.fixtures.tcp_proxy import TcpProxy
from vcstack.pki.authority import CertificateAuthority
from vcstack.pki.files import PRIVATE, PUBLIC, Credential, write_atomically
from vcstack.pki.installation import ETCD_CLIENT
from vcstack.pki.keys import generate_key_and_csr
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.election import Election
from vcstack.store.etcd.errors import EtcdUnavailable, OutcomeUnknown
from vcstack.store.etcd.settings import EtcdSettings

pytestmark = pytest.mark.daemons

KEY = b"/vcstack/test/key"


async def put(settings: EtcdSettings, seconds: float = 3) -> None:
    async with EtcdClient(replace(settings, request_timeout_seconds=seconds)) as client:
        await client.put(KEY, b"")


async def assert_refused(etcd: EtcdServer, settings: EtcdSettings, because: str = "") -> None:
    """Nothing is written with these settings, and the error says why as soon as gRPC has tried to connect.

    The outcome is unknown to the client where its time ends while gRPC connects once more with the write at hand.
    """
    async with EtcdClient(etcd.settings) as client, asyncio.timeout(60):
        await client.delete(KEY)
        said = None
        while said is None or because not in said:
            with pytest.raises((EtcdUnavailable, OutcomeUnknown)) as refused:
                await put(settings)
            said = str(refused.value)
        assert (await client.get(KEY)).kv is None


async def test_everything_works_with_the_management_certificate(tls_etcd: EtcdServer) -> None:
    async with EtcdClient(tls_etcd.settings) as client, Election(client, "e", "me") as election:
        written = await client.put(KEY, b"")
        assert (await election.campaign()).held
        async with client.watch(KEY, written.revision) as watch, asyncio.timeout(60):
            assert (await anext(watch)).events[0].kv.key == KEY


async def test_etcd_is_found_by_its_name_as_well_as_by_its_address(tls_etcd: EtcdServer) -> None:
    await put(replace(tls_etcd.settings, endpoints=(f"localhost:{tls_etcd.port}",)), seconds=60)


async def test_a_client_without_a_certificate_is_refused(tls_etcd: EtcdServer) -> None:
    await assert_refused(tls_etcd, replace(tls_etcd.settings, cert_file=None, key_file=None))


async def test_a_client_without_tls_is_refused(tls_etcd: EtcdServer) -> None:
    await assert_refused(tls_etcd, EtcdSettings(endpoints=tls_etcd.settings.endpoints))


async def test_a_certificate_of_another_authority_is_refused(tls_etcd: EtcdServer, tmp_path: Path) -> None:
    issued = CertificateAuthority.create().issue_client("system:management", hours=1, sans=(ETCD_CLIENT,))
    write_atomically(tmp_path / "crt", issued.cert, PUBLIC)
    write_atomically(tmp_path / "key", issued.key, PRIVATE)
    await assert_refused(tls_etcd, replace(tls_etcd.settings, cert_file=tmp_path / "crt", key_file=tmp_path / "key"))


async def test_a_certificate_for_servers_only_is_refused(tls_etcd: EtcdServer) -> None:
    assert tls_etcd.tls is not None
    api = tls_etcd.tls.installation.api
    await assert_refused(tls_etcd, replace(tls_etcd.settings, cert_file=api.cert, key_file=api.key))


async def test_what_lets_a_host_or_ovn_in_elsewhere_neither_reads_nor_writes(
    tls_etcd: EtcdServer, tmp_path: Path
) -> None:
    """Their certificates are of the same authority, and for clients: etcd asks for a name that they do not have."""
    assert tls_etcd.tls is not None
    files = tls_etcd.tls.installation
    key, csr = generate_key_and_csr(ETCD_CLIENT)  # whatever it asks for
    signed = CertificateAuthority.load(files.ca_cert, files.ca_key).sign_csr(csr, "system:host:h1", hours=1, uid="u-1")
    host = Credential(tmp_path / "crt", tmp_path / "key")
    write_atomically(host.cert, signed, PUBLIC)
    write_atomically(host.key, key, PRIVATE)
    for each in (host, files.ovn):
        settings = replace(tls_etcd.settings, cert_file=each.cert, key_file=each.key)
        await assert_refused(tls_etcd, settings)
        async with EtcdClient(replace(settings, request_timeout_seconds=3)) as client:
            with pytest.raises(EtcdUnavailable):
                await client.get(KEY)


async def test_an_etcd_of_another_authority_is_not_trusted(tls_etcd: EtcdServer, tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(CertificateAuthority.create().cert_pem)
    await assert_refused(tls_etcd, replace(tls_etcd.settings, ca_file=tmp_path / "ca"), "CERTIFICATE_VERIFY_FAILED")


async def test_an_etcd_under_an_address_that_is_not_in_its_certificate_is_not_trusted(
    tls_etcd: EtcdServer, proxy_of: Callable[..., Awaitable[TcpProxy]]
) -> None:
    proxy = await proxy_of(tls_etcd.port, "127.0.0.2")
    await assert_refused(
        tls_etcd, replace(tls_etcd.settings, endpoints=(proxy.endpoint,)), "Hostname Verification Check failed"
    )
