"""What is needed of the archive of recordings."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from vcstack.specs.shellrecordings import RecordingPlace, ShellRecording, Written


class Archive(Protocol):
    """Recordings outside of us. All raise Unavailable while it does not answer."""

    async def begin(self, recording: ShellRecording) -> None:
        """Note that there is one."""

    async def write(self, written: Written) -> None:
        """Add a part, or say that nothing was shown. Raises NotFound when the recording was removed."""

    async def select(
        self, project: str, *, instance: str | None, limit: int, before: RecordingPlace | None = None
    ) -> list[ShellRecording]:
        """Return the newest of a project first, or of an instance; both by uid. ``before``: only older ones."""

    async def find(self, project: str, id_: str) -> ShellRecording | None:
        """Return that of the project (by uid), None when there is none."""

    async def measure(self, project: str) -> int:
        """Return what all of a project (by uid) count, in bytes: what they show, and something for each."""

    def read(self, id_: str, chunks: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield so many parts in order, with their numbers."""

    async def remove(self, *, before: datetime, projects: Sequence[str], begun_before: datetime) -> int:
        """Remove those whose days are over, and those of projects that are gone; return how many."""
