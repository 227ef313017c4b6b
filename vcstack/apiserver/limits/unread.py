"""Large answers that wait for their readers: they are sent in parts, and what waits is bounded.

An answer given to the transport at once lies in its buffer until the client has read it, and the request that made it
has long left its seat. So large ones go out part by part, each when there is room for it, and are counted until then.
When too much waits, the answer that has waited longest is given up; one that is read takes milliseconds.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from vcstack.apiserver import metrics
from vcstack.specs.errors import Unavailable

PART_BYTES: Final = 64 * 1024
"""An answer larger than that is a large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadSettings:
    """How much may wait."""

    of_one: int = 64 * 1024 * 1024
    """Bytes of one subject's answers; with more waiting nothing large is begun for it."""
    in_all: int = 512 * 1024 * 1024
    """Bytes of all answers at this worker."""
    grace_seconds: float = 5.0
    """Answers that have waited less are not given up."""


class _Answer:
    __slots__ = ("began", "owner", "size", "timeout")

    def __init__(self, owner: str, size: int, began: float, timeout: asyncio.Timeout) -> None:
        self.owner, self.size, self.began, self.timeout = owner, size, began, timeout


class UnreadAnswers:
    """The large answers of one worker that are on their way."""

    def __init__(self, settings: UnreadSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._answers: dict[_Answer, None] = {}
        """Those that began first come first."""
        self._of: defaultdict[str, int] = defaultdict(int)
        self.bytes = 0
        """Of all of them."""

    def is_full(self, owner: str) -> bool:
        """Return whether so much waits for the owner that no more may be begun."""
        if self._of and self._of.get(owner, 0) >= self._settings.of_one:
            self._make_room()
            return self._of.get(owner, 0) >= self._settings.of_one
        return False

    async def send(self, owner: str, message: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Send the body in parts. Raises Unavailable when it is given up."""
        body = memoryview(message["body"])
        try:
            async with asyncio.timeout(None) as timeout:
                answer = _Answer(owner, len(body), self._now(), timeout)
                self._add(answer)
                try:
                    await _send_parts(body, message, send)
                finally:
                    self._remove(answer)
        except TimeoutError as error:
            metrics.ANSWERS_ENDED.labels("TooManyUnread").inc()
            raise Unavailable("the client does not read its answers") from error

    def _add(self, answer: _Answer) -> None:
        self._answers[answer] = None
        self._of[answer.owner] += answer.size
        self.bytes += answer.size
        if self.bytes > self._settings.in_all or self._of[answer.owner] > self._settings.of_one:
            self._make_room()

    def _remove(self, answer: _Answer) -> None:
        if answer not in self._answers:
            return  # given up already
        del self._answers[answer]
        self.bytes -= answer.size
        self._of[answer.owner] -= answer.size
        if not self._of[answer.owner]:
            del self._of[answer.owner]

    def _make_room(self) -> None:
        """Give up what has waited longest, of who has too much and, if all is too much, of anybody."""
        settings, latest = self._settings, self._now() - self._settings.grace_seconds
        for answer in list(self._answers):
            if answer.began > latest:
                return
            if self.bytes > settings.in_all or self._of[answer.owner] >= settings.of_one:
                self._remove(answer)
                answer.timeout.reschedule(0)


async def _send_parts(body: memoryview, message: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    last = (len(body) - 1) // PART_BYTES * PART_BYTES
    for start in range(0, last, PART_BYTES):
        await send({**message, "body": body[start : start + PART_BYTES], "more_body": True})
    await send({**message, "body": body[last:]})
