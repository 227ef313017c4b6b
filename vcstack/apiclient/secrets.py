"""What is read besides objects: the values of secrets, and whom a project's guests trust."""

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.paths import object_path
from vcstack.apiclient.shellmessages import SshAuthority
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.secret import SecretValues
from vcstack.specs.registry import get_kind


class SecretReader:
    """Reads them, for those who may."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read_all(self, project: str, name: str) -> dict[str, str]:
        """Return the values by name. Raises NotFound, Forbidden."""
        path = object_path(get_kind("Secret"), project, name, "value")
        return SecretValues.from_wire((await self._connection.request("GET", path)).content).values

    async def read(self, project: str, name: str, key: str) -> str:
        """Return one value. Raises NotFound, Forbidden."""
        values = await self.read_all(project, name)
        if key not in values:
            raise NotFound(f"Secret {name} has no value {key!r}")
        return values[key]

    async def read_ssh_authority(self, project: str) -> str:
        """Return the public key of the project's SSH authority. Raises NotFound, Forbidden."""
        path = object_path(get_kind("Project"), None, project, "sshauthority")
        return SshAuthority.from_wire((await self._connection.request("GET", path)).content).public_key
