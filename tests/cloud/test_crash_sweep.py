"""The crash sweep: manager and agent are killed before and after every call to the outside, and nothing is lost.

Each test is one step in the life of an instance and its network (``scenario.py``). For every k, a program
is killed at its k-th call: the moment before the call has any effect, or the moment after. It is started
again, and the cloud must come to rest as if nothing had happened (``invariants.py``). The agent is also killed
in the middle of each file of its cache, and after some of the kills the other program dies too.
"""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.cloud import sweep
from tests.cloud.scenario import STEPS

PROCESSES = min(os.cpu_count() or 1, 8)
REACHED_PERCENT = 90
"""Uids and backoffs are random, so the number of calls varies a little from run to run."""


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Fresh processes without threads: they fork for each kill."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=fresh, initializer=sweep.prepare_worker) as pool:
        yield pool


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", STEPS)
def test_a_program_killed_at_any_call_and_started_again_leaves_nothing_wrong(
    step: str, workers: ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = workers.submit(sweep.list_kills, step).result()
    shares = [kills[n::PROCESSES] for n in range(PROCESSES) if kills[n::PROCESSES]]
    outcomes = [o for found in workers.map(sweep.run_kills, shares) for o in found]
    reached = sum(1 for o in outcomes if o.killed_at)
    with capsys.disabled():
        print(f"\n{step}: {len(kills)} kills, {reached} reached ", end="")
    assert not list(sweep.describe(outcomes)), "\n\n".join(sweep.describe(outcomes))
    assert len(outcomes) == len(kills)
    assert reached * 100 >= len(kills) * REACHED_PERCENT
