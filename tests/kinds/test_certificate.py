"""Certificates of tenants: issued, kept in a Secret, renewed, revoked; and good for nothing of the cloud's own."""

import asyncio
import ipaddress
import socket
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fakes.master_keys import credentials_on
from tests.fakes.world import PROJECT, World, sweep
from tests.fixtures.api import Api
from tests.kinds.identities import make_project
from vcstack.controllers import certificate as controller
from vcstack.controllers import project as projects
from vcstack.controllers.certificate import CERTIFICATE_RECORDS, PROJECT_AUTHORITIES, RESERVED_NAMES
from vcstack.pki.authority import CertificateAuthority, load_certificate, load_certificates
from vcstack.pki.records import MOST_ISSUED, MOST_REVOKED, Revocations
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.certificate import (
    EXPIRING,
    ISSUED,
    Certificate,
    CertificateKeyAlgorithm,
    CertificateSpec,
    Usage,
)
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.quota import Quota, QuotaSpec
from vcstack.specs.kinds.secret import Secret, SecretSpec
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.meta import ConditionStatus
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.authorities import AuthorityRecords, CertificateRecords
from vcstack.store.credentials import Credentials

HOUR = 3600
RESERVED = ("cloud.example.org", "10.98.0.1", "localhost")


class Mortal:
    """Records as the controller reaches them: each call is one at which it may be killed."""

    def __init__(self, world: World, records: Any) -> None:
        self._world, self._records = world, records

    def __getattr__(self, name: str) -> Any:
        crasher = self._world.crasher
        return getattr(self._records if crasher is None else crasher.wrap(self._records), name)


def prepare(world: World) -> Credentials:
    """Give the controller its records, and start it anew."""
    credentials = credentials_on(world.etcd, clock=world.clock)
    world.backends[PROJECT_AUTHORITIES.name] = Mortal(world, AuthorityRecords(credentials))
    world.backends[CERTIFICATE_RECORDS.name] = Mortal(world, CertificateRecords(credentials))
    world.backends[RESERVED_NAMES.name] = lambda: RESERVED
    world.restart()
    return credentials


async def make(world: World, name: str = "web", project: str = PROJECT, **spec: Any) -> Certificate:
    spec = {"dns_names": ["web.example.org"], "secret_name": f"{name}-tls", **spec}
    return await world.create(Certificate.new(name, CertificateSpec(**spec), project=project))


async def settled(world: World, name: str = "web", project: str = PROJECT) -> Certificate:
    await world.settle(controller.build)
    return await world.get(Certificate, name, project)


async def change(world: World, **spec: Any) -> Certificate:
    found = await world.get(Certificate, "web")
    return await world.admin.update(found.model_copy(update={"spec": found.spec.model_copy(update=spec)}))


async def read_secret(world: World, name: str = "web-tls", project: str = PROJECT) -> dict[str, str]:
    shown = await world.store.reveal(get_kind("Secret"), project, name)
    data: dict[str, str] = shown["spec"]["data"]
    return data


def leaf_of(data: dict[str, str]) -> x509.Certificate:
    return load_certificate(data["certificate"].encode())


def reason_of(certificate: Certificate, type_: str = ISSUED) -> str:
    condition = certificate.find_condition(type_)
    assert condition is not None
    assert condition.status is not ConditionStatus.TRUE
    return str(condition.reason)


def verify(folder: Path, data: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """What openssl says to the certificate with the authority and the list of what is revoked."""
    for name in ("certificate", "ca", "crl"):
        (folder / name).write_text(data[name])
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", folder / "crl", "-CAfile", folder / "ca"]
    return subprocess.run([*command, *options, folder / "certificate"], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("algorithm", list(CertificateKeyAlgorithm))
async def test_a_certificate_lies_in_its_secret_with_its_key_and_openssl_finds_it_correct(
    world: World, tmp_path: Path, algorithm: CertificateKeyAlgorithm
) -> None:
    prepare(world)
    await make_project(world)
    await make(
        world, ip_addresses=["192.0.2.7", "2001:db8::7"], usages=list(Usage), key_algorithm=algorithm, duration_hours=48
    )
    made = await settled(world)
    assert made.is_true("Ready")
    assert not made.is_true(EXPIRING)
    data = await read_secret(world)
    assert set(data) == {"certificate", "privateKey", "ca", "crl"}
    leaf = leaf_of(data)
    key = load_pem_private_key(data["privateKey"].encode(), None)
    assert key.public_key() == leaf.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web.example.org"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")]
    assert made.status.serial_number == f"{leaf.serial_number:x}"
    assert made.status.expires_at == leaf.not_valid_after_utc == world.clock.now() + timedelta(hours=48)
    assert made.status.renew_at == world.clock.now() + timedelta(hours=32)
    at = ["-attime", str(int(world.clock.now().timestamp()))]
    for purpose in ("sslserver", "sslclient"):
        said = verify(tmp_path, data, "-purpose", purpose, *at)
        assert said.returncode == 0, said.stderr
    assert await world.writes_of(controller.build) == 0


