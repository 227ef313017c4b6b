"""What a process of vc-management does."""

from enum import StrEnum


class Role(StrEnum):
    """A part that may run in a process of its own."""

    API = "api"
    """Serves the API. Any number of processes."""
    CONTROLLERS = "controllers"
    """Runs controllers, each wherever it is elected."""
    MIRROR = "mirror"
    """Writes PostgreSQL wherever it is elected."""


ALL_ROLES = frozenset(Role)


def parse_roles(text: str) -> frozenset[Role]:
    """Return the roles of a comma-separated list. Raises ValueError."""
    try:
        return frozenset(Role(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r}: roles are {', '.join(Role)}") from error
