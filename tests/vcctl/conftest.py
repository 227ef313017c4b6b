"""Fixtures: ``vcctl`` runs commands, ``hands`` stand in for controllers, ``busy_hands`` do so all the time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog.testing

from tests.fixtures.api import Api
from tests.vcctl.harness import Hands, Vcctl


@pytest.fixture(autouse=True)
def quiet_server() -> Iterator[None]:
    """Keep the server's log, which is in the same process, out of what vcctl prints."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def vcctl(api: Api, tmp_path: Path) -> Vcctl:
    return Vcctl(api, tmp_path)


@pytest.fixture
def hands(api: Api) -> Hands:
    return Hands(api)


@pytest.fixture
async def busy_hands(hands: Hands) -> AsyncIterator[Hands]:
    task = asyncio.create_task(hands.keep_observing())
    yield hands
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