@pytest.mark.parametrize(
    ("times", "renewed_after"),
    [
        ({"duration_hours": 30, "renew_before_hours": 10}, 20.0),
        ({"duration_hours": 1}, 2 / 3),
        ({"duration_hours": 2}, 4 / 3),
    ],
)
async def test_it_is_renewed_in_time_with_a_new_key_and_the_old_one_ends_by_itself(
    world: World, times: dict[str, int], renewed_after: float
) -> None:
    """However short its life is, it is not renewed all the time."""
    prepare(world)
    await make_project(world)
    await make(world, **times)
    before, first = await settled(world), await read_secret(world)
    world.clock.skip(renewed_after * HOUR * 0.95)
    assert (await settled(world)).status.serial_number == before.status.serial_number
    world.clock.skip(renewed_after * HOUR * 0.1)
    after, second = await settled(world), await read_secret(world)
    assert after.status.serial_number != before.status.serial_number
    assert second["privateKey"] != first["privateKey"]
    assert second["ca"] == first["ca"]
    assert len(list(x509.load_pem_x509_crl(second["crl"].encode()))) == 0
    assert after.status.renew_at is not None
    assert after.status.renew_at > world.clock.now()
    assert {"Issued", "Renewed"} <= set(await world.event_reasons())
    assert await world.writes_of(controller.build) == 0


async def test_other_names_give_another_certificate_and_the_former_is_revoked(world: World, tmp_path: Path) -> None:
    prepare(world)
    await make_project(world)
    await make(world)
    await settled(world)
    former = await read_secret(world)
    await change(world, dns_names=["other.example.org"])
    await settled(world)
    data = await read_secret(world)
    assert leaf_of(data).serial_number != leaf_of(former).serial_number
    listed = x509.load_pem_x509_crl(data["crl"].encode())
    assert [r.serial_number for r in listed] == [leaf_of(former).serial_number]
    at = ["-attime", str(int(world.clock.now().timestamp()))]
    assert verify(tmp_path, data, *at).returncode == 0
    assert "revoked" in verify(tmp_path, {**former, "crl": data["crl"]}, *at).stderr


async def test_one_that_is_deleted_is_revoked_its_secret_and_key_are_gone_and_others_learn_it(world: World) -> None:
    credentials = prepare(world)
    await make_project(world)
    await make(world)
    await make(world, "api", dns_names=["api.example.org"])
    gone = await settled(world)
    serial = leaf_of(await read_secret(world)).serial_number
    await world.delete(gone)
    await world.settle(controller.build)
    assert await world.find(Certificate, "web") is None
    assert await world.find(Secret, "web-tls") is None or (await world.get(Secret, "web-tls")).deleting
    assert await credentials.get(f"certificates/{gone.uid}") is None
    crl = x509.load_pem_x509_crl((await read_secret(world, "api-tls"))["crl"].encode())
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None


async def test_the_list_of_what_is_revoked_is_made_anew_before_it_ends(world: World) -> None:
    prepare(world)
    await make_project(world)
    await make(world, duration_hours=24 * 100)
    await settled(world)
    for _ in range(4):
        world.clock.skip(10 * 24 * HOUR)
        await settled(world)
        crl = x509.load_pem_x509_crl((await read_secret(world))["crl"].encode())
        assert crl.next_update_utc is not None
        assert crl.next_update_utc > world.clock.now() + timedelta(days=5)


async def revoke_many(world: World, credentials: Credentials, project: Project, count: int, days: int) -> None:
    """Have so many others be revoked that end after so many days."""
    now = world.clock.now()
    many = {f"{2**158 + n:x}": (now.isoformat(), (now + timedelta(days=days)).isoformat()) for n in range(count)}
    await CertificateRecords(credentials).revoke(
        project.uid, lambda before: Revocations({**before.revoked, **many}, "", before.number, "", before.authority)
    )


