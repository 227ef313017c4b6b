"""Priority levels: seats, shuffle-sharded queues, fairness, bounds."""

import asyncio
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.fakes.manual_clock import ManualClock, breathe
from vcstack.apiserver.limits.defaults import LevelSettings
from vcstack.apiserver.limits.levels import QUEUE_FULL, QUEUE_TIMEOUT, Level, Refusal, Seat


def level(seats: int = 2, most_of_one: int = 100, clock: ManualClock | None = None, **settings: float) -> Level:
    made = LevelSettings(seats=seats, most_of_one=most_of_one, **settings)  # type: ignore[arg-type]
    return Level("tenants", made, (clock or ManualClock()).monotonic, salt=b"test")


class Line:
    """Requests that wait, each in a task of its own, and the order in which they got seats."""

    def __init__(self, of: Level) -> None:
        self.level = of
        self.served: list[str] = []
        self.seats: dict[str, list[Seat]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, flows: Iterable[str]) -> None:
        for flow in flows:
            self.tasks.append(asyncio.create_task(self._wait(flow)))
        await breathe()

    async def _wait(self, flow: str) -> None:
        seat = await self.level.wait(flow)
        self.served.append(flow)
        self.seats.setdefault(flow, []).append(seat)

    async def leave(self, flow: str) -> None:
        seats = self.seats.get(flow)
        self.level.leave(flow, seats.pop() if seats else None)
        await breathe()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_seats_are_taken_at_once_while_there_are_any() -> None:
    tenants = level(seats=2)
    assert [tenants.try_enter("a") for _ in range(3)] == [True, True, False]
    assert tenants.executing == 2
    tenants.leave("a")
    assert tenants.try_enter("b")


async def test_nobody_overtakes_those_who_wait() -> None:
    tenants = level(seats=1)
    line = Line(tenants)
    assert tenants.try_enter("a")
    await line.add(["b"])
    await line.leave("a")
    assert line.served == ["b"]
    await line.add(["c"])
    assert not tenants.try_enter("d")
    await line.end()


async def test_one_subject_never_has_all_seats() -> None:
    tenants = level(seats=4, most_of_one=3)
    assert [tenants.try_enter("slow") for _ in range(4)] == [True, True, True, False]
    line = Line(tenants)
    await line.add(["slow"])
    assert line.served == []
    await line.add(["other"])
    assert line.served == ["other"], "the free seat is for somebody else"
    await line.leave("slow")
    assert line.served == ["other", "slow"]
    await line.end()


async def test_a_flood_does_not_keep_others_waiting() -> None:
    tenants = level(seats=1, queues=16, hand=2, queue_length=1000)
    line = Line(tenants)
    assert tenants.try_enter("flood")
    await line.add(["flood"] * 500)
    others = [f"user-{n}" for n in range(4)]
    await line.add(others)
    current = "flood"
    for _ in range(12):
        await line.leave(current)
        current = line.served[-1]
    assert set(others) <= set(line.served), f"after 12 turns: {Counter(line.served)}"
    await line.end()


async def test_queues_that_had_less_time_go_first() -> None:
    clock = ManualClock()
    tenants = level(seats=1, clock=clock, queues=64, hand=1)
    line = Line(tenants)
    assert tenants.try_enter("x")
    await line.add(["slow", "quick"] * 8)
    current = "x"
    for _ in range(10):
        clock.skip(1.0 if current == "slow" else 0.01)
        await line.leave(current)
        current = line.served[-1]
    counts = Counter(line.served)
    assert counts["quick"] == 8, f"who takes a hundred times as long gets fewer turns: {counts}"
    assert counts["slow"] == 2
    await line.end()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    tenants = level(seats=1, queues=1, hand=1, queue_length=2)
    line = Line(tenants)
    assert tenants.try_enter("a")
    await line.add(["a", "a"])
    with pytest.raises(Refusal) as refused:
        await tenants.wait("a")
    assert refused.value.reason == QUEUE_FULL
    assert refused.value.retry_after_seconds >= 1
    assert tenants.queued == 2
    await line.end()
    assert tenants.queued == 0


async def test_waiting_has_an_end() -> None:
    tenants = level(seats=1, wait_seconds=0.01)
    assert tenants.try_enter("a")
    with pytest.raises(Refusal) as refused:
        await tenants.wait("b")
    assert refused.value.reason == QUEUE_TIMEOUT
    assert tenants.queued == 0
    tenants.leave("a")
    assert tenants.try_enter("c")


async def test_who_goes_away_while_waiting_costs_nobody_a_seat() -> None:
    tenants = level(seats=1)
    line = Line(tenants)
    assert tenants.try_enter("a")
    await line.add(["b"])
    await line.end()
    assert (tenants.queued, tenants.executing) == (0, 1)
    tenants.leave("a")
    assert tenants.executing == 0


async def test_who_goes_away_in_the_very_moment_of_his_turn_gives_the_seat_back() -> None:
    tenants = level(seats=1)
    line = Line(tenants)
    assert tenants.try_enter("a")
    await line.add(["b", "c"])
    tenants.leave("a")  # b's turn has come, but b has not run yet
    line.tasks[0].cancel()
    await breathe()
    assert line.served == ["c"]
    assert tenants.executing == 1
    await line.end()


async def test_all_is_given_back_in_the_end() -> None:
    tenants = level(seats=3, most_of_one=2, queues=8, hand=3)
    done = 0

    async def request(flow: str) -> None:
        nonlocal done
        seat = None if tenants.try_enter(flow) else await tenants.wait(flow)
        assert tenants.executing <= 3
        await asyncio.sleep(0)
        tenants.leave(flow, seat)
        done += 1

    await asyncio.gather(*(request(f"user-{n % 7}") for n in range(300)))
    assert (done, tenants.executing, tenants.queued) == (300, 0, 0)


def test_hands_are_spread_and_hardly_two_are_alike() -> None:
    tenants = level(queues=64, hand=6)
    hands = [tenants._hand_of(f"user-{n}") for n in range(1000)]
    assert all(len(set(hand)) == 6 for hand in hands)
    assert {number for hand in hands for number in hand} == set(range(64))
    flood = set(hands[0])
    assert not any(set(hand) <= flood for hand in hands[1:])


def test_who_does_not_know_the_salt_cannot_aim() -> None:
    one, other = (Level("t", LevelSettings(seats=1, most_of_one=1), ManualClock().monotonic) for _ in range(2))
    names = [f"user-{n}" for n in range(20)]
    assert [one._hand_of(n) for n in names] != [other._hand_of(n) for n in names]
