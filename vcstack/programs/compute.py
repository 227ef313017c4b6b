"""vc-compute: the agent of a host."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import structlog

from vcstack.nodeagent.agent import Agent
from vcstack.nodeagent.identity import JoinError
from vcstack.nodeagent.settings import Settings, SettingsError, load_settings


def main() -> None:
    """Run the agent until SIGTERM or SIGINT. Guests are never touched by its end."""
    parser = argparse.ArgumentParser(prog="vc-compute", description="The agent of a host of a VC Stack cloud.")
    parser.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config)
        _set_up_logging(settings.log_level)
        asyncio.run(_run(settings))
    except (SettingsError, JoinError) as error:
        print(f"vc-compute: {error}", file=sys.stderr)
        _leave(1)
    _leave(0)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Agent(settings).run(stop)


def _leave(code: int) -> None:
    """End at once: a thread that hangs in a library must not hold up the end of the program."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_up_logging(level: str) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    main()
