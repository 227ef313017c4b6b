"""The values of Secrets, for the cloud's own parts that act on them."""

from collections.abc import Mapping

from vcstack.specs.kinds.secret import Secret
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store


class SecretValues:
    """Reads them, each time anew."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, project: str, name: str) -> Mapping[str, str]:
        """Return the values by name. Raises NotFound, Unavailable."""
        wire = await self._store.reveal(get_kind(Secret.KIND), project, name)
        values: Mapping[str, str] = wire["spec"].get("data") or {}
        return values