async def test_who_makes_and_deletes_many_stops_no_renewal_and_all_are_revoked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "MOST_ISSUED", 4)
    prepare(world)
    await make_project(world)
    await make(world, duration_hours=24 * 30)
    gone = []
    for name in ("one", "two", "three", "four"):
        await make(world, name, duration_hours=24 * 60)
        made = await settled(world, name)
        if name == "four":
            assert reason_of(made) == "TooManyRevoked"
            message = made.find_condition(ISSUED).message  # type: ignore[union-attr]
            assert "1 certificates that are good and 3 that are revoked" in message
            assert "durationHours" in message
            assert await world.find(Secret, "four-tls") is None
        else:
            gone.append(int(str(made.status.serial_number), 16))
            await world.delete(made)
            await world.settle(controller.build)
    before = await read_secret(world)
    world.clock.skip(24 * 21 * HOUR)  # the first is due, and those that are deleted have not ended
    assert (await settled(world)).is_true("Ready")
    after = await read_secret(world)
    assert after["certificate"] != before["certificate"]
    crl = x509.load_pem_x509_crl(after["crl"].encode())
    assert {each.serial_number for each in crl} == set(gone)
    world.clock.skip(24 * 40 * HOUR)
    assert (await settled(world, "four")).is_true("Ready")


async def test_other_names_wait_for_room_on_the_list_at_most_until_the_renewal(world: World) -> None:
    credentials = prepare(world)
    project = await make_project(world)
    await make(world, duration_hours=24 * 30)
    await settled(world)
    former = leaf_of(await read_secret(world))
    await revoke_many(world, credentials, project, MOST_ISSUED - 1, 100)
    await change(world, dns_names=["other.example.org"])
    assert reason_of(await settled(world)) == "TooManyRevoked"
    assert leaf_of(await read_secret(world)) == former
    world.clock.skip(24 * 21 * HOUR)
    assert (await settled(world)).is_true("Ready")
    data = await read_secret(world)
    assert leaf_of(data) != former
    crl = x509.load_pem_x509_crl(data["crl"].encode())
    assert crl.get_revoked_certificate_by_serial_number(former.serial_number) is None


async def test_one_that_is_deleted_waits_for_room_on_a_full_list_which_a_secret_can_hold(world: World) -> None:
    credentials = prepare(world)
    project = await make_project(world)
    await make(world, duration_hours=24 * 30)
    await make(world, "api", duration_hours=24 * 30)
    await settled(world)
    leaf = leaf_of(await read_secret(world))
    await revoke_many(world, credentials, project, MOST_REVOKED, 9)
    await world.delete(await world.get(Certificate, "web"))
    held = await settled(world)
    assert reason_of(held) == "TooManyRevoked"
    assert "full" in held.find_condition(ISSUED).message  # type: ignore[union-attr]
    world.clock.skip(8 * 24 * HOUR)  # a new list is due, the longest that there can be
    await world.settle(controller.build)
    crl = x509.load_pem_x509_crl((await read_secret(world, "api-tls"))["crl"].encode())
    assert len(crl) == MOST_REVOKED
    world.clock.skip(2 * 24 * HOUR)
    await world.settle(controller.build)
    assert await world.find(Certificate, "web") is None
    crl = x509.load_pem_x509_crl((await read_secret(world, "api-tls"))["crl"].encode())
    assert [each.serial_number for each in crl] == [leaf.serial_number]


async def test_a_secret_that_was_changed_or_deleted_is_put_right_with_the_same_certificate(world: World) -> None:
    prepare(world)
    await make_project(world)
    await make(world)
    await settled(world)
    data = await read_secret(world)
    secret = await world.get(Secret, "web-tls")
    changed = SecretSpec(type=secret.spec.type, data={"certificate": "x", "privateKey": "y"})
    await world.admin.update(secret.model_copy(update={"spec": changed}))
    await settled(world)
    assert await read_secret(world) == data
    await world.delete(await world.get(Secret, "web-tls"))
    await world.remove_finalizers(await world.get(Secret, "web-tls"))
    await settled(world)
    assert await read_secret(world) == data


async def test_somebody_elses_secret_is_not_overwritten_and_named(world: World) -> None:
    prepare(world)
    await make_project(world)
    await world.create(Secret.new("web-tls", SecretSpec(data={"mine": "1"}), project=PROJECT))
    await make(world)
    shown = await settled(world)
    assert reason_of(shown) == "SecretTaken"
    assert (await read_secret(world)) == {"mine": "1"}


async def test_no_room_for_the_secret_is_shown_and_nothing_leaks(world: World) -> None:
    prepare(world)
    await make_project(world)
    await world.create(Quota.new("small", QuotaSpec(limits={"secrets": 0}), project=PROJECT))
    await make(world)
    assert reason_of(await settled(world)) == "QuotaExceeded"
    assert await world.find(Secret, "web-tls") is None


