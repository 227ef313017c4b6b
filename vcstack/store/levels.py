"""Levels: where something counts, and where limits and settings hold.

``quota`` is the whole cloud, ``quota/acme/dev`` the domain dev in acme with all below it, ``quota/acme/dev/@demo``
the project demo in it. Neither the domain of a project nor the parent of a domain ever changes, so an object stays
at its level as long as it lives.
"""

from functools import lru_cache
from typing import Final

CLOUD: Final = "quota"
"""The level of the whole cloud."""


@lru_cache(maxsize=65_536)
def levels_of(level: str) -> tuple[str, ...]:
    """Return the level and all above it, the whole cloud first: where limits for it may be."""
    steps = level.split("/")
    return tuple("/".join(steps[: n + 1]) for n in range(len(steps)))
