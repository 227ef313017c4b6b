"""The sweep: removes what carries our mark and belongs to no instance of this host any more.

That an instance is gone is never concluded from the cache. A uid has to be missing from two fresh lists of
the API with a pause between them, and the API has to be the one that this host joined.
"""

from pathlib import Path

from vcstack.clock import Clock
from vcstack.nodeagent.backends.files import write_file
from vcstack.nodeagent.names import UID_PATTERN
from vcstack.nodeagent.realizers.instance import InstanceParts, remove_instance
from vcstack.runtime.client import ResourceClient
from vcstack.specs.kinds.host import Host
from vcstack.specs.kinds.instance import Instance

CONFIRM_SECONDS = 10.0
"""Between the two lists that an orphan has to be missing from."""


class Sweep:
    """Finds and removes orphans."""

    def __init__(self, parts: InstanceParts, client: ResourceClient, clock: Clock, host_uid_file: Path) -> None:
        self._parts = parts
        self._host_uid_file = host_uid_file
        self._client = client
        """Asks the API itself, never a cache."""
        self._clock = clock

    async def run_once(self) -> list[str]:
        """Remove what has no instance; return the uids. Raises ApiError when the API cannot be asked."""
        ours = await self._is_our_cloud()
        suspects = await self.find_owners() - await self._list_bound()
        if not suspects or not ours:
            return []
        await self._clock.sleep(CONFIRM_SECONDS)
        orphans = sorted(suspects - await self._list_bound())
        for uid in orphans:
            async with self._parts.locks.of(uid):
                await remove_instance(self._parts, uid, [])
        return orphans

    async def find_owners(self) -> set[str]:
        """Return the uids of all that carries our mark on this host."""
        domains = {o.mark.uid for o in await self._parts.hypervisor.list_owned() if o.domain == o.mark.uid}
        found = domains | await self._parts.interfaces.list_owners() | set(self._parts.storage.list_uids())
        return {uid for uid in found if UID_PATTERN.fullmatch(uid)}

    async def _list_bound(self) -> set[str]:
        page = await self._client.list(Instance, fields=f"status.host={self._parts.host.name}")
        return {i.uid for i in page.items}

    async def _is_our_cloud(self) -> bool:
        """Return whether the host's own object is still the one first seen: a store that was lost has another."""
        host = await self._client.get(Host, self._parts.host.name)
        if not self._host_uid_file.exists():
            write_file(self._host_uid_file, host.uid.encode())
        return host.uid == self._host_uid_file.read_text()
