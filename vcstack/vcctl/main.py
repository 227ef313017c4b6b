"""The entry point of vcctl: all commands, one application."""

import importlib
import pkgutil

from vcstack.vcctl import commands
from vcstack.vcctl.application import app
from vcstack.vcctl.arguments import CHANGE, HOSTS, INSTANCES, READ, SETTINGS

PANELS = (READ, CHANGE, INSTANCES, HOSTS, SETTINGS)
"""The order of the help page."""


def load_commands() -> None:
    """Import every module of commands; each registers itself."""
    for module in sorted(m.name for m in pkgutil.iter_modules(commands.__path__)):
        importlib.import_module(f"{commands.__name__}.{module}")
    app.registered_commands.sort(key=lambda c: (PANELS.index(str(c.rich_help_panel)), c.name or ""))


def main() -> None:
    """Run the command line."""
    load_commands()
    app(prog_name="vcctl")
