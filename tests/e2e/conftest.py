"""Every test of this folder needs the real parts, and is checked for what it leaves behind."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.daemons)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(autouse=True)
def _checked(no_leaks: None) -> None:
    """Every test, whichever fixtures it asks for."""
