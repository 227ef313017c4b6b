"""A cloud that stands still, and an operator who looks at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.console.demo import conditions, make_instance, report, settle
from tests.fixtures.browsing import ConsoleApi, log_in
from tests.fixtures.guest import SshGuest, Way, leading_to
from tests.fixtures.samples import SAMPLES

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))  # a browser that looks at many pages is slow on a busy machine


@pytest.fixture
def cloud(console: ConsoleApi) -> ConsoleApi:
    """A project with two networks and two instances, on one of two hosts."""
    capacity = {"vcpus": 8, "memoryMiB": 8192, "diskGiB": 100}
    for name in ("h1", "h2"):
        console.create("Host", {"metadata": {"name": name}, "spec": {}})
    settle(console, "Host", "h1", None, allocatable=capacity, allocated={"vcpus": 2, "memoryMiB": 512, "diskGiB": 2})
    report(console, "Host", "h2", None, **conditions("Host", "False", "HeartbeatMissed", "No sign of life."))
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.create("Flavor", {"metadata": {"name": "small"}, "spec": SAMPLES["Flavor"]["spec"]})
    console.create("Image", {"metadata": {"project": "demo", "name": "tiny"}, "spec": SAMPLES["Image"]["spec"]})
    for name, cidr in (("web", "10.0.0.0/24"), ("back", "10.1.0.0/24")):
        console.create("Network", {"metadata": {"project": "demo", "name": name}, "spec": {}})
        settle(console, "Network", name)
        console.create(
            "Subnet", {"metadata": {"project": "demo", "name": name}, "spec": {"network": name, "cidr": cidr}}
        )
        settle(console, "Subnet", name)
    rules = [{"name": "ssh", "direction": "Ingress", "protocol": "TCP", "portMin": 22}]
    console.create("SecurityGroup", {"metadata": {"project": "demo", "name": "default"}, "spec": {"rules": rules}})
    make_instance(console, "web-1", "web", "10.0.0.5")
    make_instance(console, "db", "back", "10.1.0.5")
    quota = {"limits": {"instances": 3, "memoryMiB": 1024}}
    console.create("Quota", {"metadata": {"project": "demo", "name": "limits"}, "spec": quota})
    console.make_known_user("alice")
    return console


@pytest.fixture
def operator(cloud: ConsoleApi, page: Page) -> Page:
    log_in(page, "alice")
    return page


@pytest.fixture
def way(cloud: ConsoleApi, guest: SshGuest) -> Iterator[Way]:
    """The instance's host leads to an SSH server that trusts the project's authority."""
    settle(cloud, "Instance", "web-1", powerState="Running")
    guest.trust(cloud.request("GET", "projects/demo/sshauthority")["publicKey"])
    leading = leading_to(cloud.api, guest.port, "h1")
    yield cloud.run(leading.__aenter__())
    cloud.run(leading.__aexit__(None, None, None))