@pytest.mark.parametrize(
    "names",
    [
        {"dns_names": ["cloud.example.org"]},
        {"dns_names": ["a.cloud.example.org"]},
        {"dns_names": ["*.example.org"]},
        {"dns_names": ["*.cloud.example.org"]},
        {"dns_names": ["ok.example.com", "localhost"]},
        {"dns_names": [], "ip_addresses": ["10.98.0.1"]},
        {"common_name": "cloud.example.org"},
    ],
    ids=str,
)
async def test_the_clouds_own_names_are_refused(world: World, names: dict[str, Any]) -> None:
    prepare(world)
    await make_project(world)
    await make(world, **names)
    assert reason_of(await settled(world)) == "NameReserved"
    assert await world.find(Secret, "web-tls") is None


async def test_the_projects_authority_itself_excludes_the_clouds_names(world: World, tmp_path: Path) -> None:
    """Whoever had its key could not make a certificate that OpenSSL takes for the API's."""
    credentials = prepare(world)
    await make_project(world)
    made = await make(world)
    await settled(world)
    project = (await world.store.get(get_kind("Project"), None, PROJECT)).wire["metadata"]["uid"]
    record = await AuthorityRecords(credentials).find(project)
    assert record is not None
    data = await read_secret(world)
    for sans in (["cloud.example.org"], ["x.cloud.example.org"], ["10.98.0.1"]):
        forged = record.current.issue_for(
            load_pem_private_key(data["privateKey"].encode(), None).public_key(),  # type: ignore[arg-type]
            "forged",
            usages=[x509.ExtendedKeyUsageOID.SERVER_AUTH],
            sans=sans,
            hours=1,
            now=world.clock.now(),
        )
        at = ["-attime", str(int(world.clock.now().timestamp()))]
        said = verify(tmp_path, {**data, "certificate": forged.decode()}, *at)
        assert "excluded subtree violation" in said.stderr, sans
    assert made.uid


async def test_each_project_has_an_authority_of_its_own_that_no_other_trusts(world: World, tmp_path: Path) -> None:
    prepare(world)
    await make_project(world)
    await make_project(world, "other")
    await make(world)
    await make(world, project="other")
    await world.settle(controller.build)
    ours, theirs = await read_secret(world), await read_secret(world, project="other")
    assert ours["ca"] != theirs["ca"]
    said = verify(tmp_path, {**theirs, "ca": ours["ca"]}, "-attime", str(int(world.clock.now().timestamp())))
    assert said.returncode != 0


async def test_the_authority_gets_a_successor_long_before_it_ends(world: World) -> None:
    prepare(world)
    await make_project(world)
    await make(world)
    await settled(world)
    first = await read_secret(world)
    world.clock.skip(9 * 365 * 24 * HOUR)
    await settled(world)
    second = await read_secret(world)
    assert len(load_certificates(second["ca"].encode())) == 2
    assert load_certificates(first["ca"].encode())[0] in load_certificates(second["ca"].encode())
    world.clock.skip(2 * 365 * 24 * HOUR)
    await settled(world)
    assert len(load_certificates((await read_secret(world))["ca"].encode())) == 1


