"""How far a new master key is, as an object and for Prometheus: told by the manager that puts the store under it."""

from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import AlreadyExists, ApiError, NotFound
from vcstack.specs.kinds.masterkey import MASTER, REWRAPPED, MasterKey, MasterKeySpec, NeededMasterVersion
from vcstack.store.actor import Actor
from vcstack.store.rewrap import Progress

NAME = "vcstack_encryption_envelopes_left"
REPORTER = Actor("system:rewrap", "rewrap")

logger = structlog.get_logger(__name__)


class RewrapReport:
    """Keeps the object MasterKey true."""

    def __init__(self, client: ResourceClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def write(self, counted: Progress, left: int) -> None:
        """Write how far it is. What cannot be written is left: the work does not wait for it."""
        try:
            await self._write(counted, left)
        except ApiError as error:
            logger.warning("the status of the master key cannot be written", error=error.message)

    async def _write(self, counted: Progress, left: int) -> None:
        try:
            found = await self._client.get(MasterKey, MASTER)
        except NotFound:
            try:
                found = await self._client.create(MasterKey.new(MASTER, MasterKeySpec()))
            except AlreadyExists:
                found = await self._client.get(MasterKey, MASTER)
        fields = {
            "activeVersion": counted.active,
            "versions": [NeededMasterVersion(version=v, envelopes=n) for v, n in counted.needed.items()],
            "left": left,
            "unreadable": counted.unreadable,
        }
        if left:
            damaged = f" {counted.unreadable} of them are damaged; the log names them." if counted.unreadable else ""
            message = f"{left} values need an older master key or are damaged.{damaged}"
            reason = "Unreadable" if left == counted.unreadable else "Rewrapping"
            condition = condition_of(found, REWRAPPED, False, reason, message, clock=self._clock)
        else:
            condition = condition_of(found, REWRAPPED, True, "UpToDate", clock=self._clock)
        await write_status(self._client, found, fields=fields, conditions=[condition])


class RewrapCollector(Collector):
    """Looks when it is asked."""

    def __init__(self, left: Callable[[], int | None]) -> None:
        """``left``: how many envelopes need an older master key; None where nobody counts."""
        self._left = left

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the one gauge, where there is something to say."""
        left = self._left()
        if left is not None:
            gauge = GaugeMetricFamily(NAME, "Envelopes in the store that need an older master key, or are damaged.")
            gauge.add_metric([], left)
            yield gauge

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: it is registered before there is anything to look at."""
        return ()
