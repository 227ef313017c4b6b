"""Buckets that processes share: as good as one's own, exact between processes, whatever happens to one of them."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.manual_clock import ManualClock
from vcstack.apiserver.limits.buckets import Rule
from vcstack.apiserver.limits.defaults import StreamSettings
from vcstack.apiserver.limits.settings import LimitSettings, group_of, name_worker
from vcstack.apiserver.limits.shared import PROBED, SLOTS, SharedBucket, SharedBuckets, SharedTable
from vcstack.apiserver.limits.streams import SharedPlaces, StreamCount
from vcstack.specs.kinds.ratelimitpolicy import Per

COMMON = """
import sys
from vcstack.apiserver.limits.buckets import Rule
from vcstack.apiserver.limits.shared import SharedBuckets, SharedTable
from vcstack.specs.kinds.ratelimitpolicy import Per
table = SharedTable(int(sys.argv[1]), lock_seconds=100)
"""
"""Numbers are exact while nobody gives up waiting for the lock, which who is not let run by a busy machine may hold."""
TAKE = (
    COMMON
    + """
buckets = SharedBuckets(table, lambda: 100.0)
found = [buckets.of(Rule(("", name), "", Per.SUBJECT, 60, 5000, 1), "alice") for name in ("wide", "narrow")]
sys.stdin.readline()
print(sum(buckets.take(found, 100.0) is None for _ in range(4000)))
"""
)
HOLD = (
    COMMON
    + """
print(table.lock(), flush=True)
sys.stdin.read()
"""
)


STREAMS = (
    COMMON
    + """
