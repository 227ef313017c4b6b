"""vc-compute: the agent of a host."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from vcstack.dumps import forbid_dumps
from vcstack.nodeagent.agent import Agent
from vcstack.nodeagent.identity import JoinError
from vcstack.nodeagent.settings import Settings, SettingsError, load_settings
from vcstack.programs.logs import set_up_logging
from vcstack.programs.safety import Unsafe, demand_safe_compute


def main() -> None:
    """Run the agent until SIGTERM or SIGINT. Guests are never touched by its end."""
    parser = argparse.ArgumentParser(prog="vc-compute", description="The agent of a host of a VC Stack cloud.")
    parser.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    forbid_dumps()
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config)
        demand_safe_compute(settings)
        set_up_logging(settings.log_level)
        asyncio.run(_run(settings))
    except (SettingsError, Unsafe, JoinError) as error:
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


if __name__ == "__main__":
    main()
