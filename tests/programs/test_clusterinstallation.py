"""An installation in a cluster's Secrets: made once, handed to pods, brought up to a new authority."""

import ssl
from pathlib import Path

import pytest

from tests.fakes.cluster_objects import MemoryObjects
from tests.fakes.crash import Crasher, Killed, When
from vcstack.crypto.private import read_private
from vcstack.pki.authority import CertificateAuthority, is_issued_by, load_certificate, subject_alternative_names
from vcstack.pki.installation import ETCD_CLIENT, Installation
from vcstack.pki.local import LocalAuthority
from vcstack.programs.clusterinstallation import (
    CA,
    CA_KEY,
    CERT,
    KEY,
    Cluster,
    copy_private,
    prepare_backends,
    prepare_installation,
    prepare_password,
    publish,
    seed,
)
from vcstack.programs.kubernetes import resolve_remotes
from vcstack.programs.settings import KEYRING_NAME

OVN = ["rel-ovn.cloud.svc"]
BACKENDS = {"etcd": ["rel-etcd-0.rel-etcd.cloud.svc", "127.0.0.1"], "postgresql": ["rel-postgresql.cloud.svc"]}
SANS = ["rel.cloud.svc", "10.244.0.7"]


def prepare(cluster: Cluster) -> None:
    prepare_installation(cluster, OVN)
    prepare_backends(cluster, BACKENDS)
    prepare_password(cluster, "postgresql")


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def cluster(objects: MemoryObjects) -> Cluster:
    return Cluster("rel", objects, MemoryObjects())


def mount(objects: MemoryObjects, name: str, folder: Path) -> Path:
    """What the kubelet makes of a Secret: files that the pod's group may read."""
    folder.mkdir(exist_ok=True)
    for key, value in objects.kept[name].items():
        (folder / key).write_bytes(value)
        (folder / key).chmod(0o440)
    return folder


def test_an_upgrade_keeps_all_that_the_installation_made(cluster: Cluster, objects: MemoryObjects) -> None:
    prepare(cluster)
    made, writes = {name: dict(data) for name, data in objects.kept.items()}, len(objects.writes)
    assert set(made) == {
        f"rel-{part}"
        for part in (
            "installation", "ovn-tls", "backends-ca", "etcd-tls", "postgresql-tls", "backends-client", "postgresql",
        )
    }  # fmt: skip
    assert objects.types["rel-etcd-tls"] == "kubernetes.io/tls"
    prepare(cluster)
    assert objects.kept == made
    assert len(objects.writes) == writes


def test_two_installations_share_no_secret(cluster: Cluster, objects: MemoryObjects) -> None:
    other = MemoryObjects()
    prepare(cluster)
    prepare(Cluster("rel", other, MemoryObjects()))
    for name in ("rel-installation", "rel-backends-ca", "rel-postgresql"):
        assert not set(objects.kept[name].values()) & set(other.kept[name].values())


@pytest.mark.parametrize("when", When)
def test_killed_anywhere_the_next_hook_ends_the_work(when: When) -> None:
    methods = ("find", "create", "update")
    for call in range(1, 100):
        kept, trust, crasher = MemoryObjects(), MemoryObjects(), Crasher(call, when)
        try:
            prepare(Cluster("rel", *(crasher.wrap(each, sync_methods=methods) for each in (kept, trust))))
        except Killed:
            half = {name: dict(data) for name, data in kept.kept.items()}
            prepare(Cluster("rel", kept, trust))
            assert {name: kept.kept[name] for name in half} == half, "what was made is not made again"
            assert (len(kept.kept), len(trust.kept)) == (7, 1)
            continue
        assert call > 15, "it takes more calls than that"
        return
    pytest.fail("it takes more calls than were tried")


