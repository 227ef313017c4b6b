"""Recordings of shells: written part by part while they go on, read, and removed when their days are over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

import psycopg
from sqlalchemy import Row, Text, delete, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine

from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.shellrecordings import RecordingPlace, ShellRecording, Written
from vcstack.store.mirror.database import ensure_database, ensure_schema
from vcstack.store.mirror.tables import SHELL_CHUNKS, SHELL_RECORDINGS

PAGE_CHUNKS = 64
"""Read at once."""
LEAST_BYTES = 16 * 1024
"""What a recording counts besides what it shows: thousands of short ones are not for nothing."""


class RecordingArchive:
    """Recordings in PostgreSQL. All raise Unavailable while it does not answer."""

    def __init__(self, engine: AsyncEngine, dsn: str) -> None:
        self._engine = engine
        self._dsn = dsn
        self._preparing = asyncio.Lock()
        self._prepared = False

    async def begin(self, recording: ShellRecording) -> None:
        """Note that there is one."""
        await self._prepare()
        with _unavailable():
            async with self._engine.begin() as connection:
                await connection.execute(insert(SHELL_RECORDINGS).values(**asdict(recording)))

    async def write(self, written: Written) -> None:
        """Add a part, or say that nothing was shown. Raises NotFound when the recording was removed."""
        r = SHELL_RECORDINGS.c
        values = {"seconds": written.seconds, "size": written.size, "written_at": written.at}
        values |= {"ended_at": written.at} if written.ended else {}
        values |= {"chunks": written.number + 1} if written.content is not None else {}
        with _unavailable():
            async with self._engine.begin() as connection:
                done = await connection.execute(update(SHELL_RECORDINGS).where(r.id == written.id).values(**values))
                if not done.rowcount:
                    raise NotFound("the recording was removed")
                if written.content is not None:
                    chunk = {"recording": written.id, "number": written.number, "content": written.content}
                    await connection.execute(insert(SHELL_CHUNKS).values(**chunk))

    async def select(
        self, project: str, *, instance: str | None, limit: int, before: RecordingPlace | None = None
    ) -> list[ShellRecording]:
        """Return the newest of a project first, or of an instance; both by uid. ``before``: only older ones."""
        await self._prepare()
        r = SHELL_RECORDINGS.c
        place = (r.started_at, r.id)
        query = select(SHELL_RECORDINGS).where(r.project == project).limit(limit)
        query = query.order_by(*(column.desc() for column in place))
        if instance is not None:
            query = query.where(r.instance_uid == instance)
        if before is not None:
            query = query.where(tuple_(*place) < tuple_(*before))
        with _unavailable():
            async with self._engine.connect() as connection:
                return [_read(row) for row in await connection.execute(query)]

    async def find(self, project: str, id_: str) -> ShellRecording | None:
        """Return that of the project (by uid), None when there is none."""
        await self._prepare()
        r = SHELL_RECORDINGS.c
        with _unavailable():
            async with self._engine.connect() as connection:
                found = await connection.execute(select(SHELL_RECORDINGS).where(r.project == project, r.id == id_))
                row = found.first()
        return None if row is None else _read(row)

    async def measure(self, project: str) -> int:
        """Return what all of a project (by uid) count, in bytes: what they show, and something for each."""
        await self._prepare()
        r = SHELL_RECORDINGS.c
        with _unavailable():
            async with self._engine.connect() as connection:
                query = select(func.coalesce(func.sum(r.size + LEAST_BYTES), 0)).where(r.project == project)
                return int((await connection.execute(query)).scalar_one())

    async def read(self, id_: str, chunks: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield so many parts in order, with their numbers."""
        c, after = SHELL_CHUNKS.c, -1
        while after < chunks - 1:
            query = select(c.number, c.content).where(c.recording == id_, c.number > after, c.number < chunks)
            with _unavailable():
                async with self._engine.connect() as connection:
                    rows = (await connection.execute(query.order_by(c.number).limit(PAGE_CHUNKS))).all()
            if not rows:
                return
            for number, content in rows:
                yield number, bytes(content)
            after = rows[-1][0]

    async def remove(self, *, before: datetime, projects: Sequence[str], begun_before: datetime) -> int:
        """Remove those whose days are over, and those of projects that are gone; return how many.

        Args:
            before: that is now.
            projects: the uids of all projects that there are.
            begun_before: of projects that are not among them, those that are that old: they may be new.
        """
        await self._prepare()
        r = SHELL_RECORDINGS.c
        known = select(func.unnest(literal(list(projects), ARRAY(Text))))
        gone = (r.project.not_in(known)) & (r.started_at < begun_before)
        with _unavailable():
            async with self._engine.begin() as connection:
                return (
                    await connection.execute(delete(SHELL_RECORDINGS).where(or_(r.expires_at < before, gone)))
                ).rowcount

    async def _prepare(self) -> None:
        """Make database and tables if the mirror has not done so yet."""
        if self._prepared:
            return
        async with self._preparing:
            with _unavailable():
                await ensure_database(self._dsn)
                await ensure_schema(self._engine)
            self._prepared = True


def _read(row: Row[tuple[object, ...]]) -> ShellRecording:
    return ShellRecording(**row._mapping)


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, InterfaceError, psycopg.Error, OSError) as error:
        raise Unavailable("recordings cannot be written or read: PostgreSQL does not answer") from error
