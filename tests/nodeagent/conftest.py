"""What the agent's tests share."""

from pathlib import Path

import pytest

from tests.nodeagent.world import World
from vcstack.store.store import Store


@pytest.fixture
async def world(memory_store: Store, tmp_path: Path) -> World:
    return await World.create(memory_store, tmp_path)
