"""Where things lie in etcd. All of it below one prefix, so that one watch sees every revision."""

from typing import Final

from vcstack.specs.registry import KindDefinition

PREFIX: Final = b"/vcstack/"
CLAIMS: Final = b"/vcstack/.claims/"
QUOTAS: Final = b"/vcstack/.quotas/"
"""What transactions that rest on limits compare; see ``quotas.py``."""
_TURNS: Final = QUOTAS + b"turns/"
LIMITS: Final = QUOTAS + b"limits"
"""Overwritten whenever limits change."""
POLICIES: Final = QUOTAS + b"policies"
"""Overwritten whenever a policy comes or says something else."""
HEARTBEATS: Final = b"/vcstack/.leases/hosts/"
JOIN_TOKENS: Final = b"/vcstack/.join/"
TOMBSTONE: Final = b"/vcstack/.deleted"
"""Overwritten in each transaction that removes an object, for the history: {"key", "actor"}."""
NUDGE: Final = b"/vcstack/.nudge"
"""Written when the cache waits for a revision of which no event tells; see ``cache.py``."""
GLOBAL: Final = "-"
"""Stands for the project of global objects; no DNS label, so no project is called so."""


def row_of(project: str | None, name: str) -> str:
    """Return the object's place within its kind."""
    return f"{project or GLOBAL}/{name}"


def object_key(definition: KindDefinition, row: str) -> bytes:
    """Return the object's key."""
    return f"/vcstack/{definition.plural}/{row}".encode()


def kind_prefix(definition: KindDefinition) -> bytes:
    """Return what the keys of a kind begin with."""
    return f"/vcstack/{definition.plural}/".encode()


def pool_prefix(pool: str) -> bytes:
    """Return what the claims of a pool begin with."""
    return f"/vcstack/.claims/{pool}/".encode()


def turn_key(level: str) -> bytes:
    """Return what is overwritten by each transaction that takes more of what is limited at the level."""
    return _TURNS + level.encode()


def level_of_turn(key: bytes) -> str:
    """Return the level that such a key is about."""
    return key.removeprefix(_TURNS).decode()


def claim_key(pool: str, key: str) -> bytes:
    """Return a claim's key."""
    return f"/vcstack/.claims/{pool}/{key}".encode()
