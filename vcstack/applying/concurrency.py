"""A few requests at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

CONCURRENCY = 4
"""Requests in flight at once; more cost more in TLS handshakes than they save."""


async def gather(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T | Exception]:
    """Return what the calls give or raise, in their order, a few at a time."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def run(call: Callable[[], Awaitable[T]]) -> T | Exception:
        async with limit:
            try:
                return await call()
            except Exception as error:  # noqa: BLE001 - each object's failure is shown beside the others' results
                return error

    return list(await asyncio.gather(*(run(c) for c in calls)))