from vcstack.apiserver.limits.defaults import StreamSettings
from vcstack.apiserver.limits.streams import SharedPlaces, StreamCount
count = StreamCount(StreamSettings(of_one=1000, in_all=5000), SharedPlaces(table, int(sys.argv[2]), "tenants"))
sys.stdin.readline()
print(sum(count.try_add("alice", 1) is None for _ in range(700)), flush=True)
sys.stdin.readline()
"""
)


def rule(per_minute: int = 60, burst: int = 5, name: str = "r") -> Rule:
    return Rule(("", name), "", Per.SUBJECT, per_minute, burst, 1)


def start(table: SharedTable, program: str, process: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, str(table.fd), str(process)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(table.fd,), cwd=os.getcwd()
    )


@pytest.fixture
def table() -> Iterator[SharedTable]:
    made = SharedTable.create()
    yield made
    os.close(made.fd)


def drain(buckets: SharedBuckets, bucket: SharedBucket, now: float) -> int:
    return sum(buckets.take([bucket], now) is None for _ in range(1000))


def test_a_bucket_holds_its_burst_and_then_lets_through_what_comes_in(table: SharedTable) -> None:
    clock = ManualClock()
    here, there = SharedBuckets(table, clock.monotonic), SharedBuckets(table, clock.monotonic)
    now = clock.monotonic()
    assert drain(here, here.of(rule(), "alice"), now) == 5
    other = there.of(rule(), "alice")
    assert drain(there, other, now) == 0
    assert other.wait() == 1
    assert drain(there, other, now + 3.5) == 3
    assert drain(here, here.of(rule(), "alice"), now + 4.0) == 1
    assert drain(here, here.of(rule(), "alice"), now + 1000.0) == 5
    assert drain(here, here.of(rule(), "bob"), now) == 5, "each has his own"
    assert drain(here, here.of(rule(name="other"), "alice"), now) == 5


def test_what_one_bucket_refuses_costs_the_others_nothing(table: SharedTable) -> None:
    buckets = SharedBuckets(table, lambda: 7.0)
    wide, narrow = buckets.of(rule(burst=5), "alice"), buckets.of(rule(burst=2, name="n"), "demo")
    assert [buckets.take([wide, narrow], 7.0) for _ in range(3)] == [None, None, narrow]
    assert wide.fill(7.0) == pytest.approx(3)


def test_changed_numbers_let_nobody_wait_longer_than_they_say(table: SharedTable) -> None:
    buckets, slow = SharedBuckets(table, lambda: 0.0), rule(per_minute=1, burst=60)
    bucket = buckets.of(slow, "alice")
    assert drain(buckets, bucket, 0.0) == 60
    slow.change(6000, 10, 1)
    assert drain(buckets, bucket, 0.0) == 0
    assert bucket.wait() == 1


@given(
    per_minute=st.integers(1, 6000),
    burst=st.integers(1, 100),
    arrivals=st.lists(st.tuples(st.floats(0, 5), st.booleans()), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_are_let_through(
    per_minute: int, burst: int, arrivals: list[tuple[float, bool]]
) -> None:
    made = SharedTable.create()
    try:
        here, there = SharedBuckets(made, lambda: 0.0), SharedBuckets(made, lambda: 0.0)
        now, let_through = 0.0, 0
        for pause, is_here in arrivals:
            now += pause
            buckets = here if is_here else there
            let_through += buckets.take([buckets.of(rule(per_minute, burst), "alice")], now) is None
            assert let_through <= burst + now * per_minute / 60 + 1e-6
    finally:
        os.close(made.fd)


def test_four_processes_at_once_let_through_exactly_the_burst(table: SharedTable) -> None:
    running = [start(table, TAKE) for _ in range(4)]
    answers = []
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in running:
        answers.append(int(each.communicate(timeout=120)[0]))
    assert sum(answers) == 5000


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stands_still_with_the_lock_holds_up_nobody(table: SharedTable, how: int) -> None:
    buckets = SharedBuckets(table, lambda: 0.0)
    bucket, holder = buckets.of(rule(), "alice"), start(table, HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    try:
        os.kill(holder.pid, how)
        assert drain_few(buckets, bucket) == 5
    finally:
        holder.kill()
        holder.communicate(timeout=60)


def test_streams_of_one_are_counted_over_all_processes_and_those_of_a_killed_one_are_free_again() -> None:
    table = SharedTable.create(3)
    running = [start(table, STREAMS, number) for number in (1, 2)]
    try:
        for each in running:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        opened = []
        for each in running:
            assert each.stdout is not None
            opened.append(int(each.stdout.readline()))
        assert sum(opened) == 1000
        here = StreamCount(StreamSettings(of_one=1000, in_all=5000), SharedPlaces(table, 0, "tenants"))
        assert here.try_add("alice", 1) == 1000
        assert here.try_add("bob", 1) is None
        running[0].kill()
        running[0].wait(60)
        table.forget_process(1)
        assert sum(here.try_add("alice", 1) is None for _ in range(1000)) == opened[0]
        here.remove("alice")
        assert here.try_add("alice", 1) is None
        assert here.try_add("alice", 2) == 500, "this manager's part of two"
        operators = StreamCount(StreamSettings(of_one=1, in_all=1), SharedPlaces(table, 0, "operators"))
        assert operators.try_add("alice", 1) is None, "levels are counted by themselves"
        assert operators.try_add("bob", 1) == 1, "in all"
    finally:
        for each in running:
            each.kill()
            each.communicate(timeout=60)
        os.close(table.fd)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_counts_of_streams_are_as_one_would_count_them(steps: list[tuple[int, str, bool]]) -> None:
    made = SharedTable.create(2)
    try:
        settings = StreamSettings(of_one=5, in_all=1000)
        counts = [StreamCount(settings, SharedPlaces(made, process, "tenants")) for process in (0, 1)]
        open_ = Counter[tuple[int, str]]()
        for process, owner, adds in steps:
            if adds:
                fits = open_[0, owner] + open_[1, owner] < 5
                assert (counts[process].try_add(owner, 1) is None) == fits
                open_[process, owner] += fits
            elif open_[process, owner]:
                counts[process].remove(owner)
                open_[process, owner] -= 1
        assert [count.open for count in counts] == [sum(n for (p, _), n in open_.items() if p == i) for i in (0, 1)]
    finally:
        os.close(made.fd)


def drain_few(buckets: SharedBuckets, bucket: SharedBucket) -> int:
    return sum(buckets.take([bucket], 0.0) is None for _ in range(8))


def test_more_buckets_than_slots_forget_those_that_are_nearest_to_full(table: SharedTable) -> None:
    """All that share a place: the one that was used most lately and most is remembered longest."""
    full_at = {}
    for number in range(1, PROBED + 1):
        key = number * (SLOTS - PROBED)  # all of them begin at slot 0
        slot = table.find(key, 0.0)
        table.write(slot, float(number))
        full_at[key] = slot
    assert len(set(full_at.values())) == PROBED
    one_more = (PROBED + 1) * (SLOTS - PROBED)
    assert table.find(one_more, 0.5) == full_at[SLOTS - PROBED]
    assert not table.is_at(full_at[SLOTS - PROBED], SLOTS - PROBED)
    assert table.is_at(full_at[2 * (SLOTS - PROBED)], 2 * (SLOTS - PROBED))


def test_keys_cannot_be_foreseen(table: SharedTable) -> None:
    other = SharedTable.create()
    try:
        assert table.key_of(("", "r"), "alice") != other.key_of(("", "r"), "alice")
    finally:
        os.close(other.fd)


def test_names_tell_who_shares_buckets(table: SharedTable) -> None:
    shared = {group_of(name_worker(table)), group_of(name_worker(SharedTable(table.fd)))}
    assert len(shared) == 1
    assert group_of(LimitSettings().worker) not in shared
