"""The audit trail's archive: records come in as they were written, are found by what they say, and are removed
by retention only, which leaves a note.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import ColumnElement, Text, case, cast, delete, exists, func, literal, not_, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vcstack.specs.audit import AuditFilter, read_line
from vcstack.specs.errors import Unavailable
from vcstack.store.mirror.database import ensure_database, ensure_schema
from vcstack.store.mirror.tables import AUDIT

SCAN_ROWS = 2000
"""Read at once while all records are gone through."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The last record of a chain that retention has removed."""

    chain: str
    seq: int
    hash: str


class AuditArchive:
    """The audit trail in PostgreSQL. All raise Unavailable while it does not answer."""

    def __init__(self, engine: AsyncEngine, dsn: str) -> None:
        self._engine = engine
        self._dsn = dsn

    async def prepare(self) -> None:
        """Make database and tables if the mirror has not done so yet."""
        with _unavailable():
            await self._engine.dispose()  # connections of a restarted server are dead
            await ensure_database(self._dsn)
            await ensure_schema(self._engine)

    async def read_last(self, chain: str) -> int:
        """Return the number of the chain's last record here; 0: none."""
        with _unavailable():
            async with self._engine.connect() as connection:
                return await connection.scalar(select(func.max(AUDIT.c.seq)).where(AUDIT.c.chain == chain)) or 0

    async def store(self, lines: Sequence[bytes]) -> None:
        """Keep records; those that are here already stay as they are."""
        records = [line.rstrip(b"\n").decode() for line in lines]
        # One array: a parameter for each row costs the process that answers requests ten times as much.
        rows = select(func.unnest(literal(records, ARRAY(Text))))
        with _unavailable():
            async with self._engine.begin() as connection:
                await connection.execute(insert(AUDIT).from_select(["record"], rows).on_conflict_do_nothing())

    async def select(
        self, wanted: AuditFilter, *, limit: int, before: tuple[str, str, int] | None = None
    ) -> list[tuple[tuple[str, str, int], str]]:
        """Return the newest records first, each with its place (time, chain, number); ``before``: only older ones."""
        place = (AUDIT.c.time, AUDIT.c.chain, AUDIT.c.seq)
        query = select(*place, AUDIT.c.record).where(*_matches(wanted)).limit(limit)
        query = query.order_by(*(column.desc() for column in place))
        if before is not None:
            query = query.where(tuple_(*place) < tuple_(*before))
        with _unavailable():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return [((time, chain, seq), record) for time, chain, seq, record in rows]

    async def scan(self, wanted: AuditFilter) -> AsyncIterator[str]:
        """Yield all records asked for, each chain's in order."""
        after: tuple[str, int] = "", 0
        place = (AUDIT.c.chain, AUDIT.c.seq)
        while True:
            query = select(*place, AUDIT.c.record).where(*_matches(wanted), tuple_(*place) > tuple_(*after))
            with _unavailable():
                async with self._engine.connect() as connection:
                    rows = (await connection.execute(query.order_by(*place).limit(SCAN_ROWS))).all()
            for row in rows:
                yield row[2]
            if len(rows) < SCAN_ROWS:
                return
            after = rows[-1][0], rows[-1][1]

    async def find_expired(self, before: str) -> list[Cut]:
        """Return where to cut each chain so that what is older goes; with it where chains were cut before.

        Empty when nothing is that old. Only a chain's beginning is cut off, never something out of its middle: a
        clock that was wrong may have written an older time later.
        """
        newer = select(AUDIT.c.chain, func.min(AUDIT.c.seq)).where(AUDIT.c.time >= before).group_by(AUDIT.c.chain)
        older = select(AUDIT.c.chain, func.max(AUDIT.c.seq)).where(AUDIT.c.time < before).group_by(AUDIT.c.chain)
        cuts: list[Cut] = []
        with _unavailable():
            async with self._engine.connect() as connection:
                kept = {row[0]: row[1] for row in (await connection.execute(newer)).all()}
                for chain, last in (await connection.execute(older)).all():
                    end = min(last, kept.get(chain, last + 1) - 1)
                    if (record := await _find(connection, chain, end)) is not None:
                        sealed = read_line(record.encode())
                        cuts.append(Cut(chain, end, sealed.hash))
                return cuts + await _earlier_cuts(connection, {c.chain for c in cuts}) if cuts else []

    async def remove(self, cuts: Sequence[Cut]) -> int:
        """Remove what comes before the cuts, each cut's own record included; return how many."""
        removed = 0
        with _unavailable():
            async with self._engine.begin() as connection:
                for cut in cuts:
                    gone = delete(AUDIT).where(AUDIT.c.chain == cut.chain, AUDIT.c.seq <= cut.seq)
                    removed += (await connection.execute(gone)).rowcount
        return removed


async def _find(connection: AsyncConnection, chain: str, seq: int) -> str | None:
    return await connection.scalar(select(AUDIT.c.record).where(AUDIT.c.chain == chain, AUDIT.c.seq == seq))


async def _earlier_cuts(connection: AsyncConnection, told: set[str]) -> list[Cut]:
    """Return the cuts of chains that were cut before: the record that told of it may be removed with this."""
    first = select(AUDIT.c.chain, func.min(AUDIT.c.seq)).group_by(AUDIT.c.chain)
    cuts = []
    for chain, seq in (await connection.execute(first)).all():
        record = await _find(connection, chain, seq) if seq > 1 and chain not in told else None
        if record is not None:
            cuts.append(Cut(chain, seq - 1, read_line(record.encode()).previous))
    return cuts


def _matches(wanted: AuditFilter) -> list[Any]:
    columns = ("subject", "kind", "project", "domain", "name", "verb", "outcome", "request_id", "chain")
    found: list[Any] = [AUDIT.c[c] == value for c in columns if (value := getattr(wanted, c))]
    if wanted.since:
        found.append(AUDIT.c.time >= wanted.since)
    if wanted.until:
        found.append(AUDIT.c.time < wanted.until)
    if wanted.projects is not None:
        found += _is_of(wanted.projects, wanted.domains)
    return found


def _is_of(projects: Sequence[tuple[str, str]], domains: Sequence[tuple[str, str]]) -> list[Any]:
    project = case((AUDIT.c.kind == "Project", AUDIT.c.name), else_=AUDIT.c.project)
    looked_missing = cast(AUDIT.c.record, JSONB)["status"].astext == "404"
    return [
        or_(_is_among(project, projects), _is_among(AUDIT.c.domain, domains)),
        or_(AUDIT.c.outcome != "Denied", not_(looked_missing)),
    ]


def _is_among(place: ColumnElement[str], allowed: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    """Return whether the record is of one of the places, and not older than that."""
    names, times = [name for name, _ in allowed], [since for _, since in allowed]
    given = func.unnest(literal(names, ARRAY(Text)), literal(times, ARRAY(Text)))
    table = given.table_valued("name", "since").render_derived()
    return exists(select(1).select_from(table).where(table.c.name == place, table.c.since <= AUDIT.c.time))


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, InterfaceError, psycopg.Error, OSError) as error:
        raise Unavailable("the audit archive does not answer (PostgreSQL); try again shortly") from error
