"""Telling a person what goes on, step by step, with times."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Report:
    """Prints one line for each finished step; silent when asked to be (tests)."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def say(self, part: str, text: str, seconds: float | None = None) -> None:
        """Prints a line: the part, what was done, and how long it took."""
        if self._silent:
            return
        took = "" if seconds is None else f"{seconds:6.1f} s"
        with self._lock:
            print(f"  {part:<11} {text:<62}{took}".rstrip(), flush=True)

    @contextmanager
    def step(self, part: str, text: str) -> Iterator[None]:
        """Times what runs inside and reports it when it succeeds."""
        begun = time.monotonic()
        yield
        self.say(part, text, time.monotonic() - begun)

    def elapsed(self) -> float:
        """Seconds since this report began."""
        return time.monotonic() - self._begun
