"""Writes a batch of changes and the position in one transaction, so that nothing is lost or doubled."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.mirror.records import (
    UNKNOWN_ACTOR,
    Change,
    build_diff,
    build_event_row,
    build_key,
    build_row,
    operation_of,
)
from vcstack.store.mirror.tables import EVENTS, HISTORY, POSITION, RESOURCES

Objects = dict[Ref, tuple[int, dict[str, Any] | None]]
"""The revision and the object that the mirror holds."""


class MirrorWriter:
    """All that is ever written to the mirror."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read_position(self) -> int:
        """Return the last revision that is in the mirror; 0 when it was never filled."""
        async with self._engine.connect() as connection:
            return await connection.scalar(select(POSITION.c.revision)) or 0

    async def write(self, changes: Sequence[Change], position: int | None) -> None:
        """Write the changes, in order of revision, and the position reached (None: leave it)."""
        async with self._engine.begin() as connection:
            await self._write(connection, changes)
            if position is not None:
                await self._save(connection, position)

    async def finish_listing(self, seen: Collection[Ref], revision: int) -> None:
        """Remove what the store did not list as of the revision, and begin from there."""
        async with self._engine.begin() as connection:
            columns = (RESOURCES.c.kind, RESOURCES.c.project, RESOURCES.c.name)
            rows = await connection.execute(select(*columns).where(RESOURCES.c.revision <= revision))
            known = {Ref(kind, project or None, name) for kind, project, name in rows}
            await self._write(connection, [Change(r, revision, None, UNKNOWN_ACTOR) for r in sorted(known - set(seen))])
            await self._save(connection, revision)

    async def reset(self) -> None:
        """Forget the position and the revisions, so that the next start lists the store anew.

        The revisions too, because a store restored from a backup counts from a lower one again.
        """
        async with self._engine.begin() as connection:
            await connection.execute(delete(POSITION))
            await connection.execute(update(RESOURCES).values(revision=0))

    async def expire_events(self, keep: timedelta, now: datetime) -> int:
        """Remove events that happened last before that span; return how many."""
        async with self._engine.begin() as connection:
            return (await connection.execute(delete(EVENTS).where(EVENTS.c.last_time < now - keep))).rowcount

    async def _save(self, connection: AsyncConnection, revision: int) -> None:
        statement = insert(POSITION).values(id=1, revision=revision)
        newest = func.greatest(POSITION.c.revision, statement.excluded.revision)
        await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"revision": newest}))

    async def _write(self, connection: AsyncConnection, changes: Sequence[Change]) -> None:
        if not changes:
            return
        before = await self._read_current(connection, {c.ref for c in changes})
        history = [row for change in changes if (row := _record(change, before)) is not None]
        newest = {c.ref: c for c in changes}
        await self._upsert(connection, [build_row(c) for c in newest.values() if c.object is not None])
        await self._keep_events(connection, [row for c in newest.values() if (row := build_event_row(c)) is not None])
        await self._remove(connection, [c for c in newest.values() if c.object is None])
        if history:
            await connection.execute(insert(HISTORY).on_conflict_do_nothing(), history)

    async def _read_current(self, connection: AsyncConnection, refs: Iterable[Ref]) -> Objects:
        keys = [tuple(build_key(r).values()) for r in refs]
        columns = (RESOURCES.c.kind, RESOURCES.c.project, RESOURCES.c.name)
        query = select(*columns, RESOURCES.c.revision, RESOURCES.c.object).where(tuple_(*columns).in_(keys))
        rows = await connection.execute(query)
        return {Ref(kind, project or None, name): (revision, value) for kind, project, name, revision, value in rows}

    async def _upsert(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        statement = insert(RESOURCES)
        changed = {c.name: statement.excluded[c.name] for c in RESOURCES.columns if not c.primary_key}
        newer = RESOURCES.c.revision < statement.excluded.revision  # replays change nothing
        await connection.execute(
            statement.on_conflict_do_update(constraint="resources_pkey", set_=changed, where=newer), rows
        )

    async def _keep_events(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        statement = insert(EVENTS)
        changed = {c.name: statement.excluded[c.name] for c in EVENTS.columns if not c.primary_key}
        # By time and not by revision: a store that was restored counts from a lower one again.
        newer = EVENTS.c.last_time <= statement.excluded.last_time
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["uid"], set_=changed, where=newer), rows
        )

    async def _remove(self, connection: AsyncConnection, changes: Sequence[Change]) -> None:
        for change in changes:
            key = build_key(change.ref)
            matches = [RESOURCES.c[name] == literal(value) for name, value in key.items()]
            await connection.execute(delete(RESOURCES).where(*matches, RESOURCES.c.revision <= change.revision))


def _record(change: Change, before: Objects) -> dict[str, Any] | None:
    """Return the row of history and move `before` on; None when there is nothing to record."""
    revision, old = before.get(change.ref, (0, None))
    if revision >= change.revision:
        return None
    before[change.ref] = change.revision, change.object
    unchanged = old is not None and change.object is not None and not build_diff(old, change.object)
    if unchanged or old is change.object or get_kind(change.ref.kind).ttl_setting is not None:
        return None  # listed again as it was, removed twice, or of a kind that keeps no history
    meta = (change.object or old or {}).get("metadata", {})
    time = change.actor.get("time")
    return {
        **build_key(change.ref),
        "revision": change.revision,
        "uid": meta.get("uid", ""),
        "operation": operation_of(old, change.object),
        "actor": change.actor.get("subject", "unknown"),
        "manager": change.actor.get("manager", "unknown"),
        "recorded_at": datetime.fromisoformat(time) if time else datetime.now(UTC),
        "object": change.object,
        "diff": build_diff(old, change.object),
    }
