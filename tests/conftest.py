"""The fixtures that all tests share, by area."""

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
