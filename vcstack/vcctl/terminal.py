"""The raw terminal: bytes as they are typed, and everything put back afterwards."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Iterator

LEAVE = 0x1D
"""Ctrl-], as in telnet and virsh console."""
READ_BYTES = 4096


@contextlib.contextmanager
def raw_terminal() -> Iterator[bool]:
    """Switch stdin to raw for a while; yields whether it is a terminal at all."""
    if not sys.stdin.isatty():
        yield False
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def read_keys() -> AsyncGenerator[bytes]:
    """Yield what comes on stdin until it ends or, typed at a terminal, Ctrl-]."""
    loop, chunks = asyncio.get_running_loop(), asyncio.Queue[bytes](maxsize=64)
    descriptor, at_terminal = sys.stdin.fileno(), sys.stdin.isatty()

    def arrived() -> None:
        data = os.read(descriptor, READ_BYTES)
        with contextlib.suppress(asyncio.QueueFull):
            chunks.put_nowait(data)
        if not data:
            loop.remove_reader(descriptor)

    try:
        loop.add_reader(descriptor, arrived)
    except PermissionError:  # epoll knows no regular files: they are read at once
        yield await asyncio.to_thread(sys.stdin.buffer.read)
        return
    try:
        while data := await chunks.get():
            before, leave, _ = data.partition(bytes([LEAVE])) if at_terminal else (data, b"", b"")
            if before:
                yield before
            if leave:
                return
    finally:
        loop.remove_reader(descriptor)


def write_raw(data: bytes) -> None:
    """Write bytes to stdout at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
