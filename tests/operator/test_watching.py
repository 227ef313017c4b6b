"""kopf's noise when it is told to end before a watch was answered, and nothing else, is kept out of the log."""

import asyncio
from typing import Any

from vcstack.operator import watching


async def test_only_kopfs_own_fault_at_its_end_is_not_logged() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()

    class Loop:
        def default_exception_handler(self, context: dict[str, Any]) -> None:
            told.append(str(context["exception"]))

    def request_cancel_callback() -> None:
        raise AssertionError

    def something_else() -> None:
        raise ValueError("ours")

    loop.set_exception_handler(lambda _, context: watching._report(Loop(), context))  # type: ignore[arg-type]
    try:
        loop.call_soon(request_cancel_callback)
        loop.call_soon(something_else)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert told == ["ours"]
