"""The certificates of a manager's machine: renewed, taken over from the cloud's authority, reported, and measured."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.fakes.master_keys import credentials_on
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.etcd import EtcdServer, TlsFiles
from tests.fixtures.ports import free_port
from vcstack.pki.authority import (
    CertificateAuthority,
    Issued,
    fingerprint,
    is_issued_by,
    load_certificate,
    subject_alternative_names,
)
from vcstack.pki.installation import ETCD_CLIENT, Installation, ensure_installation
from vcstack.pki.keys import PkiError, generate_key_and_csr
from vcstack.pki.probe import HTTP, Endpoint, probe
from vcstack.pki.rotation import Authorities
from vcstack.programs.certificates import CertificateKeeper, LocalCertificates, find_endpoints
from vcstack.programs.expiries import ExpiryCollector
from vcstack.programs.settings import ManagementSettings, load_settings
from vcstack.specs.kinds.certificateauthority import INTERNAL
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.authorities import AuthorityRecords, Reports
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdError, OutcomeUnknown
from vcstack.store.etcd.lease import SharedLease
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.store import Store

KIND = get_kind("CertificateAuthority")
SYSTEM = Actor("system:controller:test", "test")


def write_settings(state: Path, installation: Installation, etcd: str, **pki: Any) -> ManagementSettings:
    client = {
        "caFile": str(installation.ca_cert),
        "certFile": str(installation.management.cert),
        "keyFile": str(installation.management.key),
    }
    config = {
        "stateDir": str(state),
        "etcd": {"endpoints": [etcd], **client},
        "ovn": {"northbound": "ssl:127.0.0.1:6641,unix:/x", "southbound": "ssl:[::1]:6642", **client},
        "api": {"certFile": str(installation.api.cert), "keyFile": str(installation.api.key)},
        "pki": {"caCertFile": str(installation.ca_cert), "caKeyFile": str(installation.ca_key), **pki},
        "imageDir": str(state / "images"),
    }
    path = state / "management.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_settings(path)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return ensure_installation(tmp_path / "state")


@pytest.fixture
async def tls_server(installation: Installation) -> AsyncIterator[EtcdServer]:
    """An etcd with this test's own certificates."""
    server = EtcdServer(TlsFiles(installation), ())
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.discard)


def served(files: Installation) -> dict[str, bytes]:
    return {each.cert.name: each.cert.read_bytes() for each in files.services}


def test_what_is_due_is_renewed_with_its_key_names_and_usages(tmp_path: Path, installation: Installation) -> None:
    settings = write_settings(tmp_path / "state", installation, "127.0.0.1:1", serviceCertificateHours=48)
    authority = CertificateAuthority.load(installation.ca_cert, installation.ca_key)
    before = load_certificate(installation.etcd.cert.read_bytes())
    old = authority.reissue(before, hours=0)
    installation.etcd.cert.write_bytes(old)
    others = {name: pem for name, pem in served(installation).items() if name != "etcd.crt"}
    os.utime(installation.etcd.key, (0, 0))
    held = LocalCertificates(settings).renew()
    after = load_certificate(installation.etcd.cert.read_bytes())
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()
    for extension in ("subjectAltName", "extendedKeyUsage", "basicConstraints", "keyUsage"):
        values = [next(e.value for e in c.extensions if e.oid._name == extension) for c in (before, after)]
        assert values[0] == values[1]
    assert installation.etcd.key.stat().st_mtime_ns > 0, "ovsdb-server would not look at the certificate"
    assert {name: pem for name, pem in served(installation).items() if name != "etcd.crt"} == others
    assert {h.path.stem for h in held} == {"etcd", "api", "ovn", "management"}
    assert {h.issuer for h in held} == {authority.fingerprint}


def test_the_name_that_etcd_asks_for_is_added_where_it_is_missing_and_nowhere_else(
    tmp_path: Path, installation: Installation
) -> None:
    """As at the start after an update, before anything is asked of etcd."""
    settings = write_settings(tmp_path / "state", installation, "127.0.0.1:1")
    authority = CertificateAuthority.load(installation.ca_cert, installation.ca_key)
    made = {
        installation.management: authority.issue_client("system:management", hours=48),
        installation.etcd: authority.issue_server("etcd", ["127.0.0.1"], hours=48, also_client=True),
    }
    for files, issued in made.items():
        files.key.write_bytes(issued.key)
        files.cert.write_bytes(issued.cert)
    others = {name: pem for name, pem in served(installation).items() if name in ("api.crt", "ovn.crt")}
    local = LocalCertificates(settings)
    local.renew()
    names = {files.cert.stem: subject_alternative_names(load_certificate(files.cert.read_bytes())) for files in made}
    assert names == {"management": [ETCD_CLIENT], "etcd": ["127.0.0.1", ETCD_CLIENT]}
    assert all(files.key.read_bytes() == issued.key for files, issued in made.items())
    assert all(ETCD_CLIENT.encode() not in ssl.PEM_cert_to_DER_cert(pem.decode()) for pem in others.values())
    assert ETCD_CLIENT in local.find_names(), "tenants would get it"
    after = served(installation)
    assert {name: after[name] for name in others} == others
    local.renew()
    assert served(installation) == after


