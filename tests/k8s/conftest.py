"""Real Kubernetes and a real cloud, shared by the tests of this folder.

Fixtures:
    cluster     a kube-apiserver with the definitions and the operator's rights
    operator    one replica of the operator, running when a test begins and ends
    home        a project, and a namespace of its name
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.lab.layout import CHECKOUT
from tests.e2e.cloud import Cloud
from tests.fixtures.helm import CHART
from tests.k8s.cluster import ACCOUNT, PROJECT, Cluster, OperatorProcess, build
from tests.k8s.home import Home

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.daemons)
            item.add_marker(pytest.mark.timeout(3600 if "cluster" in getattr(item, "fixturenames", ()) else 300))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    found = Cluster(build(Path(os.environ.get("VCSTACK_CACHE") or CHECKOUT / "var" / "cache")))
    try:
        found.start()
        found.install()
        yield found
    finally:
        found.discard()


@pytest.fixture(scope="session")
def environment(cluster: Cluster, cloud: Cloud) -> dict[str, str]:
    """How the operator reaches VC Stack: as a service account that may what the chart gives it, and write settings."""
    cloud.apply("projects", None, PROJECT, {})
    cloud.wait_ready("projects", None, PROJECT)
    cloud.apply("serviceaccounts", PROJECT, ACCOUNT, {})
    subject = {"kind": "ServiceAccount", "project": PROJECT, "name": ACCOUNT}
    rules = yaml.safe_load((CHART / "values.yaml").read_text())["operator"]["rules"]
    rules.append({"verbs": ["*"], "kinds": ["Setting"]})
    cloud.apply("roles", None, ACCOUNT, {"rules": rules})
    cloud.apply("rolebindings", None, ACCOUNT, {"role": ACCOUNT, "subject": subject})
    cloud.wait_ready("rolebindings", None, ACCOUNT)
    for old in cloud.items("apikeys", PROJECT):  # of a lab that was kept
        cloud.delete("apikeys", PROJECT, old["metadata"]["name"])
    name = f"key-{secrets.token_hex(3)}"
    key = cluster.folder / "api-key"
    cloud.vcctl("auth", "key", "create", name, "--service-account", ACCOUNT, "-p", PROJECT, "--to", key)
    return {
        "VCSTACK_API_URL": cloud.lab.api_url,
        "VCSTACK_CA_FILE": str(cloud.lab.path("pki/ca.crt")),
        "VCSTACK_API_KEY_FILE": str(key),
    }


@pytest.fixture(scope="session")
def replica(cluster: Cluster, environment: dict[str, str]) -> Iterator[OperatorProcess]:
    found = OperatorProcess(cluster, environment, "vc-operator-0")
    yield found
    found.kill()


@pytest.fixture
def operator(replica: OperatorProcess) -> Iterator[OperatorProcess]:
    if not replica.running:
        replica.start()
    yield replica
    assert "Traceback" not in replica.log.read_text(), replica.log.read_text()[-5000:]


@pytest.fixture
def home(cluster: Cluster, cloud: Cloud, operator: OperatorProcess) -> Iterator[Home]:
    made = Home(cluster, cloud, f"k8s-{secrets.token_hex(3)}")
    yield made
    if not operator.running:
        operator.start()
    made.delete()
