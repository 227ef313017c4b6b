"""Priority levels with fair queues, after Kubernetes' API Priority and Fairness.

A level has seats: requests that are worked on at once. Who finds none free waits in one of the level's queues. A
subject is dealt a hand of the queues by its name's hash (shuffle sharding) and waits in the shortest of them, so a
subject that floods fills its own hand, and hardly anybody has all of the same queues. Free seats go to the queue that
has had the least time so far. No subject has more than some of the seats, so that slow requests of one do not hold
them all. A queue is bounded in length and in time; beyond that requests are refused.

As long as seats are free a request costs a few additions; there is no lock, for all of it happens between two awaits.
"""

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from vcstack.apiserver.limits.defaults import LevelSettings

CHARGE_SECONDS: Final = 0.005
"""What a request is thought to take until it has ended; then its queue is charged with what it took beyond that."""


class Refusal(Exception):
    """The request may not even wait, or has waited long enough."""

    def __init__(self, reason: str, retry_after_seconds: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


QUEUE_FULL: Final = "QueueFull"
QUEUE_TIMEOUT: Final = "QueueTimeout"


class _Queue:
    """Requests that wait, and how much time the queue has had so far."""

    __slots__ = ("had", "number", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiting: deque[_Waiter] = deque()
        self.had = 0.0


class _Waiter:
    """One request that waits."""

    __slots__ = ("flow", "future", "queue")

    def __init__(self, flow: str, queue: _Queue, future: "asyncio.Future[None]") -> None:
        self.flow, self.queue, self.future = flow, queue, future


class Seat:
    """A seat that came by way of a queue; the queue is charged for it."""

    __slots__ = ("began", "queue")

    def __init__(self, queue: _Queue, began: float) -> None:
        self.queue, self.began = queue, began


class Level:
    """The seats and queues of one priority level."""

    def __init__(
        self, name: str, settings: LevelSettings, now: Callable[[], float], *, salt: bytes | None = None
    ) -> None:
        """Take the settings; the salt keeps people from choosing names that share somebody's queues."""
        self.name = name
        self.settings = settings
        self.executing = 0
        self.queued = 0
        self._seats, self._most_of_one = settings.seats, settings.most_of_one
        self._now = now
        self._salt = os.urandom(16) if salt is None else salt
        self._flows: dict[str, int] = {}
        self._queues = [_Queue(number) for number in range(settings.queues)]
        self._busy: set[_Queue] = set()
        self._floor = 0.0
        """What the queue had that was served last: one that was empty begins there, for time is not saved up."""
        self._hand_of = lru_cache(maxsize=4096)(self._deal)

    def try_enter(self, flow: str) -> bool:
        """Take a seat when one is free and nobody waits."""
        if self.queued or self.executing >= self._seats:
            return False
        flows = self._flows
        mine = flows.get(flow, 0)
        if mine >= self._most_of_one:
            return False
        flows[flow] = mine + 1
        self.executing += 1
        return True

    async def wait(self, flow: str) -> Seat:
        """Return a seat when it is this request's turn. Raises Refusal."""
        hand = [self._queues[number] for number in self._hand_of(flow)]
        queue = min(hand, key=lambda q: len(q.waiting))
        if len(queue.waiting) >= self.settings.queue_length:
            raise Refusal(QUEUE_FULL, self._patience())
        if not queue.waiting:
            queue.had = max(queue.had, self._floor)
            self._busy.add(queue)
        waiter = _Waiter(flow, queue, asyncio.get_running_loop().create_future())
        queue.waiting.append(waiter)
        self.queued += 1
        self._dispatch()  # others may wait only because their subjects have enough seats
        try:
            async with asyncio.timeout(self.settings.wait_seconds):
                await waiter.future
        except TimeoutError:
            if not self._withdraw(waiter):
                raise Refusal(QUEUE_TIMEOUT, self._patience()) from None
        except BaseException:
            if self._withdraw(waiter):
                self.leave(flow)
            raise
        return Seat(queue, self._now())

    def leave(self, flow: str, seat: Seat | None = None) -> None:
        """Give a seat back."""
        self.executing -= 1
        left = self._flows[flow] - 1
        if left:
            self._flows[flow] = left
        else:
            del self._flows[flow]
        if seat is not None:
            seat.queue.had += max(0.0, self._now() - seat.began - CHARGE_SECONDS)
        if self.queued:
            self._dispatch()

    def _withdraw(self, waiter: _Waiter) -> bool:
        """Stop waiting; return whether the seat had been given already."""
        if waiter.future.done() and not waiter.future.cancelled():
            return True
        queue = waiter.queue
        if waiter in queue.waiting:
            queue.waiting.remove(waiter)
            self._left_queue(queue)
        return False

    def _left_queue(self, queue: _Queue) -> None:
        self.queued -= 1
        if not queue.waiting:
            self._busy.discard(queue)

    def _dispatch(self) -> None:
        """Give free seats to those who wait."""
        while self.queued and self.executing < self._seats:
            best: _Queue | None = None
            for queue in self._busy:
                if self._flows.get(queue.waiting[0].flow, 0) >= self._most_of_one:
                    continue
                if best is None or (queue.had, queue.number) < (best.had, best.number):
                    best = queue
            if best is None:
                return
            waiter = best.waiting.popleft()
            self._left_queue(best)
            if waiter.future.done():
                continue  # cancelled a moment ago
            self._floor = best.had
            best.had += CHARGE_SECONDS
            self.executing += 1
            self._flows[waiter.flow] = self._flows.get(waiter.flow, 0) + 1
            waiter.future.set_result(None)

    def _patience(self) -> int:
        """Return after how many seconds it may be worth to try again: the fuller, the later."""
        return min(30, 1 + self.queued // max(1, self._seats))

    def _deal(self, flow: str) -> tuple[int, ...]:
        """Return the numbers of a subject's queues: a hand dealt from the deck by the hash of its name."""
        digest = hashlib.blake2b(flow.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=32).digest()
        entropy = int.from_bytes(digest)
        deck = list(range(self.settings.queues))
        hand = []
        for _ in range(min(self.settings.hand, len(deck))):
            entropy, card = divmod(entropy, len(deck))
            hand.append(deck.pop(card))
        return tuple(hand)
