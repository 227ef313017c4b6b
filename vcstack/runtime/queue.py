"""The work queue: which keys have to be looked at, each at most once and by one worker at a time.

As in client-go: a key added while it waits is the same entry, a key added while it is worked on waits
until that is done. Order is first come, first served, and a key that comes back goes to the end, so no
key starves another. Background keys (resyncs) have a lane of their own, so that ten thousand of them do
not delay a user's change.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

from vcstack.clock import Clock
from vcstack.runtime.backoff import Backoff

K = TypeVar("K", bound=Hashable)

FRONT_SHARE = 8
"""Of this many keys in a row from the front lane while both wait, the next is from the background."""


class QueueClosed(Exception):
    """The queue gives out no more keys."""


class _State(IntEnum):
    BACKGROUND = 0
    WAITING = 1
    ACTIVE = 2
    ACTIVE_BACKGROUND = 3
    ACTIVE_WAITING = 4


class WorkQueue(Generic[K]):
    """Keys to be worked on. Its size is bounded by the number of different keys.

    ``get`` and ``done`` bracket the work on a key; ``run`` must be running for delayed keys to come due.
    """

    def __init__(self, clock: Clock, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._states: dict[K, _State] = {}
        self._front: deque[K] = deque()
        self._background: deque[K] = deque()
        self._taken_in_a_row = 0
        self._waiting = 0
        self._added_at: dict[K, float] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._earlier = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Return how many keys wait (delayed ones and those worked on not counted)."""
        return self._waiting

    @property
    def delayed(self) -> int:
        """Return how many keys wait for their time."""
        return len(self._due)

    def add(self, key: K, *, background: bool = False) -> None:
        """Have the key looked at soon; nothing happens when it waits already."""
        if self._closed:
            return
        state = self._states.get(key)
        if state is None:
            self._enqueue(key, background)
            self._added_at[key] = self._clock.monotonic()
        elif state is _State.BACKGROUND and not background:
            self._states[key] = _State.WAITING
            self._front.append(key)  # its entry in the background lane is skipped later
        elif state is _State.ACTIVE or (state is _State.ACTIVE_BACKGROUND and not background):
            self._states[key] = _State.ACTIVE_BACKGROUND if background else _State.ACTIVE_WAITING
            self._added_at.setdefault(key, self._clock.monotonic())

    def add_after(self, key: K, seconds: float) -> None:
        """Have the key looked at when that time has passed; of several times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._closed or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        if self._heap[0][2] == key:
            self._earlier.set()

    def add_after_failure(self, key: K) -> float:
        """Have the key looked at after its backoff; return the delay in seconds."""
        self._failures[key] = failures = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures)
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """Return how often in a row the key has failed."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Count the key's failures from zero again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Return the next key, which is the caller's alone until ``done``. Raises QueueClosed."""
        while True:
            if self._closed:
                raise QueueClosed
            if self._front or self._background:
                key = self._pop()
                if key is not None:
                    return key
                continue
            await self._wait()

    def waited(self, key: K) -> float:
        """Return for how long a key just got has waited, in seconds; asked again the answer is 0."""
        now = self._clock.monotonic()
        return now - self._added_at.pop(key, now)

    def done(self, key: K) -> None:
        """End the work on a key; it comes back at once if it was added meanwhile."""
        state = self._states.pop(key)
        if state is _State.ACTIVE_WAITING or state is _State.ACTIVE_BACKGROUND:
            self._enqueue(key, state is _State.ACTIVE_BACKGROUND)

    def close(self) -> None:
        """Give out no more keys; every ``get`` raises QueueClosed."""
        self._closed = True
        while self._getters:
            self._wake_one()

    def release_due(self) -> float | None:
        """Add the delayed keys that are due; return the seconds until the next, None when there is none."""
        now = self._clock.monotonic()
        while self._heap:
            due, _, key = self._heap[0]
            if due > now:
                return due - now
            heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        return None

    async def run(self) -> None:
        """Let delayed keys come due, until cancelled."""
        while True:
            self._earlier.clear()
            seconds = self.release_due()
            if seconds is None:
                await self._earlier.wait()
            else:
                await self._sleep_or_earlier(seconds)

    def _enqueue(self, key: K, background: bool) -> None:
        self._waiting += 1
        if background:
            self._states[key] = _State.BACKGROUND
            self._background.append(key)
        else:
            self._states[key] = _State.WAITING
            self._front.append(key)
        if self._getters:
            self._wake_one()

    def _pop(self) -> K | None:
        """Return the next key, or None when its entry was stale (it moved to the front lane)."""
        if self._front and (self._taken_in_a_row < FRONT_SHARE or not self._background):
            self._taken_in_a_row += 1
            key, expected = self._front.popleft(), _State.WAITING
        else:
            self._taken_in_a_row = 0
            key, expected = self._background.popleft(), _State.BACKGROUND
        if self._states.get(key) is not expected:
            return None
        self._states[key] = _State.ACTIVE
        self._waiting -= 1
        return key

    async def _wait(self) -> None:
        getter = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        try:
            await getter
        except BaseException:
            getter.cancel()
            if getter in self._getters:
                self._getters.remove(getter)
            elif self._front or self._background:
                self._wake_one()  # we were woken for a key and leave it: somebody else must take it
            raise

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    async def _sleep_or_earlier(self, seconds: float) -> None:
        tasks = (asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._earlier.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
