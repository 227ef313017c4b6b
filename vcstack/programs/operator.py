"""vc-operator: makes of custom resources of Kubernetes what they describe, in VC Stack."""

import argparse
import asyncio
import os
import signal
import sys

from vcstack.dumps import forbid_dumps
from vcstack.operator.kubernetes import KubernetesError
from vcstack.operator.operator import Operator
from vcstack.operator.settings import OperatorSettings, SettingsError, read_settings
from vcstack.programs.logs import set_up_logging


def main() -> None:
    """Run one replica until SIGTERM or SIGINT, or until another one leads. Settings come from the environment."""
    argparse.ArgumentParser(
        prog="vc-operator", description="The Kubernetes operator of VC Stack; see docs/kubernetes.md for its settings."
    ).parse_args()
    forbid_dumps()
    try:
        settings = read_settings(os.environ)
        set_up_logging(settings.log_level)
        asyncio.run(_run(settings))
    except (SettingsError, KubernetesError, OSError) as error:
        print(f"vc-operator: {error}", file=sys.stderr)
        sys.exit(1)


async def _run(settings: OperatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Operator(settings).run(stop)


if __name__ == "__main__":
    main()
