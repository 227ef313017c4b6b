"""The objects that an instance names, read through the API and remembered for a short while."""

from typing import Protocol, TypeVar

from vcstack.clock import Clock
from vcstack.nodeagent.locks import Locks
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import WaitingFor
from vcstack.specs.errors import Forbidden, NotFound
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.network import DEFAULT_MTU_BYTES, Network
from vcstack.specs.kinds.sshkey import SSHKey
from vcstack.specs.kinds.subnet import Subnet
from vcstack.specs.model import split_lent
from vcstack.specs.resource import AnyResource

R = TypeVar("R", bound=AnyResource)

FRESH_SECONDS = 120.0
"""How long what was read holds. Flavors and keys never change, images only until their upload is accepted."""
LIMIT = 4096

Key = tuple[str, str | None, str]
"""Kind, project and name."""


class SecretValues(Protocol):
    """Where the values of secrets are read."""

    async def read(self, project: str, name: str, key: str) -> str:
        """Return one value. Raises NotFound, Forbidden, Unavailable."""

    async def read_ssh_authority(self, project: str) -> str:
        """Return the public key of the project's SSH authority. Raises NotFound, Forbidden, Unavailable."""


class References:
    """Reads flavors, images, keys, networks and subnets."""

    def __init__(self, client: ResourceClient, clock: Clock, secrets: SecretValues) -> None:
        self._client = client
        self._secrets = secrets
        self._clock = clock
        self._known: dict[Key, tuple[float, AnyResource]] = {}
        self._missed: dict[Key, float] = {}
        """When it was last answered that there is none: holds for those who had asked before."""
        self._reading = Locks()

    async def get_flavor(self, instance: Instance) -> Flavor:
        """Return the instance's flavor. Raises WaitingFor while there is none."""
        return await self._get(Flavor, instance.spec.flavor, None)

    async def get_image(self, instance: Instance) -> Image:
        """Return the instance's image: the project's own, else the public one, once its content is accepted."""
        name = instance.spec.image
        try:
            image = await self._get(Image, name, instance.metadata.project)
        except WaitingFor:
            image = await self._get(Image, name, None)
        if image.status.digest is None or image.status.virtual_size_bytes is None:
            self._known.pop((Image.KIND, image.metadata.project, name), None)
            where = f" -p {image.metadata.project}" if image.metadata.project else ""
            upload = f"vcctl image upload {name} --file FILE{where}"
            message = f"image {name} has no accepted content yet; upload it with: {upload}"
            raise WaitingFor("ImageNotReady", message, 5.0)
        return image

    async def get_keys(self, instance: Instance) -> list[SSHKey]:
        """Return the instance's SSH keys."""
        return [await self._get(SSHKey, name, instance.metadata.project) for name in instance.spec.ssh_keys]

    async def get_user_data(self, instance: Instance) -> str:
        """Return what cloud-init shall run. A secret's value is read each time and remembered nowhere."""
        source = instance.spec.user_data_secret
        if source is None:
            return instance.spec.user_data or ""
        try:
            return await self._secrets.read(instance.metadata.project or "", source.name, source.key)
        except (NotFound, Forbidden) as error:
            message = f"Secret {source.name} or its value {source.key} does not exist; create it or name another one"
            raise WaitingFor("SecretNotFound", message, 5.0) from error

    async def get_ssh_authority(self, instance: Instance) -> str:
        """Return whom the guest is to trust when somebody logs in by SSH. Remembered nowhere, as user data."""
        return await self._secrets.read_ssh_authority(instance.metadata.project or "")

    async def get_network(self, project: str | None, network: str) -> Network:
        """Return the network that a port is on."""
        where, name = split_lent(network, project)
        return await self._get(Network, name, where)

    async def get_mtu(self, project: str | None, network: str) -> int:
        """Return the MTU that the network's guests are told."""
        found = await self.get_network(project, network)
        return found.status.mtu_bytes or found.spec.mtu_bytes or DEFAULT_MTU_BYTES

    async def get_subnet(self, project: str | None, name: str) -> Subnet:
        """Return a subnet that a port holds an address of."""
        where, bare = split_lent(name, project)
        return await self._get(Subnet, bare, where)

    async def read_subnet(self, project: str | None, name: str) -> Subnet:
        """Return a subnet that a port holds an address of, as it is now: its gateway may have been changed."""
        where, bare = split_lent(name, project)
        return await self._read(Subnet, (Subnet.KIND, where, bare), f"Subnet {bare} does not exist")

    def forget(self) -> None:
        """Read everything anew next time."""
        self._known.clear()

    async def _get(self, kind: type[R], name: str, project: str | None) -> R:
        """Return the object; of many instances that need it at once the first one reads it for all."""
        key, asked = (kind.KIND, project, name), self._clock.monotonic()
        known = self._find(kind, key)
        if known is not None:
            return known
        async with self._reading.of(str(key)):
            known = self._find(kind, key)
            if known is not None:
                return known
            message = f"{kind.KIND} {name} does not exist; create it or name another one"
            if self._missed.get(key, asked) > asked:
                raise WaitingFor(f"{kind.KIND}NotFound", message, 5.0)
            return await self._read(kind, key, message)

    def _find(self, kind: type[R], key: Key) -> R | None:
        at, known = self._known.get(key, (0.0, None))
        return known if isinstance(known, kind) and self._clock.monotonic() - at < FRESH_SECONDS else None

    async def _read(self, kind: type[R], key: Key, message: str) -> R:
        _, project, name = key
        try:
            found = await self._client.get(kind, name, project)
        except (NotFound, Forbidden) as error:
            self._missed[key] = self._clock.monotonic()
            raise WaitingFor(f"{kind.KIND}NotFound", message, 5.0) from error
        if len(self._known) + len(self._missed) >= LIMIT:
            self._known.clear()
            self._missed.clear()
        self._known[key] = (self._clock.monotonic(), found)
        return found