def test_certificates_are_for_the_names_of_the_servers_and_renewed_when_those_change(
    cluster: Cluster, objects: MemoryObjects
) -> None:
    prepare(cluster)
    before = dict(objects.kept["rel-etcd-tls"])
    assert set(subject_alternative_names(load_certificate(before[CERT]))) == {*BACKENDS["etcd"], ETCD_CLIENT}
    more = {**BACKENDS, "etcd": [*BACKENDS["etcd"], "rel-etcd-1.rel-etcd.cloud.svc"]}
    prepare_backends(cluster, more)
    after = objects.kept["rel-etcd-tls"]
    assert set(subject_alternative_names(load_certificate(after[CERT]))) == {*more["etcd"], ETCD_CLIENT}
    named = {
        part: load_certificate(objects.kept[f"rel-{part}"][CERT]) for part in ("backends-client", "postgresql-tls")
    }
    assert subject_alternative_names(named["backends-client"]) == [ETCD_CLIENT]
    assert subject_alternative_names(named["postgresql-tls"]) == BACKENDS["postgresql"], "it has no business with etcd"
    ca = load_certificate(objects.kept["rel-backends-ca"][CERT])
    assert is_issued_by(load_certificate(after[CERT]), ca)
    assert not is_issued_by(load_certificate(after[CERT]), load_certificate(objects.kept["rel-installation"][CA]))


def test_a_manager_begins_with_the_installation_and_private_files(
    cluster: Cluster, objects: MemoryObjects, tmp_path: Path
) -> None:
    prepare(cluster)
    given, state = mount(objects, "rel-installation", tmp_path / "given"), tmp_path / "state"
    paths = seed(state, given, SANS)
    assert paths.ca_cert.read_bytes() == objects.kept["rel-installation"][CA]
    for path in (paths.ca_key, paths.admin_token, state / KEYRING_NAME, paths.api.key):
        read_private(path)
    assert set(subject_alternative_names(load_certificate(paths.api.cert.read_bytes()))) == set(SANS)
    backends = mount(objects, "rel-backends-client", tmp_path / "backends")
    assert copy_private(backends, state / "backends") == [KEY, CA, CERT], "the key before its certificate"
    assert copy_private(backends, state / "backends") == []
    read_private(state / "backends" / KEY)
    context = ssl.create_default_context(cafile=str(state / "backends" / CA))
    context.load_cert_chain(state / "backends" / CERT, state / "backends" / KEY)


def test_a_pod_that_comes_back_elsewhere_keeps_its_state_and_gets_a_certificate_for_its_address(
    cluster: Cluster, objects: MemoryObjects, tmp_path: Path
) -> None:
    prepare(cluster)
    given, state = mount(objects, "rel-installation", tmp_path / "given"), tmp_path / "state"
    seed(state, given, SANS)
    token = (state / "admin-token").read_bytes()
    paths = seed(state, given, ["rel.cloud.svc", "10.244.9.9"])
    assert "10.244.9.9" in subject_alternative_names(load_certificate(paths.api.cert.read_bytes()))
    assert (state / "admin-token").read_bytes() == token


def test_a_new_authority_goes_into_the_secrets_and_to_ovn(
    cluster: Cluster, objects: MemoryObjects, tmp_path: Path
) -> None:
    prepare(cluster)
    state = tmp_path / "state"
    seed(state, mount(objects, "rel-installation", tmp_path / "given"), SANS)
    assert publish(cluster, state) == [], "nothing changed yet"
    paths = Installation.under(state)
    local = LocalAuthority(paths.ca_cert, paths.ca_key)
    former, successor = local.current, CertificateAuthority.create()
    both = CertificateAuthority.of(former.bundle + successor.bundle, successor.key_pem)
    local.replace(both)
    assert publish(cluster, state) == ["installation", "trust", "ovn-tls"]
    assert objects.kept["rel-installation"][CA_KEY] == successor.key_pem
    assert cluster.trust.find("rel-trust") == {CA: both.bundle}
    ovn = objects.kept["rel-ovn-tls"]
    assert is_issued_by(load_certificate(ovn[CERT]), successor.certificate)
    assert ovn[CA] == both.bundle
    assert publish(cluster, state) == []
    # A replica that comes now begins with what is signed with now.
    later = seed(tmp_path / "later", mount(objects, "rel-installation", tmp_path / "given-later"), SANS)
    assert is_issued_by(load_certificate(later.api.cert.read_bytes()), successor.certificate)


def test_remotes_are_given_by_address() -> None:
    assert resolve_remotes("ssl:localhost:6641") in ("ssl:127.0.0.1:6641", "ssl:[::1]:6641")
    assert resolve_remotes("ssl:192.0.2.7:6641,ssl:192.0.2.8:6641") == "ssl:192.0.2.7:6641,ssl:192.0.2.8:6641"
    assert resolve_remotes("unix:/run/ovn/ovnnb_db.sock") == "unix:/run/ovn/ovnnb_db.sock"
