"""Notices within seconds that a file of an instance was deleted by hand, long before the next resync.

Looking is cheap, three calls of stat for each instance, and needs neither the guest nor the hypervisor: a
running QEMU keeps its disk's file open and notices nothing until it is started again.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from vcstack.clock import Clock
from vcstack.nodeagent.realizers.storage import Storage
from vcstack.runtime.informer import Informer
from vcstack.specs.kinds.instance import DISKS_READY, Instance

LOOK_SECONDS = 3.0


class DiskWatch:
    """Tells of instances that lost a file, and of those that got one back."""

    def __init__(self, storage: Storage, instances: Informer[Instance], clock: Clock) -> None:
        self._storage, self._instances, self._clock = storage, instances, clock
        self._seen: dict[str, frozenset[Path]] = {}

    async def events(self) -> AsyncIterator[str | None]:
        """Yield uids for ever."""
        while True:
            for uid in await self.look():
                yield uid
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> list[str]:
        """Return the uids of the instances that have to be looked after since the last look."""
        instances = self._instances.list()
        found = await asyncio.to_thread(lambda: {i.uid: self._storage.find_files(i) for i in instances})
        before, self._seen = self._seen, found
        return [i.uid for i in instances if _concerns(i, before.get(i.uid), found[i.uid])]


def _concerns(instance: Instance, before: frozenset[Path] | None, now: frozenset[Path]) -> bool:
    """Return whether a file went, or came to an instance that was said to lack one."""
    if before is None or before == now:
        return False
    condition = instance.find_condition(DISKS_READY)
    return bool(before - now) or (condition is not None and condition.status != "True")
