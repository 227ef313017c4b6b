"""One small lab for all tests of this folder, in a state folder whose path is too long for any socket."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import Lab
from deploy.lab.layout import CHECKOUT
from tests.deploy.observed import machine_network

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def cache() -> Path:
    return Path(os.environ.get("VCSTACK_CACHE") or CHECKOUT / "var" / "cache")


@pytest.fixture(scope="session")
def network_before() -> str:
    return machine_network()


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory, cache: Path, network_before: str) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("path-longer-than-the-107-bytes-of-a-socket-" + "x" * 60), cache=cache)
    lab.up("infra")
    yield lab
    lab.down(guest_seconds=0)


@pytest.fixture
def lab(shared_lab: Lab) -> Lab:
    """The shared lab, repaired if the test before left it broken."""
    shared_lab.up("infra")
    return shared_lab


@pytest.fixture(scope="session")
def image(cache: Path) -> Path:
    subprocess.run(["bash", CHECKOUT / "deploy" / "guest" / "build.sh", cache / "guest"], check=True)
    return cache / "guest" / "tiny.qcow2"
