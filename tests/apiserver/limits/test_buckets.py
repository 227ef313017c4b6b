"""Token buckets: what they hold, how they fill, and shares of several workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.manual_clock import ManualClock
from vcstack.apiserver.limits.buckets import Bucket, OwnBuckets, Rule
from vcstack.specs.kinds.ratelimitpolicy import Per


def rule(per_minute: int = 60, burst: int | None = 5, workers: int = 1, name: str = "r") -> Rule:
    return Rule(("", name), "", Per.SUBJECT, per_minute, burst, workers)


def take(buckets: list[Bucket], now: float) -> Bucket | None:
    return OwnBuckets(lambda: now).take(buckets, now)


def drain(buckets: list[Bucket], now: float, tries: int = 10_000) -> int:
    """Return how many are let through at once."""
    return sum(take(buckets, now) is None for _ in range(tries))


def test_a_bucket_holds_its_burst_and_then_lets_through_what_comes_in() -> None:
    bucket = Bucket(rule(), "alice", 0.0)
    assert drain([bucket], 0.0) == 5
    assert bucket.wait() == 1
    assert drain([bucket], 0.5) == 0
    assert drain([bucket], 1.0) == 1
    assert drain([bucket], 4.0) == 3
    assert drain([bucket], 1000.0) == 5


def test_a_rule_without_a_burst_holds_what_ten_seconds_bring() -> None:
    assert drain([Bucket(rule(600, None), "alice", 0.0)], 0.0) == 100
    assert drain([Bucket(rule(1, None), "alice", 0.0)], 0.0) == 1


def test_the_wait_is_as_long_as_it_takes() -> None:
    bucket = Bucket(rule(per_minute=2, burst=1), "alice", 0.0)
    assert take([bucket], 0.0) is None
    assert take([bucket], 0.0) is bucket
    assert bucket.wait() == 30
    assert take([bucket], 29.0) is bucket
    assert bucket.wait() == 1
    assert take([bucket], 30.0) is None


def test_what_one_bucket_refuses_costs_the_others_nothing() -> None:
    wide, narrow = Bucket(rule(burst=5), "alice", 0.0), Bucket(rule(burst=2), "demo", 0.0)
    assert drain([wide, narrow], 0.0) == 2
    assert wide.fill(0.0) == 3


def test_a_clock_that_stands_still_gives_nothing_away() -> None:
    bucket = Bucket(rule(), "alice", 7.0)
    drain([bucket], 7.0)
    assert drain([bucket], 7.0) == 0


@given(workers=st.integers(1, 64), per_minute=st.integers(1, 10_000), burst=st.integers(1, 1000))
def test_the_shares_of_all_workers_are_the_limit(workers: int, per_minute: int, burst: int) -> None:
    shares = [rule(per_minute, burst, workers) for _ in range(workers)]
    assert sum(s.rate for s in shares) == pytest.approx(per_minute / 60)
    assert sum(int(s.burst) for s in shares) <= max(burst, workers)


@given(
    per_minute=st.integers(1, 6000),
    burst=st.integers(1, 100),
    arrivals=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_are_let_through(per_minute: int, burst: int, arrivals: list[float]) -> None:
    bucket, now, let_through = Bucket(rule(per_minute, burst), "alice", 0.0), 0.0, 0
    for pause in arrivals:
        now += pause
        let_through += take([bucket], now) is None
        assert let_through <= burst + now * per_minute / 60 + 1e-6


def test_a_share_that_shrinks_takes_back_what_is_over() -> None:
    made = rule(burst=8)
    bucket = Bucket(made, "alice", 0.0)
    made.share(4)
    assert drain([bucket], 0.0) == 2


def test_changed_numbers_leave_a_bucket_as_full_as_it_was() -> None:
    made = rule(per_minute=60, burst=5)
    bucket = Bucket(made, "alice", 0.0)
    drain([bucket], 0.0)
    made.change(60, 100, 1)
    assert drain([bucket], 0.0) == 0
    assert drain([bucket], 50.0) == 50


def test_buckets_are_bounded_and_full_ones_are_forgotten_first() -> None:
    clock = ManualClock()
    buckets, made = OwnBuckets(clock.monotonic, most=10), rule(burst=2)
    used = buckets.of(made, "used")
    take([used], 0.0)
    epoch = buckets.epoch
    for n in range(9):
        buckets.of(made, f"idle-{n}")
    assert buckets.epoch == epoch
    buckets.of(made, "one more")
    assert buckets.epoch > epoch, "whoever holds buckets must look them up again"
    assert buckets.of(made, "used") is used


def test_when_nearly_all_are_in_use_the_older_half_is_forgotten() -> None:
    buckets, made = OwnBuckets(ManualClock().monotonic, most=10), rule(burst=2)
    for n in range(11):
        take([buckets.of(made, str(n))], 0.0)
    assert drain([buckets.of(made, "9")], 0.0) == 1, "a young one is remembered"
    assert drain([buckets.of(made, "0")], 0.0) == 2, "an old one begins anew"
