"""How long a request may take to arrive and its answer to be read, and how large its head may be: uvicorn waits for
ever, and its parser takes any length.

A client that sends a byte now and then holds a connection and what has come of its body (slowloris, OWASP API4:2023);
one that reads a byte now and then holds its answer.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

HEAD_BYTES: Final = 64 * 1024
"""Request line and headers. Tokens and cookies take a few KiB; nginx takes 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What a client is given; as Apache's RequestReadTimeout has it: header=20 body=20,MinRate=500."""

    head_seconds: float = 20.0
    """From the connection, or the head's first byte, to its last."""
    body_seconds: float = 20.0
    """A body may be slower at its beginning."""
    body_bytes_per_second: int = 500
    """At least, from then on, of the time that we were ready to take it."""
    answer_seconds: float = 30.0
    """While an answer waits for its reader, what came there is looked at over so long."""
    answer_bytes_per_second: int = 2048
    """At least, of an answer that waits: slower than any modem."""
    look_seconds: float = 5.0
    """How often all connections are looked at; that costs less than a timer for each request."""


async def end_the_slow(connections: Iterable[Any], patience: Patience) -> None:
    """Look at all connections now and then, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(patience.look_seconds)
        now = loop.time()
        for each in [c for c in connections if hasattr(c, "end_if_slow")]:
            each.end_if_slow(now, patience)
