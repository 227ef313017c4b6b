"""The mirror's database: made when it is missing, brought to the newest schema, and its errors told apart."""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import conninfo, sql
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from vcstack.store.mirror.views import ensure_views

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_MS = 30_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection string leads, with what libpq takes from the environment."""

    hosts: tuple[str, ...]
    """Names, addresses, or folders of unix sockets; empty: libpq's own folder."""
    user: str
    password: str = field(repr=False)
    database: str
    ssl_mode: str


def find_target(dsn: str) -> Target:
    """Return where a libpq connection string or URI leads. Raises ValueError."""
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ValueError("postgres.dsn: this is no libpq connection string or URI") from error
    defaults = {o.keyword.decode(): o.val.decode() for o in psycopg.pq.Conninfo.get_defaults() if o.val is not None}
    found = {**defaults, **{name: str(value) for name, value in given.items() if value is not None}}
    return Target(
        hosts=tuple(h for name in ("host", "hostaddr") for h in found.get(name, "").split(",") if h),
        user=found.get("user", ""),
        password=found.get("password", ""),
        database=found.get("dbname", ""),
        ssl_mode=found.get("sslmode", ""),
    )


def open_engine(dsn: str) -> AsyncEngine:
    """Return an engine for a libpq connection string or URI; nothing is connected yet."""
    parameters = conninfo.conninfo_to_dict(dsn)
    parameters.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    parameters.setdefault("application_name", "vc-management")
    parameters.setdefault("options", f"-c statement_timeout={STATEMENT_TIMEOUT_MS}")
    return create_async_engine(
        "postgresql+psycopg://", connect_args=dict(parameters), pool_size=4, max_overflow=4, pool_pre_ping=True
    )


async def ensure_database(dsn: str) -> None:
    """Create the database if it does not exist, with the connection's own rights.

    Raises:
        psycopg.OperationalError: PostgreSQL does not answer.
    """
    parameters = conninfo.conninfo_to_dict(dsn)
    name = str(parameters.get("dbname") or parameters.get("user") or "vcstack")
    maintenance = conninfo.make_conninfo(dsn, dbname="postgres", connect_timeout=CONNECT_TIMEOUT_SECONDS)
    async with await psycopg.AsyncConnection.connect(maintenance, autocommit=True) as connection:
        found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if await found.fetchone() is None:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
            await connection.execute(create.format(sql.Identifier(name)))


async def ensure_schema(engine: AsyncEngine) -> None:
    """Apply the migrations that are missing and refresh the views, in one transaction."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    # Two managers may start at once: the second waits here and finds nothing left to do.
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7622001)")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    ensure_views(connection)
