"""Logs of the programs: JSON lines on standard error, ours and those of the libraries alike."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import orjson
import structlog

QUIET = (
    "sqlalchemy",
    "alembic",
    "ovsdbapp",
    "uvicorn",
    "httpcore2",
    "httpx2",
    "grpc",
    "asyncio",
    "oslo_utils",
    "kopf",
    "aiohttp",
)
"""Libraries whose news are none of ours: warnings only."""


def _to_json(entry: Any, *, default: Callable[[Any], Any]) -> str:
    """Return one line of ASCII: line separators and what turns the direction of text would forge lines on screens."""
    line = orjson.dumps(entry, default, orjson.OPT_NON_STR_KEYS).decode().replace("\x7f", "\\u007f")
    return line if line.isascii() else json.dumps(orjson.loads(line), separators=(",", ":"))


def set_up_logging(level: str) -> None:
    """Configure structlog and the standard library's logging. Call it once."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_to_json)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(_to_json),
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
