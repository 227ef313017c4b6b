"""A new master key and a new certificate authority, while requests flow, guests run and programs are killed."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.layout import CENTRAL
from deploy.lab.rotation import Load, rotate_authority, rotate_master_key
from tests.e2e.cloud import AWAY, HOSTS, Cloud, Refused, Wire
from tests.e2e.tenant import Guest, Tenant
from tests.e2e.test_faults import all_ready, pids
from vcstack.pki.authority import CertificateAuthority, fingerprint, load_certificates
from vcstack.pki.files import PRIVATE, write_atomically
from vcstack.pki.installation import ETCD_CLIENT

NAME = "internal"
WAIT_SECONDS = 240.0


@pytest.fixture
def guests(pair: Tenant) -> list[Guest]:
    return [Guest(pair, name) for name in ("a", "b")]


@pytest.fixture
def former(cloud: Cloud, tmp_path: Path) -> Iterator[Path]:
    """A folder with a certificate system:management of the authority there is before the test, and whom to trust."""
    pki = cloud.lab.path("pki")
    authority = CertificateAuthority.load(pki / "ca.crt", pki / "ca.key")
    issued = authority.issue_client("system:management", hours=1, sans=(ETCD_CLIENT,))
    write_atomically(tmp_path / "crt", issued.cert, PRIVATE)
    write_atomically(tmp_path / "key", issued.key, PRIVATE)
    shutil.copy(pki / "ca.crt", tmp_path / "ca")
    yield tmp_path
    cloud.trust_anew()


def authority_of(cloud: Cloud) -> Wire:
    return cloud.get("certificateauthorities", None, NAME)


def answers(cloud: Cloud, files: tuple[Path, Path], ca: Path) -> dict[str, bool]:
    """Which of the servers take that certificate and are trusted by that bundle."""
    cert, key = files
    etcd = [f"--cacert={ca}", f"--cert={cert}", f"--key={key}", "--command-timeout=5s", "endpoint", "health"]
    asked = {"etcd": ["etcdctl", "--endpoints=https://127.0.0.1:2379", *etcd]}
    for db, address in (("nb", "127.0.0.1:6641"), ("sb", "10.98.0.1:6642")):
        place = f"--db=ssl:{address}"
        asked[db] = [f"ovn-{db}ctl", "--timeout=5", place, "-p", str(key), "-c", str(cert), "-C", str(ca), "show"]
    return {name: cloud.lab.host_exec(CENTRAL, argv).returncode == 0 for name, argv in asked.items()}


def connected(cloud: Cloud, host: str) -> bool:
    shown = cloud.lab.host_exec(host, ["ovn-appctl", "-t", "ovn-controller", "connection-status"])
    return "connected" in shown.stdout.split()


def test_a_new_master_key_and_a_new_authority_cost_no_request_and_no_guest(
    cloud: Cloud, pair: Tenant, guests: list[Guest], former: Path
) -> None:
    before, signing = pids(guests), authority_of(cloud)["status"]["version"]
    with Load(cloud.lab) as load:
        rotate_master_key(cloud.lab)
        rotate_authority(cloud.lab)
    assert not load.failures, load.describe()
    assert min(load.counts.values()) > 5, load.describe()
    cloud.trust_anew()
    shown = authority_of(cloud)
    assert shown["status"]["version"] == signing + 1

    pki = cloud.lab.path("pki")
    (now,) = load_certificates((pki / "ca.crt").read_bytes())
    assert fingerprint(now) == shown["status"]["versions"][0]["fingerprint"]
    for host in HOSTS:
        status = cloud.get("hosts", None, host)["status"]
        assert status["certificateAuthority"] == fingerprint(now)
        assert status["trustedAuthorities"] == [fingerprint(now)]
    own = (pki / "management.crt", pki / "management.key")
    cloud.wait("all servers' answers", lambda: all(answers(cloud, own, pki / "ca.crt").values()))
    # Neither is the former's certificate taken, nor does any server show one that the former's bundle trusts.
    for files, ca in (
        ((former / "crt", former / "key"), pki / "ca.crt"),
        (own, former / "ca"),
    ):
        bad = answers(cloud, files, ca)
        assert not any(bad.values()), bad

    assert pids(guests) == before
    for host in HOSTS:
        cloud.lab.restart(host, "ovn-controller")  # it makes all its connections anew
        cloud.wait("ovn-controller connected", lambda host=host: connected(cloud, host))  # type: ignore[misc]
    all_ready(cloud, pair)


def test_a_rotation_goes_on_wherever_the_manager_an_agent_or_etcd_is_killed(
    cloud: Cloud, pair: Tenant, guests: list[Guest], former: Path
) -> None:
    before, signing = pids(guests), authority_of(cloud)["status"]["version"]
    cloud.patch("certificateauthorities", None, NAME, {"spec": {"version": signing + 1, "overlapSeconds": 0}})
    victims = [(CENTRAL, "vc-management"), (CENTRAL, "etcd"), ("h1", "vc-compute"), (CENTRAL, "vc-management")]
    seen: set[str] = set()

    def is_done() -> bool:
        """Kill the next one whenever the rotation is seen to have got further."""
        shown: Wire | None = None
        with contextlib.suppress(Refused, *AWAY):
            shown = authority_of(cloud)
        if shown is None:
            cloud.trust_anew()
            return False
        states = str([(v["version"], v["state"]) for v in shown["status"]["versions"]])
        if states not in seen:
            seen.add(states)
            if victims and len(seen) > 1:
                cloud.kill(*victims.pop(0))
        return shown["status"]["version"] == signing + 1 and len(shown["status"]["versions"]) == 1

    cloud.wait("the rotation", is_done, seconds=WAIT_SECONDS)
    assert len(seen) > 2
    cloud.trust_anew()
    all_ready(cloud, pair)
    for host in HOSTS:
        assert len(cloud.get("hosts", None, host)["status"]["trustedAuthorities"]) == 1
    assert pids(guests) == before
