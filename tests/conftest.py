"""The fixtures that all tests share, by area, and how tests are spread over workers."""

from pathlib import Path

import pytest

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.etcd",
    "tests.fixtures.lab",
    "tests.fixtures.libvirt",
    "tests.fixtures.ovn",
    "tests.fixtures.postgres",
    "tests.fixtures.store",
    "tests.fixtures.world",
]

ONE_WORKER = ("tests/e2e", "tests/nodeagent/test_real_host.py", "tests/cloud", "tests/deploy")
"""Each of these shares one lab, or is long: it stays in one worker, and begins first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what shares a lab together, the longest first, so that no worker is left alone in the end."""

    def rank(item: pytest.Item) -> int:
        path = Path(item.path).relative_to(config.rootpath).as_posix()
        return next((i for i, prefix in enumerate(ONE_WORKER) if path.startswith(prefix)), len(ONE_WORKER))

    for item in items:
        if (place := rank(item)) < len(ONE_WORKER):
            item.add_marker(pytest.mark.xdist_group(ONE_WORKER[place]))
    items.sort(key=rank)
