"""Blocking libraries run in a few threads of their own, with a limit on how long anybody waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from vcstack.runtime.errors import BackendUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A pool of threads for one library. A call that takes too long is given up, not stopped."""

    def __init__(self, name: str, workers: int, timeout_seconds: float) -> None:
        self._name = name
        self._timeout = timeout_seconds
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns.

        Raises:
            BackendUnavailable: if it takes too long; what came of it is not known.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError as error:
            name = getattr(call, "__name__", "a call")
            raise BackendUnavailable(f"{self._name}: {name} took longer than {self._timeout:g} s") from error

    def close(self) -> None:
        """Let go of the threads without waiting for calls that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)
