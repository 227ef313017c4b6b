"""Talking to a shell as a terminal does."""

from vcstack.apiclient.shell import ShellSocket
from vcstack.apiclient.shellmessages import ShellEnd


class Talk:
    """What has been shown so far, and what was said beside it."""

    def __init__(self, socket: ShellSocket) -> None:
        self._socket = socket
        self.shown = b""
        self.recorded = False
        self.exit: ShellEnd | None = None

    async def say(self, line: str) -> None:
        await self._socket.send(line.encode() + b"\n")

    async def until(self, wanted: bytes) -> bytes:
        """Return what was shown up to and with that, which is not looked at again."""
        while wanted not in self.shown:
            assert await self._step(), self.shown
        before, _, self.shown = self.shown.partition(wanted)
        return before + wanted

    async def to_the_end(self) -> ShellEnd | None:
        """Return how it ended, with all that was shown until then in ``shown``."""
        while await self._step():
            pass
        return self.exit

    async def _step(self) -> bool:
        message = await self._socket.receive()
        if isinstance(message, bytes):
            self.shown += message
        elif message is not None:
            self.recorded = self.recorded or bool(message.recording)
            self.exit = message.exit or self.exit
        return message is not None
