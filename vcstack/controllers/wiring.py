"""All controllers of the manager, found by their modules: a new kind touches no list."""

import importlib
import pkgutil
from collections.abc import Mapping

from vcstack import controllers
from vcstack.runtime.context import Build


def find_builds() -> Mapping[str, Build]:
    """Return every controller's ``build`` by its module's name, which is also its seat in elections."""
    builds: dict[str, Build] = {}
    for found in pkgutil.iter_modules(controllers.__path__):
        module = importlib.import_module(f"{controllers.__name__}.{found.name}")
        build = getattr(module, "build", None)
        if build is not None and not found.ispkg:
            builds[found.name] = build
    return builds
