"""The orderly end: streams are told first, so that ordinary requests can be waited for."""

import asyncio


class Drain:
    """Says whether the server is about to stop."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    def start(self) -> None:
        """End all streams; new ones are refused by the readiness check's failing."""
        self.started.set()
