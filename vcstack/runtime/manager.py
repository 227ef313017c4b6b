"""The manager: runs informers, controllers and the event recorder of a program.

Each controller runs while this process leads for it. A lost term stops the controller at once and it
campaigns again; a stop of the program lets reconciles under way finish and then steps down.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import structlog

from vcstack.clock import Clock
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.context import Build, ControllerContext
from vcstack.runtime.events import EventRecorder
from vcstack.runtime.informers import FieldsOf, Informers
from vcstack.runtime.leader import ClientFor, Election, Elections, Leadership, SoleElection
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.runtime.observing import ObservingClient
from vcstack.specs.errors import FencedOut

LAST_EVENTS_SECONDS = 3.0
"""How long a stop waits for the last events to be written."""

log = structlog.get_logger(__name__)


class Manager:
    """Runs controllers, each of them wherever it leads."""

    def __init__(
        self,
        builds: Mapping[str, Build],
        client: ResourceClient,
        *,
        clock: Clock,
        actor: str,
        client_for: ClientFor | None = None,
        elections: Elections = SoleElection,
        backends: Mapping[str, Any] | None = None,
        metrics: RuntimeMetrics | None = None,
        fields_of: FieldsOf = lambda kind: "",
        backoff: Backoff | None = None,
    ) -> None:
        self.informers = Informers(client, clock, fields_of=fields_of)
        self.events = EventRecorder(client, actor, clock, metrics=metrics)
        self.leading: set[str] = set()
        self._builds = builds
        self._client_for = client_for or (lambda name, fence: client)
        self._elections = elections
        self._clock = clock
        self._backends = dict(backends or {})
        self._metrics = metrics
        self._backoff = backoff or Backoff(first_seconds=0.2, limit_seconds=10.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until stop is set, then finish what is under way and step down."""
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self.informers.run(), name="informers"),
                group.create_task(self.events.run(), name="events"),
            ]
            async with asyncio.TaskGroup() as seats:
                for name, build in self._builds.items():
                    seats.create_task(self._hold_seat(name, build, stop), name=f"seat-{name}")
            for task in background:
                task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_EVENTS_SECONDS):
                await self.events.flush()

    async def _hold_seat(self, name: str, build: Build, stop: asyncio.Event) -> None:
        """Campaign and lead, again and again, until stop is set."""
        election, failures = self._elections(name), 0
        try:
            while not stop.is_set():
                try:
                    leadership = await self._campaign(election, stop)
                    if leadership is not None:
                        await self._lead(name, build, leadership, stop)
                    failures = 0
                except FencedOut:
                    log.warning("controller.fenced", controller=name)
                except Exception:
                    log.exception("controller.failed", controller=name)
                    failures += 1
                await election.resign()
                if failures:
                    await self._clock.sleep(self._backoff.delay(failures))
        finally:
            await election.resign()

    async def _campaign(self, election: Election, stop: asyncio.Event) -> Leadership | None:
        """Wait until we lead; None when the stop came first."""
        campaign = asyncio.ensure_future(election.campaign())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((campaign, stopped), return_when=asyncio.FIRST_COMPLETED)
            return campaign.result() if campaign.done() else None
        finally:
            await _cancel(campaign, stopped)

    async def _lead(self, name: str, build: Build, leadership: Leadership, stop: asyncio.Event) -> None:
        """Run the controller until the term ends or stop is set."""
        controller = build(self._context(name, leadership.fence))
        self._note(name, True)
        running = asyncio.ensure_future(controller.run(stop))
        lost = asyncio.ensure_future(leadership.lost.wait())
        try:
            await asyncio.wait((running, lost), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            self._note(name, False)
            await _cancel(running, lost)

    def _context(self, name: str, fence: Any) -> ControllerContext:
        client = ObservingClient(self._client_for(name, fence), self.informers)
        return ControllerContext(client, self.informers, self.events, self._clock, self._metrics, self._backends, fence)

    def _note(self, name: str, leads: bool) -> None:
        (self.leading.add if leads else self.leading.discard)(name)
        log.info("controller.leads" if leads else "controller.ended", controller=name)
        if self._metrics:
            self._metrics.leading.labels(name).set(leads)


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
