"""The raw terminal: bytes as they are typed, and everything put back afterwards."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Callable, Iterator

LEAVE = 0x1D
"""Ctrl-], as in telnet and virsh console."""
READ_BYTES = 16 * 1024
TILDE, DOT = 0x7E, 0x2E
LINE_ENDS = (0x0D, 0x0A)


class TildeEscape:
    """Finds ``~.`` at the beginning of a line, as in ssh; ``~~`` there stands for one tilde."""

    def __init__(self) -> None:
        self._at_start = True
        self._held = False

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be sent of what was typed, and whether that was the end."""
        out = bytearray()
        for byte in data:
            if self._held:
                self._held = False
                if byte == DOT:
                    return bytes(out), True
                out.append(TILDE)
                if byte == TILDE:
                    self._at_start = False
                    continue
            elif byte == TILDE and self._at_start:
                self._held = True
                continue
            out.append(byte)
            self._at_start = byte in LINE_ENDS
        return bytes(out), False


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


async def read_keys(leave_by: int | None = LEAVE) -> AsyncGenerator[bytes]:
    """Yield what comes on stdin until it ends or, typed at a terminal, the key that leaves."""
    loop, chunks = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    descriptor, at_terminal = sys.stdin.fileno(), sys.stdin.isatty()

    def arrived() -> None:
        # One at a time: what nobody takes yet waits where it is.
        loop.remove_reader(descriptor)
        chunks.put_nowait(os.read(descriptor, READ_BYTES))

    try:
        loop.add_reader(descriptor, arrived)
    except PermissionError:  # epoll knows no regular files: they are read at once
        while data := await asyncio.to_thread(os.read, descriptor, READ_BYTES):
            yield data
        return
    try:
        while data := await chunks.get():
            loop.add_reader(descriptor, arrived)
            leaves = at_terminal and leave_by is not None
            before, leave, _ = data.partition(bytes([leave_by or 0])) if leaves else (data, b"", b"")
            if before:
                yield before
            if leave:
                return
    finally:
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def on_resize(call: Callable[[], None]) -> Iterator[None]:
    """Have it told whenever the terminal gets another size."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, call)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def write_raw(data: bytes) -> None:
    """Write bytes to stdout at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
