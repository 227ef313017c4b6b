"""How far the store is with a new master key."""

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.paths import API_ROOT
from vcstack.specs.model import Model


class NeededVersion(Model):
    """A master key version that something in the store needs."""

    version: int
    """Its number."""
    envelopes: int
    """How many encrypted records need it."""


class EncryptionStatus(Model):
    """Which master key versions the store needs, counted when asked."""

    active_version: int
    """The one that encrypts now."""
    active_key: str
    """Which key that is, as `vcctl secrets keys` shows it: another keyring may have a version of that number, too."""
    needed: list[NeededVersion]
    """Older ones vanish from here as all is put under the active one."""
    unreadable: int
    """Records that are damaged; they hold back the retirement of every older key."""


async def read_encryption(connection: Connection) -> EncryptionStatus:
    """Return it; for administrators. Raises Forbidden."""
    return EncryptionStatus.from_wire((await connection.request("GET", f"{API_ROOT}/encryption")).content)
