"""What a running instance is asked for: its figures, a picture of its screen, and the screen itself."""

import contextlib
from collections.abc import AsyncIterator

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.instancemessages import InstanceMetrics, InstanceStream, Ticket, TicketRequest
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.websocket import ByteSocket, open_socket


class InstanceViews:
    """Views of the instances of one project."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._connection = connection
        self._base = f"{API_ROOT}/projects/{project}/instances"

    async def measure(self, name: str) -> InstanceMetrics:
        """Return what the instance has used since it was started."""
        answer = await self._connection.request("GET", f"{self._base}/{name}/metrics")
        return InstanceMetrics.from_wire(answer.content)

    async def take_screenshot(self, name: str) -> bytes:
        """Return what is on the screen as PNG."""
        return (await self._connection.request("GET", f"{self._base}/{name}/screenshot")).content

    async def get_ticket(self, name: str, stream: InstanceStream) -> Ticket:
        """Return what opens the stream once, for whoever has it."""
        asked = TicketRequest(stream=stream).to_json()
        answer = await self._connection.request("POST", f"{self._base}/{name}/tickets", content=asked)
        return Ticket.from_wire(answer.content)

    @contextlib.asynccontextmanager
    async def open(self, name: str, stream: InstanceStream, *, ticket: str | None = None) -> AsyncIterator[ByteSocket]:
        """Yield the stream, by a ticket or as who is logged in."""
        path = f"{self._base}/{name}/{stream.subresource}"
        async with open_socket(self._connection, path, {"ticket": ticket}) as socket:
            yield socket
