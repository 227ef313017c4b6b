"""One read for many callers that stays linearizable: nobody gets an answer asked for before they came."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from vcstack.store.etcd.errors import EtcdError, EtcdUnavailable

T = TypeVar("T")


class CoalescedRead(Generic[T]):
    """Runs `read` at most once at a time.

    Callers that arrive while one is under way wait for the next, which starts after they arrived; all of
    them share its answer or its error.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._next: asyncio.Future[T] | None = None
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self) -> T:
        """The answer of a read that began after this call."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="etcd-coalesced-read")
        # Shielded, for the future belongs to all who wait: one who gives up must not end it for the rest.
        return await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """End the read under way; those who wait get EtcdUnavailable."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._next is not None:
                waiting, self._next = self._next, None
                await self._answer(waiting)
        finally:
            self._runner = None
            if self._next is not None:
                _fail(self._next, EtcdUnavailable("the etcd client is closed"))
                self._next = None

    async def _answer(self, waiting: asyncio.Future[T]) -> None:
        try:
            waiting.set_result(await self._read())
        except EtcdError as error:
            _fail(waiting, error)
        except asyncio.CancelledError:
            _fail(waiting, EtcdUnavailable("the etcd client is closed"))
            raise


def _fail(waiting: asyncio.Future[T], error: EtcdError) -> None:
    waiting.set_exception(error)
    waiting.exception()  # marks it as seen, for all who asked may have given up by now
