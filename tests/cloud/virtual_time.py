"""An event loop whose time jumps to the next timer when nobody has anything to do.

A minute of leases, backoffs and pauses costs no more than the work done in it, and the order of things
does not depend on the machine. Threads would not take part in that time, so what is given to the default
executor runs at once, in the loop.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

BEGINNING = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Deadlock(RuntimeError):
    """Nothing can ever happen again."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits; moves its loop's time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0) if timeout is None or timeout > 0 else []
        if not found and timeout is None:
            raise Deadlock("no timer and nothing to do")
        if not found and timeout:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.set_default_executor(InlineExecutor())

    def time(self) -> float:
        return self._jumping.now

    def jump_to(self, time: float) -> None:
        """Move on to that time."""
        self._jumping.now = max(self._jumping.now, time)


class InlineExecutor(ThreadPoolExecutor):
    """Runs what it is given before it returns. ``around`` may refuse to, as a kill does."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.around: Callable[[str, Callable[[], Any]], Any] = lambda name, call: call()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        # asyncio.to_thread gives a partial of Context.run with the function as its first argument.
        inner = getattr(fn, "args", (fn,))[0]
        name = f"thread.{getattr(inner, '__qualname__', 'call').rpartition('.<locals>')[0] or inner.__name__}"
        try:
            future.set_result(self.around(name, lambda: fn(*args, **kwargs)))
        except BaseException as error:  # noqa: BLE001 - as a thread hands it on
            future.set_exception(error)
        return future


class VirtualClock:
    """The runtime's clock on the loop's time."""

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=round(asyncio.get_running_loop().time(), 6))

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T], *, loop: VirtualLoop | None = None) -> T:
    """Run to the end in virtual time and return the outcome."""
    loop = loop or VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
