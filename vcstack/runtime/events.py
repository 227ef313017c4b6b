"""Events for people: what happened to an object, counted instead of repeated.

Recording never blocks and never fails a reconcile: what cannot be kept is dropped and counted. Events that
say the same of the same object are one object whose name follows from its content, so that several
processes and a restarted one count on in it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

import structlog

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.specs.errors import AlreadyExists, ApiError, Conflict, FencedOut, NotFound
from vcstack.specs.kinds.event import Event, EventSpec, EventType, ObjectReference
from vcstack.specs.meta import fit_message
from vcstack.specs.resource import AnyResource

PENDING_LIMIT = 1000
"""Different events that may wait to be written."""
KNOWN_LIMIT = 4096
"""Events kept in memory to count on in them without reading."""
QUIET_SECONDS = 10.0
"""The same event is written at most this often; meanwhile it is counted."""
ATTEMPTS = 3

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    resource: AnyResource
    type: EventType
    reason: str
    message: str
    count: int
    first: datetime
    last: datetime


def event_name(uid: str, reason: str, message: str) -> str:
    """Return the name of the event that says this of that object."""
    return "ev-" + hashlib.sha256(f"{uid}\n{reason}\n{message}".encode()).hexdigest()[:24]


class EventRecorder:
    """Takes events from reconcilers and writes them in the background (``run``)."""

    def __init__(
        self, client: ResourceClient, actor: str, clock: Clock, *, metrics: RuntimeMetrics | None = None
    ) -> None:
        self._client, self._actor, self._clock, self._metrics = client, actor, clock, metrics
        self._pending: dict[str, _Pending] = {}
        self._known: dict[str, Event] = {}
        self._written_at: OrderedDict[str, float] = OrderedDict()
        self._added = asyncio.Event()

    def normal(self, resource: AnyResource, reason: str, message: str) -> None:
        """Record that something happened as it should."""
        self._add(resource, EventType.NORMAL, reason, message)

    def warning(self, resource: AnyResource, reason: str, message: str) -> None:
        """Record something that somebody should look at."""
        self._add(resource, EventType.WARNING, reason, message)

    def _add(self, resource: AnyResource, type_: EventType, reason: str, message: str) -> None:
        name, now = event_name(resource.uid, reason, message), self._clock.now()
        pending = self._pending.get(name)
        if pending is not None:
            pending.count += 1
            pending.last = now
        elif len(self._pending) >= PENDING_LIMIT:
            self._drop("full")
        else:
            self._pending[name] = _Pending(resource, type_, reason, message, 1, now, now)
        self._added.set()

    async def run(self) -> None:
        """Write what was recorded, until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            wait = await self.flush()
            if wait is not None:
                await self._clock.sleep(wait)
                self._added.set()

    async def flush(self) -> float | None:
        """Write what is due; return the seconds until more is, None when nothing waits."""
        waits = []
        for name in list(self._pending):
            wait = self._written_at.get(name, -QUIET_SECONDS) + QUIET_SECONDS - self._clock.monotonic()
            if wait > 0:
                waits.append(wait)
                continue
            await self._write(name, self._pending.pop(name))
        return min(waits, default=None)

    async def _write(self, name: str, pending: _Pending) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._remember(name, await self._count(name, pending))
                return
            except FencedOut:
                break
            except (AlreadyExists, NotFound, Conflict):
                self._known.pop(name, None)  # somebody else counts in it too: read it again
            except ApiError as error:
                log.debug("event.dropped", reason=pending.reason, error=str(error))
                break
        self._drop("refused")

    async def _count(self, name: str, pending: _Pending) -> Event:
        project = pending.resource.metadata.project
        known = self._known.get(name)
        if known is None:
            try:
                return await self._client.create(self._build(name, pending))
            except AlreadyExists:
                known = await self._client.get(Event, name, project)
        update = {"count": known.spec.count + pending.count, "last_time": pending.last}
        spec = known.spec.model_copy(update=update)
        return await self._client.update(known.model_copy(update={"spec": spec}))

    def _build(self, name: str, pending: _Pending) -> Event:
        about = pending.resource
        spec = EventSpec(
            regarding=ObjectReference(kind=about.kind, name=about.metadata.name, uid=about.uid),
            type=pending.type,
            reason=pending.reason,
            message=fit_message(pending.message),
            actor=self._actor,
            count=pending.count,
            first_time=pending.first,
            last_time=pending.last,
        )
        return Event.new(name, spec, project=about.metadata.project)

    def _remember(self, name: str, event: Event) -> None:
        self._known[name] = event
        self._written_at[name] = self._clock.monotonic()
        self._written_at.move_to_end(name)
        while len(self._written_at) > KNOWN_LIMIT:
            oldest, _ = self._written_at.popitem(last=False)
            self._known.pop(oldest, None)

    def _drop(self, reason: str) -> None:
        if self._metrics:
            self._metrics.events_dropped.labels(reason).inc()
