"""Recorded shells of one project's instances."""

from collections.abc import AsyncIterator
from urllib.parse import quote

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.paths import API_ROOT
from vcstack.apiclient.shellmessages import Recording, RecordingList


class Recordings:
    """Lists and reads them."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._connection = connection
        self._base = f"{API_ROOT}/projects/{project}"

    async def list(self, instance: str | None = None) -> list[Recording]:
        """Return what was recorded in the instance, or in all of the project, the newest first."""
        place = f"{self._base}/instances/{quote(instance, safe='')}" if instance else self._base
        found: list[Recording] = []
        more: str | None = None
        while True:
            answer = await self._connection.request("GET", f"{place}/recordings", params={"continue": more})
            page = RecordingList.from_wire(answer.content)
            found += page.items
            more = page.metadata.continue_
            if not more:
                return found

    async def read(self, recording: str) -> AsyncIterator[bytes]:
        """Yield a recording in asciicast v2."""
        async with self._connection.stream("GET", f"{self._base}/recordings/{quote(recording, safe='')}") as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk
