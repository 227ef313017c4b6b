"""A program that can be killed as by SIGKILL: at one of its calls to the outside, or at any moment.

All tasks that it starts, however deep, are its own; with a kill they end and whatever they try while they
end reaches nobody. What others asked of it gets no answer.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.cloud.virtual_time import InlineExecutor
from tests.fakes.crash import Crasher, Killed, When
from vcstack.specs.errors import Unavailable

T = TypeVar("T")

_CURRENT: contextvars.ContextVar["Program | None"] = contextvars.ContextVar("program", default=None)


class Program:
    """One life of a program, from start to kill."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.crasher = Crasher()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._context = contextvars.copy_context()
        self._context.run(_CURRENT.set, self)

    @property
    def alive(self) -> bool:
        return not self.crasher.dead.is_set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Run it as a part of this program."""
        return asyncio.get_running_loop().create_task(work, name=name or self.name, context=self._context)

    async def serve(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a request of somebody else; it goes on when the caller goes away. Raises Unavailable when it dies."""
        if not self.alive:
            work.close()
            raise Unavailable(f"{self.name} does not answer")
        task = self.spawn(work)
        task.add_done_callback(lambda t: t.cancelled() or t.exception())  # nobody may be left to look at it
        await asyncio.wait((task,))
        if task.cancelled() or isinstance(task.exception(), Killed):
            raise Unavailable(f"{self.name} does not answer")
        return task.result()

    def kill_at(self, call: int, when: When) -> None:
        """Have it die at that call, counted from now."""
        self.crasher.at, self.crasher.when = len(self.crasher.calls) + call, when

    async def end(self) -> None:
        """Kill it now, if it is not dead yet, and see all its tasks end."""
        self.crasher.dead.set()
        while left := [t for t in self._tasks if not t.done()]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)


def follow_programs(loop: asyncio.AbstractEventLoop, executor: InlineExecutor) -> None:
    """Make the loop tell programs their tasks, and count what they do in threads as calls to the outside."""

    def build(
        loop: asyncio.AbstractEventLoop, work: Any, *, context: contextvars.Context | None = None
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(work, loop=loop, context=context)
        program = context.get(_CURRENT) if context is not None else _CURRENT.get()
        if program is not None:
            program.adopt(task)
        return task

    def around(name: str, call: Any) -> Any:
        program = _CURRENT.get()
        if program is None:
            return call()
        hit = program.crasher.enter(name)
        result = call()
        program.crasher.leave(name, hit)
        return result

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Killed | BaseExceptionGroup):
            loop.default_exception_handler(context)

    loop.set_task_factory(build)
    loop.set_exception_handler(report)
    executor.around = around


class Counted:
    """A target of which only the named coroutine methods count as calls to the outside."""

    def __init__(self, target: Any, crasher: Crasher, names: frozenset[str]) -> None:
        self._target, self._names = target, names
        self._wrapped = crasher.wrap(target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped if name in self._names else self._target, name)