def test_a_certificate_of_another_authority_is_left_alone(tmp_path: Path, installation: Installation) -> None:
    settings = write_settings(tmp_path / "state", installation, "127.0.0.1:1")
    public = CertificateAuthority.create("a public one").issue_server("api", ["cloud.example.org"], hours=0)
    installation.api.cert.write_bytes(public.cert)
    installation.api.key.write_bytes(public.key)
    held = LocalCertificates(settings).renew()
    assert installation.api.cert.read_bytes() == public.cert
    assert "api" not in {h.path.stem for h in held}


def test_the_machine_follows_each_step_and_what_lies_there_always_fits(
    tmp_path: Path, installation: Installation
) -> None:
    settings = write_settings(tmp_path / "state", installation, "127.0.0.1:1")
    local = LocalCertificates(settings)
    first = local.authority.current
    record = Authorities.first(first).begin(CertificateAuthority.create("second"))
    os.utime(installation.ca_cert, (0, 0))

    local.follow(record)
    assert len(local.authority.current.trusted) == 2
    assert local.authority.current.fingerprint == first.fingerprint
    assert installation.ca_cert.stat().st_mtime_ns != 0

    bundle = installation.ca_cert.stat().st_mtime_ns
    held = local.follow(record.switch())
    assert local.authority.current.fingerprint == record.newest.fingerprint
    assert {h.issuer for h in held} == {record.newest.fingerprint}
    assert installation.ca_cert.stat().st_mtime_ns == bundle, "etcd would be restarted for nothing"

    local.follow(record.switch().retire())
    assert [fingerprint(c) for c in local.authority.current.trusted] == [record.newest.fingerprint]
    ensure_installation(tmp_path / "state")
    assert installation.ca_cert.read_bytes() == record.newest.certificate


def test_a_machine_of_another_cloud_is_not_taken_over(tmp_path: Path, installation: Installation) -> None:
    local = LocalCertificates(write_settings(tmp_path / "state", installation, "127.0.0.1:1"))
    before = served(installation)
    with pytest.raises(PkiError, match="another cloud"):
        local.follow(Authorities.first(CertificateAuthority.create()))
    assert served(installation) == before


def test_the_servers_to_ask_are_those_with_tls(tmp_path: Path, installation: Installation) -> None:
    settings = write_settings(tmp_path / "state", installation, "[::1]:2379")
    found = [(e.name.split()[0], e.host, e.port) for e in find_endpoints(settings)]
    assert found == [("etcd", "::1", 2379), ("northbound", "127.0.0.1", 6641), ("southbound", "::1", 6642)]


def test_servers_of_another_authority_are_not_waited_for(tmp_path: Path, installation: Installation) -> None:
    settings = write_settings(tmp_path / "state", installation, "[::1]:2379")
    settings.etcd.ca_file = tmp_path / "of-another.crt"
    assert [e.name.split()[0] for e in find_endpoints(settings)] == ["northbound", "southbound"]


def test_a_certificate_with_its_ends_is_a_figure_for_prometheus(tmp_path: Path, installation: Installation) -> None:
    settings = write_settings(tmp_path / "state", installation, "127.0.0.1:1")
    held = LocalCertificates(settings).renew()

    async def measure() -> bytes:
        etcd = MemoryEtcd()
        async with Store(etcd, credentials=credentials_on(etcd)) as store:
            host = {"metadata": {"name": "h1"}, "spec": {}}
            await store.create(get_kind("Host"), host, actor=SYSTEM)
            ends = {"certificateExpiresAt": "2030-01-01T00:00:00Z"}
            await store.patch_status(get_kind("Host"), None, "h1", ends, actor=SYSTEM)
            registry = CollectorRegistry()
            registry.register(ExpiryCollector(store.cache, lambda: held))
            return generate_latest(registry)

    text = asyncio.run(measure()).decode()
    name = "vcstack_certificate_expiry_timestamp_seconds"
    assert f'{name}{{kind="Host",name="h1",project=""}} 1.8934560e+09' in text.replace("1.893456e", "1.8934560e")
    for service in ("api", "etcd", "ovn", "management"):
        assert f'{name}{{kind="Service",name="{service}",project=""}}' in text


