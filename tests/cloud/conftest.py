"""What tests of the whole cloud in one process share."""

from collections.abc import Iterator

import pytest
import structlog

from tests.cloud import sweep


@pytest.fixture
def quiet_programs() -> Iterator[None]:
    """Programs log nothing meanwhile, unless $CLOUD_LOG says otherwise."""
    before = structlog.get_config()
    sweep.set_up_logging()
    yield
    structlog.configure(**before)
