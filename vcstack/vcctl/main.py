"""The entry point of vcctl: all commands, one application. A start loads only what the command line names."""

import gc
import importlib
import os
import pkgutil
import resource
import sys
from collections.abc import Sequence

# Read when pydantic is imported below: it would look for plugins in every installed package.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from vcstack.vcctl import commands
from vcstack.vcctl.application import app
from vcstack.vcctl.arguments import CHANGE, HOSTS, INSTANCES, READ, SETTINGS

PANELS = (READ, CHANGE, INSTANCES, HOSTS, SETTINGS)
"""The order of the help page."""
FAMILIES = {
    "about": ("version", "completion"),
    "auth_key": ("auth",),
    "auth_mfa": ("auth",),
    "auth_sessions": ("auth",),
    "change": ("patch", "label", "annotate"),
    "explain": ("explain", "api-resources"),
    "host": ("cordon", "uncordon"),
    "login": ("login", "logout", "whoami"),
    "power": ("start", "stop", "pause", "reboot", "rebuild"),
    "screen": ("screenshot", "top", "vnc"),
    "serial": ("logs", "console"),
}
"""The modules that hold several commands, or one of another name than theirs."""
OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Collecting garbage while modules are imported finds none and takes a tenth of the start."""


def load_commands(words: Sequence[str] = ()) -> None:
    """Import the modules of the commands among the words, or all when there is none; each registers itself."""
    for module in modules_of(words):
        importlib.import_module(f"{commands.__name__}.{module}")
    app.registered_commands.sort(key=lambda c: (PANELS.index(str(c.rich_help_panel)), c.name or ""))


def modules_of(words: Sequence[str]) -> list[str]:
    """Return the modules of the commands among the words, or all when there is none.

    A word that is an option's value may bring a module too many, never one too few.
    """
    modules = sorted(m.name for m in pkgutil.iter_modules(commands.__path__))
    return [m for m in modules if not {m, *FAMILIES.get(m, ())}.isdisjoint(words)] or modules


def main() -> None:
    """Run the command line."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # tokens and values of secrets pass through here
    # A shell that asks for completions hands the line over in the environment.
    load_commands(() if "_VCCTL_COMPLETE" in os.environ else sys.argv[1:])
    app(prog_name="vcctl")