@pytest.mark.parametrize("is_last_to_go", [True, False])
async def test_nothing_stays_of_the_authority_of_a_project_that_is_deleted(world: World, is_last_to_go: bool) -> None:
    """Whether its certificates went long before it or with it."""
    credentials = prepare(world)
    await make_project(world)
    await make(world)
    await world.settle(controller.build, projects.build)
    project = await world.get(Project, PROJECT)
    assert await AuthorityRecords(credentials).find(project.uid) is not None
    if not is_last_to_go:
        await world.delete(await world.get(Certificate, "web"))
        await world.settle(controller.build, projects.build)
        assert await AuthorityRecords(credentials).find(project.uid) is not None, "others may still trust it"
    await world.delete(project)
    for _ in range(10):
        await world.settle(controller.build, projects.build)
        for kind in (SecurityGroup, Secret):
            for found in (await world.admin.list(kind)).items:
                if found.deleting:
                    await world.remove_finalizers(found)
        world.clock.skip(5.0)
    assert await world.find(Project, PROJECT) is None
    kept = [kv.key.decode() for kv in (await world.etcd.range(b"/vcstack/")).kvs]
    assert not [key for key in kept if "authorities" in key or "revocations" in key or "/certificates/" in key]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"dnsNames": ["web.example.org", "web.example.org"]}, "twice"),
        ({"dnsNames": []}, "without a name"),
        ({"dnsNames": [], "commonName": "web"}, "never in commonName"),
        ({"dnsNames": ["Web.example.org"]}, "dnsNames"),
        ({"dnsNames": ["a..b"]}, "dnsNames"),
        ({"dnsNames": ["a.*.b"]}, "dnsNames"),
        ({"dnsNames": ["10.98.0.1"]}, "ipAddresses"),
        ({"dnsNames": ["cl\u043eud.example.org"]}, "dnsNames"),
        ({"dnsNames": ["a\n.example.org"]}, "dnsNames"),
        ({"dnsNames": [f"h{i}.example.org" for i in range(65)]}, "64"),
        ({"ipAddresses": ["010.098.000.001"]}, "ipAddresses"),
        ({"ipAddresses": ["2001:DB8::7"]}, "write it as"),
        ({"ipAddresses": ["fe80::1%eth0"]}, "zone"),
        ({"ipAddresses": ["0x7f000001"]}, "ipAddresses"),
        ({"commonName": "system:host:h1"}, "commonName"),
        ({"commonName": "x" * 65}, "commonName"),
        ({"commonName": "a\x00b"}, "commonName"),
        ({"usages": []}, "usages"),
        ({"usages": ["CertSign"]}, "usages"),
        ({"durationHours": 0}, "durationHours"),
        ({"durationHours": 10**9}, "durationHours"),
        ({"durationHours": 10, "renewBeforeHours": 10}, "all the time"),
        ({"keyAlgorithm": "RSA-512"}, "keyAlgorithm"),
        ({"secretName": "../x"}, "secretName"),
    ],
    ids=str,
)
async def test_odd_wishes_are_refused_and_the_field_named(world: World, spec: dict[str, Any], word: str) -> None:
    await make_project(world)
    wire = {"metadata": {"name": "web", "project": PROJECT}}
    wire["spec"] = {"dnsNames": ["web.example.org"], "secretName": "web-tls", **spec}  # type: ignore[dict-item]
    with pytest.raises(Invalid) as refused:
        await world.store.create(get_kind("Certificate"), wire, actor=Actor("admin", "vcctl"))
    told = f"{refused.value.message} {refused.value.details}"
    assert word in told


async def test_the_name_of_the_secret_never_changes(world: World) -> None:
    await make_project(world)
    await make(world)
    with pytest.raises(Invalid):
        await change(world, secret_name="other")


async def test_a_certificate_and_its_secret_fit_killed_where_it_may_be() -> None:
    async def scenario(world: World) -> None:
        credentials = prepare(world)
        await make_project(world)
        made = await make(world, duration_hours=30, renew_before_hours=10)
        await settled(world)
        world.clock.skip(21 * HOUR)
        await settled(world)
        await change(world, dns_names=["other.example.org"])
        shown, data = await settled(world), await read_secret(world)
        leaf = leaf_of(data)
        assert load_pem_private_key(data["privateKey"].encode(), None).public_key() == leaf.public_key()
        assert shown.status.serial_number == f"{leaf.serial_number:x}"
        assert len(list(x509.load_pem_x509_crl(data["crl"].encode()))) == 1
        await world.delete(shown)
        await world.settle(controller.build)
        assert await world.find(Certificate, "web") is None
        assert await credentials.get(f"certificates/{made.uid}") is None

    assert await sweep(scenario) > 15


async def test_the_api_and_its_hosts_door_take_no_certificate_of_a_project(api: Api, tmp_path: Path) -> None:
    """Whatever it calls itself: the project's authority is none of the cloud's."""
    authority = CertificateAuthority.create("project demo 1")
    for name in ("system:host:h1", "system:management"):
        issued = authority.issue_client(name, hours=1)
        (tmp_path / "crt").write_bytes(issued.cert)
        (tmp_path / "key").write_bytes(issued.key)
        assert await asyncio.to_thread(_ask, api, tmp_path / "crt", tmp_path / "key") == b""
    settings = await api.register("h1")
    assert settings.cert_file is not None
    assert settings.key_file is not None
    assert (await asyncio.to_thread(_ask, api, settings.cert_file, settings.key_file)).startswith(b"HTTP/1.1 200")


def _ask(api: Api, cert: Path, key: Path) -> bytes:
    """Return the beginning of the API's answer to whoever has that certificate, nothing when it gives none."""
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    context.load_cert_chain(cert, key)
    host, port = api.url.removeprefix("https://").split(":")
    try:
        raw = socket.create_connection((host, int(port)), timeout=60)
        with raw, context.wrap_socket(raw, server_hostname=host) as connection:
            connection.sendall(b"GET /api/v1/hosts/h1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""
