"""The values of Secrets, for controllers that act on them."""

from collections.abc import Mapping
from typing import Protocol

from vcstack.runtime.context import BackendKey


class Secrets(Protocol):
    """Reads them, each time anew."""

    async def read(self, project: str, name: str) -> Mapping[str, str]:
        """Return the values by name. Raises NotFound, Unavailable."""


SECRETS: BackendKey[Secrets] = BackendKey("secret-values")
