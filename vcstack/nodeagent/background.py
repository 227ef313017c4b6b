"""Activities beside the controllers: one that fails is begun again and takes nothing else with it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 5.0


async def keep_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it for ever. Like the runtime's loop this is a place where errors end."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("activity.failed", activity=name, again_seconds=AGAIN_SECONDS)
        await asyncio.sleep(AGAIN_SECONDS)
