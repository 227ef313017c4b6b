"""Kills a program at its k-th call to the outside: before the call has any effect, or just after.

Wrap every client and backend that the program under test uses in one ``Crasher``. The k-th call raises
``Killed``, which no ``except Exception`` catches, and from then on the dead program reaches nothing: every
later call raises too, whichever task makes it. What the wrapped objects keep survives, as the world does.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Killed(BaseException):
    """The program was killed here."""


class When(StrEnum):
    """On which side of the call the program dies."""

    BEFORE = "before"
    AFTER = "after"


class Crasher:
    """Counts calls and kills at one of them; without ``at`` it only counts."""

    def __init__(self, at: int | None = None, when: When = When.BEFORE) -> None:
        self.at = at
        self.when = when
        self.calls: list[str] = []
        self.dead = asyncio.Event()

    def wrap(self, target: T, *, sync_methods: tuple[str, ...] = ()) -> T:
        """Return the target with its coroutine methods, and the synchronous ones named, counted."""
        return cast(T, _Wrapped(target, self, frozenset(sync_methods)))

    def enter(self, name: str) -> bool:
        """Count a call; return whether to die after it."""
        if self.dead.is_set():
            raise Killed(f"dead already, at {name}")
        self.calls.append(name)
        hit = len(self.calls) == self.at
        if hit and self.when is When.BEFORE:
            self.die(name)
        return hit

    def leave(self, name: str, hit: bool) -> None:
        """End a call: nobody learns of its outcome once dead."""
        if hit or self.dead.is_set():
            self.die(name)

    def die(self, name: str) -> None:
        """Kill."""
        self.dead.set()
        raise Killed(f"{self.when} call {self.at}: {name}")


class _Wrapped:
    def __init__(self, target: Any, crasher: Crasher, sync_methods: frozenset[str]) -> None:
        self._target, self._crasher, self._sync_methods = target, crasher, sync_methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        label = f"{type(self._target).__name__}.{name}"
        if inspect.iscoroutinefunction(found):
            return self._counted(found, label)
        return self._counted_sync(found, label) if name in self._sync_methods else found

    def _counted(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            hit = self._crasher.enter(label)
            try:
                result = await function(*args, **kwargs)
            finally:
                if hit or self._crasher.dead.is_set():
                    self._crasher.leave(label, hit)
            return result

        return call

    def _counted_sync(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            hit = self._crasher.enter(label)
            result = function(*args, **kwargs)
            self._crasher.leave(label, hit)
            return result

        return call


def every_kill(calls: int) -> Iterator[Crasher]:
    """Yield a crasher for each side of each of so many calls."""
    for at in range(1, calls + 1):
        for when in When:
            yield Crasher(at, when)
