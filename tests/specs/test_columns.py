"""Columns of tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vcstack.specs.columns import columns_of, find_value, format_age, format_bytes, format_cell
from vcstack.specs.registry import Column, get_kind, load_kinds

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WIRE = {
    "metadata": {"name": "web-1", "labels": {"vcstack.io/x": "y"}, "creationTimestamp": "2026-10-31T23:58:30Z"},
    "spec": {"on": True, "items": [{"name": "eth0", "n": 1}, {"name": "eth1", "n": 2}]},
    "status": {
        "addresses": [{"address": "10.0.0.1"}, {"address": "10.0.0.2"}, {}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "size": 1536,
    },
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-1"),
        ("status.addresses[*].address", ["10.0.0.1", "10.0.0.2"]),
        ("status.conditions[Ready].status", "True"),
        ("status.conditions[Nope].status", None),
        ("spec.items[eth1].n", 2),
        ("spec.items[0].n", 1),
        ("spec.items[7].n", None),
        ("metadata.labels[vcstack.io/x]", "y"),
        ("metadata.name.deeper", None),
        ("nothing.at.all", None),
    ],
)
def test_paths_pick_values(path: str, value: Any) -> None:
    assert find_value(WIRE, path) == value


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (Column("A", "status.addresses[*].address"), "10.0.0.1,10.0.0.2"),
        (Column("A", "spec.on"), "true"),
        (Column("A", "none"), ""),
        (Column("A", "status.size", format="bytes"), "1.5KiB"),
        (Column("A", "metadata.creationTimestamp", format="age"), "90s"),
        (Column("A", "metadata.labels"), "vcstack.io/x=y"),
        (Column("A", "metadata.name", format="age"), ""),
    ],
)
def test_cells_are_formatted(column: Column, text: str) -> None:
    assert format_cell(column, WIRE, NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (3600, "60m"),
        (4 * 3600 + 720, "4h12m"),
        (30 * 3600, "30h"),
        (3 * 86400 + 3600, "3d1h"),
        (40 * 86400, "40d"),
        (1000 * 86400, "2y"),
    ],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert format_age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (40 * 2**30, "40GiB"), (5 * 2**60, "5120PiB")]
)
def test_bytes_are_short(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_every_kinds_table_begins_with_the_name_and_its_paths_can_be_read() -> None:
    for definition in load_kinds().values():
        columns = columns_of(definition, wide=True, with_project=True)
        assert [c.name for c in columns[:2]] == ["PROJECT", "NAME"]
        for column in columns:
            find_value(WIRE, column.path)
    assert "READY" not in [c.name for c in columns_of(get_kind("Event"))]


def test_an_absent_field_shows_the_default_in_force() -> None:
    column = Column("SCHEDULING", "spec.scheduling", default="Enabled")
    assert format_cell(column, {"spec": {}}, NOW) == "Enabled"
    assert format_cell(column, {"spec": {"scheduling": "Disabled"}}, NOW) == "Disabled"
