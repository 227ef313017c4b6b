"""Names into addresses."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

THREADS: Final = 8
"""Whoever runs a slow DNS server for his name holds these, and no thread that something else waits for."""


class Resolver(Protocol):
    """Asked once for each connection."""

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses, the best first. Raises OSError."""


class SystemResolver:
    """The machine's own: /etc/hosts, DNS."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="outbound-dns")

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses, in the order of RFC 6724. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _lookup, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str) -> list[str]:
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]