@pytest.mark.daemons
async def test_a_process_takes_the_authority_over_while_its_calls_go_on(
    tmp_path: Path, installation: Installation, tls_server: EtcdServer
) -> None:
    """A whole rotation against a real etcd, restarted where it has to be; no call of the client fails."""
    settings = write_settings(tmp_path / "state", installation, tls_server.endpoint)
    files = installation.management
    patience = EtcdSettings(
        endpoints=(tls_server.endpoint,),
        ca_file=installation.ca_cert,
        cert_file=files.cert,
        key_file=files.key,
        request_timeout_seconds=60,  # etcd's restart takes what it takes on a busy machine
    )
    async with EtcdClient(patience) as etcd, SharedLease(etcd) as lease:
        credentials = credentials_on(etcd)
        async with Store(etcd, credentials=credentials) as store:
            records = AuthorityRecords(credentials)
            keeper = CertificateKeeper(LocalCertificates(settings), etcd, lease, store.cache, records, "m1")
            await keeper.start()
            await store.create(KIND, {"metadata": {"name": INTERNAL}, "spec": {}}, actor=SYSTEM)
            done, failed, stop = 0, list[Exception](), asyncio.Event()

            async def call() -> None:
                nonlocal done
                while not stop.is_set():
                    try:
                        await etcd.put(b"/load", str(done).encode())
                        found = (await etcd.get(b"/load")).kv
                        assert found is not None
                        assert int(found.value) == done
                        done += 1
                    except OutcomeUnknown:
                        continue  # read back and repeated, as the store does
                    except (EtcdError, AssertionError) as error:
                        failed.append(error)
                    await asyncio.sleep(0.005)

            calling = asyncio.create_task(call())
            old = await records.find(INTERNAL)
            assert old is not None
            second = old.begin(CertificateAuthority.create("second"))
            endpoint = Endpoint("etcd", *_split(tls_server.endpoint), HTTP)
            fresh = second.newest.authority.issue_client("system:probe", hours=1, sans=(ETCD_CLIENT,))
            assert not (await probe(endpoint, fresh)).accepted

            for step, restarts in ((second, True), (second.switch(), False), (second.switch().retire(), True)):
                await records.change(INTERNAL, (await records.find(INTERNAL)) or old, step)
                shown = {"version": step.issuing, "waitingFor": [str(len(step.versions))]}
                await store.patch_status(KIND, None, INTERNAL, shown, actor=SYSTEM)
                wanted = (frozenset(v.fingerprint for v in step.versions), frozenset({step.current.fingerprint}))
                async with asyncio.timeout(60):
                    while [(r.trusted, r.issuers) for r in await Reports(etcd).list()] != [wanted]:
                        await keeper.look()
                        await asyncio.sleep(0.01)
                if restarts:
                    await asyncio.to_thread(tls_server.restart)
                before = done
                async with asyncio.timeout(60):
                    while done < before + 3:
                        await asyncio.sleep(0.01)

            seen = await probe(endpoint, fresh)
            assert seen.accepted
            assert seen.certificate is not None
            assert is_issued_by(seen.certificate, second.newest.x509)
            former = old.current.issue_client("system:management", hours=1, sans=(ETCD_CLIENT,))
            assert not (await probe(endpoint, former)).accepted
            key, csr = generate_key_and_csr("h1")
            host = Issued(second.newest.authority.sign_csr(csr, "system:host:h1", hours=1, uid="u-1"), key)
            assert not (await probe(endpoint, host)).accepted, "a host's opens etcd"
            stop.set()
            await calling
            assert not failed
            assert done > 10


async def test_a_server_that_does_not_answer_is_told_from_one_that_refuses() -> None:
    credential = CertificateAuthority.create().issue_client("system:probe", hours=1)
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await probe(Endpoint("nobody", "127.0.0.1", free_port(), HTTP), credential)


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def test_reports_and_records_hold_no_key_in_the_clear(tmp_path: Path, installation: Installation) -> None:
    async def write() -> dict[bytes, bytes]:
        etcd = MemoryEtcd()
        records = AuthorityRecords(credentials_on(etcd))
        authority = CertificateAuthority.load(installation.ca_cert, installation.ca_key)
        await records.ensure(INTERNAL, lambda: Authorities.first(authority))
        return {kv.key: kv.value for kv in (await etcd.range(b"/")).kvs}

    kept = asyncio.run(write())
    secret = installation.ca_key.read_text().splitlines()[1]
    assert kept
    assert all(secret.encode() not in value and b"PRIVATE" not in value for value in kept.values())
