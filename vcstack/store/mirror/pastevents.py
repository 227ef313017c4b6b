"""Events that the mirror keeps longer than the store: the query for them, and rows as the API shows them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import DateTime, Text, exists, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from vcstack.specs.kinds.event import Event
from vcstack.specs.meta import API_VERSION, format_time
from vcstack.specs.pastevents import PastEvents
from vcstack.store.mirror.tables import EVENTS


def build_event_query(wanted: PastEvents) -> Any:
    """Return the query."""
    columns, place = EVENTS.c, (EVENTS.c.last_time, EVENTS.c.uid)
    query = select(EVENTS).where(columns.last_time >= wanted.since)
    query = query.order_by(*(column.desc() for column in place)).limit(wanted.limit)
    if wanted.until is not None:
        query = query.where(columns.last_time < wanted.until)
    if wanted.project is not None:
        query = query.where(columns.project == wanted.project)
    if wanted.projects is not None:
        query = query.where(or_(columns.project == "", _is_of(wanted.projects)))
    if wanted.before is not None:
        query = query.where(tuple_(*place) < tuple_(*wanted.before))
    return query.where(*(columns[name] == value for name, value in wanted.values.items()))


def _is_of(projects: Mapping[str, Any]) -> Any:
    """What last happened in one of the projects since there is it; and did not begin in an older one of its name."""
    names, times = list(projects), list(projects.values())
    given = func.unnest(literal(names, ARRAY(Text)), literal(times, ARRAY(DateTime(timezone=True))))
    allowed = given.table_valued("name", "since").render_derived()
    matches = allowed.c.name == EVENTS.c.project, allowed.c.since <= EVENTS.c.first_time
    return exists(select(1).select_from(allowed).where(*matches))


def build_event(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the event as it last was."""
    regarding = {key: row[f"regarding_{key}"] or "" for key in ("kind", "name", "uid")}
    first = row["first_time"] or row["last_time"]
    metadata = {"name": row["name"], "uid": row["uid"], "resourceVersion": str(row["revision"])}
    return {
        "apiVersion": API_VERSION,
        "kind": Event.KIND,
        "metadata": {**({"project": row["project"]} if row["project"] else {}), **metadata,
                     "creationTimestamp": format_time(first)},
        "spec": {
            "regarding": regarding,
            **{key: row[key] or "" for key in ("type", "reason", "message", "actor")},
            "count": row["count"] or 1,
            "firstTime": format_time(first),
            "lastTime": format_time(row["last_time"]),
        },
        "status": {},
    }  # fmt: skip
