"""The fixtures that all tests share, by area, and how tests are spread over workers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# A busy machine proves nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.browsing",
    "tests.fixtures.sandbox",
    "tests.fixtures.chromium",
    "tests.fixtures.etcd",
    "tests.fixtures.guest",
    "tests.fixtures.helm",
    "tests.fixtures.git_server",
    "tests.fixtures.lab",
    "tests.fixtures.libvirt",
    "tests.fixtures.oidc_provider",
    "tests.fixtures.ovn",
    "tests.fixtures.postgres",
    "tests.fixtures.receiver",
    "tests.fixtures.slapd",
    "tests.fixtures.store",
    "tests.fixtures.world",
]

ONE_WORKER = ("tests/k8s", "tests/e2e", "tests/nodeagent/test_real_host.py", "tests/cloud", "tests/deploy")
"""Each of these shares one lab, or is long: it stays in one worker, and begins first."""


def _group_of(path: str) -> str | None:
    return next((prefix for prefix in ONE_WORKER if path.startswith(prefix)), None)


class _Spread(LoadScopeScheduling):
    """Every test on its own, but for the groups.

    xdist's own `--dist loadgroup` appends the group to the nodeid, which pytest 9.2 ignores: all tests were spread.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid) or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Spread:
    return _Spread(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone in the end."""

    def rank(item: pytest.Item) -> int:
        group = _group_of(Path(item.path).relative_to(config.rootpath).as_posix())
        return ONE_WORKER.index(group) if group else len(ONE_WORKER)

    items.sort(key=rank)
