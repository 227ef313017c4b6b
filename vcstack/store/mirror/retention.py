"""The retention of history: versions go for their age, and of one name for their number. The mirror's leader sweeps.

Of a name the oldest versions go first, so what is left of it tells the truth from its first version on. What it was at
any moment of the days that are kept can be told: the newest version that is older stays, unless that is a deletion.
Where versions went that are newer than that, for there were too many, is noted with the name.

A sweep walks over all names by the primary key and keeps no place: killed anywhere, the next one does the rest. Each
transaction removes a few versions only and notes with them how far back history reaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog
from prometheus_client import Counter
from sqlalchemy import BigInteger, Row, Text, delete, func, literal, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vcstack.clock import Clock
from vcstack.store.mirror.database import ensure_database, ensure_schema
from vcstack.store.mirror.tables import HISTORY, HISTORY_CUTS, HISTORY_FLOOR

HISTORY_DAYS: Final = 90
"""How long versions are kept."""
HISTORY_VERSIONS: Final = 1000
"""How many of one name."""
SWEEP_SECONDS: Final = 3600.0
"""How often it is looked for what has to go."""
RETRY_SECONDS: Final = 60.0
"""The pause after a fault."""
PAGE_NAMES: Final = 20
PAGE_VERSIONS: Final = 100
"""A transaction looks at so many names and so many versions of each; a version may have megabytes."""

REMOVED: Final = Counter("vcstack_history_removed", "Versions removed from history.", ["why"])
"""Why: age or number."""

log = structlog.get_logger(__name__)

_FIND: Final = text("""
WITH RECURSIVE names AS (
    (SELECT kind, project, name, 1 AS number FROM history
     WHERE (kind, project, name) > (:kind, :project, :name) ORDER BY kind, project, name LIMIT 1)
  UNION ALL
    SELECT next.kind, next.project, next.name, names.number + 1
    FROM names CROSS JOIN LATERAL (
        SELECT h.kind, h.project, h.name FROM history h
        WHERE (h.kind, h.project, h.name) > (names.kind, names.project, names.name)
        ORDER BY h.kind, h.project, h.name LIMIT 1
    ) AS next
    WHERE names.number < :names
)
SELECT n.kind, n.project, n.name, kept.revision AS kept, first.revision AS first, w.seen, w.last, w.old, w.old_is_gone
FROM names n
-- The oldest of the newest that may stay; null: there are not so many.
LEFT JOIN LATERAL (
    SELECT h.revision FROM history h WHERE h.kind = n.kind AND h.project = n.project AND h.name = n.name
    ORDER BY h.revision DESC OFFSET :versions - 1 LIMIT 1
) AS kept ON true
-- Two versions tell whether anything may be too old: the first goes when the second is, or when it is a deletion.
CROSS JOIN LATERAL (
    SELECT min(two.revision) AS revision, (array_agg(two.recorded_at < :before ORDER BY two.revision)) AS old,
        (array_agg(two.operation ORDER BY two.revision))[1] = 'Deleted' AS is_gone
    FROM (
        SELECT h.revision, h.recorded_at, h.operation FROM history h
        WHERE h.kind = n.kind AND h.project = n.project AND h.name = n.name ORDER BY h.revision LIMIT 2
    ) AS two
) AS first
-- The versions of which some go: how far all are too old, and whether the name stood for nothing then.
CROSS JOIN LATERAL (
    SELECT count(*) AS seen, max(v.revision) AS last, max(v.revision) FILTER (WHERE v.old) AS old,
        (array_agg(v.operation ORDER BY v.revision DESC) FILTER (WHERE v.old))[1] = 'Deleted' AS old_is_gone
    FROM (
        SELECT few.revision, few.operation, bool_and(few.recorded_at < :before) OVER (ORDER BY few.revision) AS old
        FROM (
            SELECT h.revision, h.recorded_at, h.operation FROM history h
            WHERE h.kind = n.kind AND h.project = n.project AND h.name = n.name
                AND (kept.revision > first.revision OR first.old[1] AND (first.old[2] OR first.is_gone))
            ORDER BY h.revision LIMIT :page
        ) AS few
    ) AS v
) AS w
ORDER BY n.kind, n.project, n.name
""")


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes of one name."""

    kind: str
    project: str
    name: str
    before: int
    """Versions of lower revisions go."""
    reach: int
    """From this revision on it can be told what there was."""
    is_for_age: bool
    """Else for their number."""


