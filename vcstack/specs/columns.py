"""Columns: values picked from wire objects by a path, and how people read them. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from vcstack.specs.introspect import split_path
from vcstack.specs.registry import Column, KindDefinition

NOTHING = ""
"""How an absent value is shown."""

NAME = Column("NAME", "metadata.name")
PROJECT = Column("PROJECT", "metadata.project")
READY = Column("READY", "status.conditions[Ready].status")
REASON = Column("REASON", "status.conditions[Ready].reason", wide=True)
AGE = Column("AGE", "metadata.creationTimestamp", format="age")


def columns_of(definition: KindDefinition, *, wide: bool = False, with_project: bool = False) -> list[Column]:
    """Return the columns of a kind's table: NAME, READY and AGE around its own."""
    ready = [READY] if definition.ready_when else []
    reason = [REASON] if definition.ready_when else []
    project = [PROJECT] if with_project else []
    listed = [*project, NAME, *ready, *definition.columns, AGE, *reason]
    return [c for c in listed if wide or not c.wide]


_steps = cache(split_path)


def find_value(wire: Any, path: str) -> Any:
    """Return the value at the path, None when there is none.

    ``[*]`` gives the list of all items' values, ``[3]`` an item by index, ``[X]`` a map's entry or the item
    whose type, name or uid is X.
    """
    return _find(wire, _steps(path), 0)


def _find(value: Any, steps: list[str], index: int) -> Any:
    for position in range(index, len(steps)):
        step = steps[position]
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step == "*":
            found = [_find(item, steps, position + 1) for item in value]
            return [f for f in found if f is not None]
        elif isinstance(value, list):
            value = _pick(value, step)
        else:
            return None
    return value


def _pick(items: Iterable[Any], step: str) -> Any:
    items = list(items)
    if step.isdecimal():
        return items[int(step)] if int(step) < len(items) else None
    named = (i for i in items if isinstance(i, Mapping) and step in (i.get("type"), i.get("name"), i.get("uid")))
    return next(named, None)


def format_cell(column: Column, wire: Mapping[str, Any], now: datetime) -> str:
    """Return the column's text for a wire object; empty when there is nothing."""
    value = find_value(wire, column.path)
    if value is None:
        return column.default or NOTHING
    if column.format == "age":
        return format_age(value, now)
    if column.format == "bytes" and isinstance(value, int):
        return format_bytes(value)
    return format_value(value)


def format_value(value: Any) -> str:
    """Return a wire value as text: lists joined by commas, truth as JSON writes it."""
    if isinstance(value, list):
        return ",".join(format_value(v) for v in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{k}={format_value(v)}" for k, v in value.items())
    return NOTHING if value is None else str(value)


def parse_time(text: str) -> datetime:
    """Return the time of an RFC 3339 text. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def format_age(text: str, now: datetime) -> str:
    """Return how long ago that was, as kubectl shows it: 45s, 5m30s, 3h12m, 2d5h, 40d."""
    try:
        seconds = int((now - parse_time(text)).total_seconds())
    except (TypeError, ValueError):
        return NOTHING
    return format_duration(max(seconds, 0))


def format_duration(seconds: int) -> str:
    """Return a duration with at most two units."""
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def format_bytes(count: int) -> str:
    """Return a byte count with a binary unit and at most one decimal: 512B, 1.5MiB, 40GiB."""
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    for unit in units:
        if abs(value) < 1024 or unit == units[-1]:
            text = f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
            return f"{text}{unit}"
        value /= 1024
    raise AssertionError("unreachable")
