"""Fixtures:
clock           stands still until moved
replica         the login services of one API server
other           those of a second one, on the same etcd, with a clock of its own that begins alike
"""

from collections.abc import AsyncIterator

import pytest

from tests.apiserver.auth.world import Replica, SkewedClock, make_envelopes
from tests.apiserver.auth.world import replica as make_replica
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.crypto.envelope import Envelopes
from vcstack.store.store import Store


@pytest.fixture
def clock() -> SkewedClock:
    return SkewedClock()


@pytest.fixture
def other_clock() -> SkewedClock:
    return SkewedClock()


@pytest.fixture
def envelopes() -> Envelopes:
    return make_envelopes()


@pytest.fixture
async def replica(
    memory_store: Store, memory_etcd: MemoryEtcd, clock: SkewedClock, envelopes: Envelopes
) -> AsyncIterator[Replica]:
    made = await make_replica(memory_store, memory_etcd, clock, envelopes)
    yield made
    made.close()


@pytest.fixture
async def other(
    replica: Replica, memory_store: Store, memory_etcd: MemoryEtcd, other_clock: SkewedClock, envelopes: Envelopes
) -> AsyncIterator[Replica]:
    made = await make_replica(memory_store, memory_etcd, other_clock, envelopes)
    yield made
    made.close()
