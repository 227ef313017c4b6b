"""A view per kind with typed columns, made from the registry: instances, hosts, networks, ..."""

import hashlib
import re
from collections.abc import Iterable

from sqlalchemy import Connection, text

from vcstack.specs.registry import KindDefinition, Scope, load_kinds

_WORD = re.compile(r"^[A-Za-z0-9_]+$")


def build_view(definition: KindDefinition) -> str:
    """Return the SELECT of the kind's view. Names come from the registry, never from users."""
    columns = ["name", "uid", "ready", "generation", "revision", "labels", "created_at", "deletion_requested_at"]
    if definition.scope is not Scope.GLOBAL:
        columns.insert(0, "NULLIF(project, '') AS project")
    for column in definition.view:
        parts = column.path.split(".")
        for word in (*parts, column.name, column.type):
            if not _WORD.match(word):
                raise ValueError(f"{definition.kind}: view column {column.name} has an odd path or type {word!r}")
        path = "{" + ",".join(parts) + "}"
        value = f"object #> '{path}'" if column.type == "jsonb" else f"(object #>> '{path}')::{column.type}"
        columns.append(f"{value} AS {column.name}")
    return f"SELECT {', '.join(columns)} FROM resources WHERE kind = '{definition.kind}'"  # noqa: S608


def definitions_with_view() -> Iterable[KindDefinition]:
    """Return the kinds that have a typed view."""
    return [d for d in load_kinds().values() if d.view]


def ensure_views(connection: Connection) -> None:
    """Create the views that are missing or were made from other columns. Idempotent."""
    found: dict[str, str | None] = dict(
        tuple(row)
        for row in connection.execute(
            text(
                "SELECT c.relname, obj_description(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind = 'v' AND n.nspname = current_schema()"
            )
        ).all()
    )
    for definition in definitions_with_view():
        select = build_view(definition)
        digest = hashlib.sha256(select.encode()).hexdigest()[:16]
        if found.get(definition.plural) == digest:
            continue
        connection.execute(text(f"DROP VIEW IF EXISTS {definition.plural}"))
        connection.execute(text(f"CREATE VIEW {definition.plural} AS {select}".replace(":", r"\:")))
        connection.execute(text(f"COMMENT ON VIEW {definition.plural} IS '{digest}'"))