class HistoryRetention:
    """Removes what is too old or too much. Run one; a second one does no harm."""

    def __init__(
        self,
        engine: AsyncEngine,
        dsn: str,
        clock: Clock,
        *,
        days: int = HISTORY_DAYS,
        versions: int = HISTORY_VERSIONS,
    ) -> None:
        self._engine = engine
        self._dsn = dsn
        self._clock = clock
        self._keep = timedelta(days=days)
        self._versions = versions

    async def run(self) -> None:
        """Sweep now and then until cancelled. Faults are logged and tried again: the mirror goes on."""
        while True:
            pause = RETRY_SECONDS
            try:
                await ensure_database(self._dsn)
                await ensure_schema(self._engine)
                removed = await self.sweep()
                if removed:
                    log.info("old versions removed from history", versions=removed)
                pause = SWEEP_SECONDS
            except (DBAPIError, InterfaceError, psycopg.Error, OSError) as error:
                log.warning(
                    "history's retention waits", error=str(error).splitlines()[0] if str(error) else repr(error)
                )
            except Exception:
                log.exception("history's retention failed, it begins again")
            await self._clock.sleep(pause)

    async def sweep(self) -> int:
        """Remove what has to go of all names; return how many versions that was."""
        before = self._clock.now() - self._keep
        removed = 0
        after: tuple[str, str, str] | None = ("", "", "")
        while after is not None:
            more, after = await self._sweep_page(after, before)
            removed += more
        async with self._engine.begin() as connection:
            # What is noted of single names is true of all by then.
            floor = HISTORY_FLOOR.c.revision
            await connection.execute(delete(HISTORY_CUTS).where(HISTORY_CUTS.c.revision <= floor))
        return removed

    async def _sweep_page(
        self, after: tuple[str, str, str], before: datetime
    ) -> tuple[int, tuple[str, str, str] | None]:
        """Do it for the names that follow; return how many versions went, and where to go on."""
        given = dict(zip(("kind", "project", "name"), after, strict=True))
        sizes = {"names": PAGE_NAMES, "versions": self._versions, "page": PAGE_VERSIONS}
        async with self._engine.begin() as connection:
            # Of two managers that both hold themselves for the leader one waits: they would lock each other's rows.
            await connection.execute(text("SELECT pg_advisory_xact_lock(7622002)"))
            rows = (await connection.execute(_FIND, {**given, **sizes, "before": before})).all()
            found = [_find_cut(row) for row in rows]
            cuts = [cut for cut, _ in found if cut is not None]
            for_age = await _remove(connection, [cut for cut in cuts if cut.is_for_age])
            for_number = await _remove(connection, [cut for cut in cuts if not cut.is_for_age])
            await _note(connection, cuts, before)
        REMOVED.labels("age").inc(for_age)
        REMOVED.labels("number").inc(for_number)
        if any(is_partial for _, is_partial in found):
            return for_age + for_number, after
        last = rows[-1] if len(rows) == PAGE_NAMES else None
        return for_age + for_number, None if last is None else (last.kind, last.project, last.name)


def _find_cut(row: Row[Any]) -> tuple[Cut | None, bool]:
    """Return what goes of a name now, and whether there may be more of it."""
    if not row.seen:
        return None, False
    too_old = 0 if row.old is None else row.old + row.old_is_gone
    too_many = row.kept or 0
    before, is_full = max(too_old, too_many), row.seen == PAGE_VERSIONS
    if is_full:
        before = min(before, row.last)
    if before <= row.first:
        return None, False
    is_for_age = too_old >= too_many
    reach = min(row.old, before) if is_for_age else before
    return Cut(row.kind, row.project, row.name, before, reach, is_for_age), is_full and before == row.last


async def _remove(connection: AsyncConnection, cuts: Sequence[Cut]) -> int:
    if not cuts:
        return 0
    columns = [[getattr(cut, name) for cut in cuts] for name in ("kind", "project", "name")]
    arrays = [literal(column, ARRAY(Text)) for column in columns]
    before = literal([cut.before for cut in cuts], ARRAY(BigInteger))
    given = func.unnest(*arrays, before).table_valued("kind", "project", "name", "before").render_derived()
    matches = [HISTORY.c[name] == given.c[name] for name in ("kind", "project", "name")]
    done = await connection.execute(delete(HISTORY).where(*matches, HISTORY.c.revision < given.c.before))
    return done.rowcount


async def _note(connection: AsyncConnection, cuts: Sequence[Cut], before: datetime) -> None:
    """Write down how far back history reaches by then."""
    for_age = [cut.reach for cut in cuts if cut.is_for_age]
    if for_age:
        floor = insert(HISTORY_FLOOR).values(id=1, revision=max(for_age), time=before)
        newest = {name: func.greatest(HISTORY_FLOOR.c[name], floor.excluded[name]) for name in ("revision", "time")}
        await connection.execute(floor.on_conflict_do_update(index_elements=["id"], set_=newest))
    for_number = [
        {"kind": cut.kind, "project": cut.project, "name": cut.name, "revision": cut.reach}
        for cut in cuts
        if not cut.is_for_age
    ]
    if for_number:
        noted = insert(HISTORY_CUTS)
        newest = {"revision": func.greatest(HISTORY_CUTS.c.revision, noted.excluded.revision)}
        await connection.execute(
            noted.on_conflict_do_update(index_elements=["project", "kind", "name"], set_=newest), for_number
        )
