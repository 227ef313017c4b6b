"""Values of secrets, read from the store itself, as the API does for those who may."""

from vcstack.specs.errors import NotFound
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

AUTHORITY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1q0ZrXl0mTq2m0m3PqkIuXb9nYlYbV8y3T0F4nC2aH"


class StoredSecrets:
    """Implements ``vcstack.nodeagent.references.SecretValues``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, project: str, name: str, key: str) -> str:
        found = await self._store.reveal(get_kind("Secret"), project, name)
        values: dict[str, str] = found["spec"]["data"]
        if key not in values:
            raise NotFound(f"Secret {name} has no value {key}")
        return values[key]

    async def read_ssh_authority(self, project: str) -> str:
        return AUTHORITY
