"""Reading history: the revisions of an object, and the object as it was at one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Table, and_, func, or_, select
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine

from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.introspect import in_order
from vcstack.specs.kinds.project import Project
from vcstack.specs.meta import format_time
from vcstack.specs.pastevents import PastEvents, PastPlace
from vcstack.specs.reach import ProjectReach, Reach
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.mirror.pastevents import build_event, build_event_query
from vcstack.store.mirror.records import build_key
from vcstack.store.mirror.tables import HISTORY, HISTORY_CUTS, HISTORY_FLOOR, POSITION

MAX_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of an object."""

    revision: int
    uid: str
    operation: str
    """Created, Updated, StatusUpdated, DeletionRequested or Deleted."""
    actor: str
    manager: str
    time: datetime
    diff: list[dict[str, Any]]
    """[{path, old, new}]"""

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "revision": str(self.revision),
            "uid": self.uid,
            "operation": self.operation,
            "actor": self.actor,
            "manager": self.manager,
            "time": format_time(self.time),
            "diff": self.diff,
        }


@dataclass(frozen=True, slots=True)
class LocatedRevision(Revision):
    """One revision of some object."""

    ref: Ref

    def to_wire(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        place = {"kind": self.ref.kind, "project": self.ref.project, "name": self.ref.name}
        return {**{k: v for k, v in place.items() if v is not None}, **Revision.to_wire(self)}


class HistoryReader:
    """Queries of the mirror's history. All raise Unavailable while PostgreSQL does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read_position(self) -> int:
        """Return the store's revision that the mirror has reached."""
        return int((await self._fetch(select(POSITION.c.revision)) or [(0,)])[0][0])

    async def list_revisions(
        self,
        ref: Ref,
        *,
        limit: int = 100,
        before: int | None = None,
        since: datetime | None = None,
        uid: str | None = None,
    ) -> list[Revision]:
        """Return the newest revisions first, at most `limit` (1 to 500).

        Args:
            ref: whose.
            limit: how many.
            before: only older ones.
            since: none from before; the name may have been another one's.
            uid: of the object of that uid only.
        """
        h = HISTORY.c
        query = select(h.revision, h.uid, h.operation, h.actor, h.manager, h.recorded_at, h.diff)
        query = query.where(*_matches(ref, since, uid)).order_by(h.revision.desc()).limit(max(1, min(limit, MAX_LIMIT)))
        if before is not None:
            query = query.where(h.revision < before)
        return [Revision(*row) for row in await self._fetch(query)]

    async def list_of_project(
        self, project: str, *, since: datetime, limit: int = 100, before: int | None = None
    ) -> list[LocatedRevision]:
        """Return the newest revisions of what lies in the project, and of itself, first, but for reports of status.

        More than `limit` where the last have one revision: what is written together shares it, and a page that ended
        within it would lose the rest. Events are told as such, not as changes. A report of status is there where it is
        the oldest that is left of an object whose versions were too many: among those that went may have been changes.
        """
        h = HISTORY.c
        columns = (h.revision, h.uid, h.operation, h.actor, h.manager, h.recorded_at, h.diff, h.kind, h.project, h.name)
        changes = select(*columns).where(
            _lies_in(HISTORY, project), h.operation != "StatusUpdated", h.kind != "Event", h.recorded_at >= since
        )
        oldest = select(*columns).join(HISTORY_CUTS, _IS_OLDEST_LEFT)
        oldest = oldest.where(_lies_in(HISTORY_CUTS, project), h.operation == "StatusUpdated", h.recorded_at >= since)
        rows = []
        # In this order: what is removed between the two is in one of them.
        for query in (changes, oldest):
            older = query if before is None else query.where(h.revision < before)
            rows += await self._fetch(older.order_by(h.revision.desc()).fetch(max(1, limit), with_ties=True))
        rows.sort(key=lambda row: (-row.revision, row.kind, row.name))
        if len(rows) > limit:
            rows = [row for row in rows if row.revision >= rows[max(1, limit) - 1].revision]
        return [
            LocatedRevision(
                row.revision, row.uid, row.operation, row.actor, row.manager, row.recorded_at, row.diff,
                Ref(row.kind, row.project or None, row.name),
            )
            for row in rows
        ]  # fmt: skip

    async def get_at_revision(
        self, ref: Ref, revision: int, *, since: datetime | None = None, uid: str | None = None
    ) -> dict[str, Any]:
        """Return the object as it stood at that revision of the store, as wire; since and uid as for revisions.

        Raises:
            Expired: what it was then has been removed.
            NotFound: it did not exist then, or the mirror saw nothing that old.
        """
        query = select(HISTORY.c.object).where(*_matches(ref, since, uid), HISTORY.c.revision <= revision)
        rows = await self._fetch(query.order_by(HISTORY.c.revision.desc()).limit(1))
        # Looked for after the object: what is removed between the two is in one of them.
        if not rows and (reach := await self.find_reach(ref, since=since, uid=uid)) and revision < reach.revision:
            raise reach.refuse(ref, "atRevision")
        if not rows or rows[0][0] is None:
            raise NotFound(f"{ref} did not exist at revision {revision}, or its history does not reach back so far.")
        return in_order(get_kind(ref.kind).model, rows[0][0])

    async def find_reach(self, ref: Ref, *, since: datetime | None = None, uid: str | None = None) -> Reach | None:
        """Return how far back the object's history can be told, as since and uid show it; None: nothing was removed."""
        h, c = HISTORY.c, HISTORY_CUTS.c
        query = select(h.revision, h.operation, c.revision.label("cut")).join(
            HISTORY_CUTS, _IS_OLDEST_LEFT, isouter=True
        )
        oldest = await self._fetch(query.where(*_matches(ref, since, uid)).order_by(h.revision).limit(1))
        floor = (await self._read_floor())[0]
        if not oldest:
            return Reach(floor, lacks=False) if floor else None
        revision, operation, cut = oldest[0]
        if cut is not None:
            return Reach(revision, lacks=True)
        # A name may have stood for something before it was made, of which nothing is left.
        return Reach(min(revision, floor), lacks=operation != "Created") if floor else None

    async def find_project_reach(self, project: str, *, since: datetime) -> ProjectReach | None:
        """Return the same of what lies in the project that there is since then."""
        query = select(func.max(HISTORY_CUTS.c.revision)).join(HISTORY, _IS_OLDEST_LEFT)
        cuts = await self._fetch(query.where(_lies_in(HISTORY_CUTS, project), HISTORY.c.recorded_at >= since))
        floor, time = await self._read_floor()
        if time is not None and time <= since:
            floor, time = 0, None  # what was removed was another one's of that name
        found = ProjectReach(floor, time, cuts[0][0] or 0)
        return found if found.revision or found.cuts else None

    async def _read_floor(self) -> tuple[int, datetime | None]:
        rows = await self._fetch(select(HISTORY_FLOOR.c.revision, HISTORY_FLOOR.c.time))
        return (rows[0].revision, rows[0].time) if rows else (0, None)

    async def list_events(self, wanted: PastEvents) -> list[tuple[dict[str, Any], PastPlace]]:
        """Return events by when they last happened, the newest first, as wire and with the place of each."""
        rows = await self._fetch(build_event_query(wanted))
        return [(build_event(row._mapping), (row.last_time, row.uid)) for row in rows]

    async def _fetch(self, query: Any) -> list[Any]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())
        except (DBAPIError, InterfaceError, psycopg.Error, OSError) as error:
            raise Unavailable("History cannot be read: PostgreSQL does not answer. Try again shortly.") from error


_IS_OLDEST_LEFT = and_(*(HISTORY.c[name] == HISTORY_CUTS.c[name] for name in ("kind", "project", "name", "revision")))
"""Of a version, that those before it were removed, for they were too many."""


def _lies_in(table: Table, project: str) -> Any:
    """Return whether it is of what lies in the project, or of the project itself."""
    c = table.c
    return or_(c.project == project, and_(c.project == "", c.kind == Project.KIND, c.name == project))


def _matches(ref: Ref, since: datetime | None, uid: str | None) -> list[Any]:
    found = [HISTORY.c[name] == value for name, value in build_key(ref).items()]
    if since is not None:
        found.append(HISTORY.c.recorded_at >= since)
    if uid is not None:
        found.append(HISTORY.c.uid == uid)
    return found
