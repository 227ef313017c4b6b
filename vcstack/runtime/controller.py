"""The controller: the queue and the workers of one reconciler.

Its loop is the place where errors end: this is where ``except Exception`` stands.
"""

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from vcstack.clock import Clock, SystemClock
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.errors import BackendError, TerminalError, WaitingFor
from vcstack.runtime.informer import Handler, Informer
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.runtime.queue import QueueClosed, WorkQueue
from vcstack.runtime.reconciler import Reconciler, is_paused
from vcstack.specs.errors import ApiError, Conflict, FencedOut, NotFound
from vcstack.specs.resource import AnyResource, Ref

RESYNC_SECONDS = 300.0
"""Every object is looked at this often even when nothing seems to have happened."""
DRAIN_SECONDS = 10.0
"""How long a stop waits for reconciles under way."""

Source = Callable[[], AsyncIterator[Ref]]
"""Opens a stream of keys that something outside changed. When it ends or fails all keys are looked at again."""

Mapper = Callable[[Any], Iterable[Ref]]
"""From a changed object of another kind to the keys that depend on it. Called with its old and its new state."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Another kind whose changes concern the reconciler."""

    informer: Informer[Any]
    mapper: Mapper


Matters = Callable[[Any], object]
"""From an object to all that a reconciler reads of it: a change that leaves this equal wakes nobody."""


def asked_of(resource: AnyResource) -> tuple[object, ...]:
    """Return all but the status, as ``Matters`` may: what others ask of the object."""
    meta = resource.metadata
    system = (meta.uid, meta.generation, meta.deletion_timestamp, meta.finalizers)
    return (*system, meta.labels, meta.annotations, meta.owner_references)


def states_of(resource: AnyResource, *types: str) -> tuple[object, ...]:
    """Return the conditions of these types without their times, as ``Matters`` may."""
    found = (resource.find_condition(type_) for type_ in types)
    return tuple(c and (c.status, c.reason, c.message, c.observed_generation) for c in found)


log = structlog.get_logger(__name__)


class Controller:
    """Calls one reconciler for every key that may need it, each by one worker at a time.

    Attributes:
        name: its seat in elections and its label in metrics.
        reconciler: the code for the kind.
        informers: by kind; whose objects are reconciled.
        listeners: called with (old, new) at each change of another informer while it runs.

    ``matters`` tells by kind which changes wake it; without it, all changes of the kind do, its own writes too.
    """

    def __init__(
        self,
        reconciler: Reconciler[Any],
        *informers: Informer[Any],
        name: str = "",
        workers: int = 4,
        resync_seconds: float = RESYNC_SECONDS,
        watches: Sequence[Watch] = (),
        sources: Sequence[Source] = (),
        listeners: Sequence[tuple[Informer[Any], Handler[Any]]] = (),
        matters: Mapping[str, Matters] | None = None,
        clock: Clock | None = None,
        metrics: RuntimeMetrics | None = None,
        backoff: Backoff | None = None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self.name = name or informers[0].kind.KIND.lower()
        self.reconciler = reconciler
        self.informers = {i.kind.KIND: i for i in informers}
        self.listeners = listeners
        self._matters = matters or {}
        self._watches, self._sources = watches, sources
        self._workers, self._resync_seconds, self._drain_seconds = workers, resync_seconds, drain_seconds
        self._clock = clock or SystemClock()
        self._metrics = metrics
        self._backoff = backoff or Backoff()
        self.queue: WorkQueue[Ref] = WorkQueue(self._clock, self._backoff)
        self._fenced = asyncio.Event()
        start = uuid.uuid4().hex[:6]
        self._ids = (f"{start}-{n}" for n in itertools.count(1))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stop is set, then finish what is under way. Cancellation stops at once.

        Raises:
            FencedOut: when a write was refused because we lead no longer.
        """
        with contextlib.ExitStack() as handlers:
            for informer in self.informers.values():
                handlers.callback(informer.add_handler(self._on_change))
            for watch in self._watches:
                handlers.callback(watch.informer.add_handler(self._on_change_of(watch.mapper)))
            for informer, listener in self.listeners:
                handlers.callback(informer.add_handler(listener, replay=True))
            if await self._wait_synced(stop):
                self.enqueue_all()
                await self._run_workers(stop)

    def enqueue_all(self, *, background: bool = True) -> None:
        """Have every object looked at."""
        for informer in self.informers.values():
            for resource in informer.list():
                self.queue.add(resource.ref, background=background)

    async def _wait_synced(self, stop: asyncio.Event) -> bool:
        """Wait for the first lists; return False when the stop came first."""
        needed = [*self.informers.values(), *(w.informer for w in self._watches)]
        synced = asyncio.gather(*(i.wait_synced() for i in needed))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((synced, stopped), return_when=asyncio.FIRST_COMPLETED)
            return synced.done()
        finally:
            synced.cancel()
            stopped.cancel()
            await asyncio.gather(synced, stopped, return_exceptions=True)

    async def _run_workers(self, stop: asyncio.Event) -> None:
        names = [f"{self.name}-worker-{n}" for n in range(self._workers)]
        workers = [asyncio.create_task(self._work(), name=n) for n in names]
        feeders = [asyncio.create_task(self.queue.run()), asyncio.create_task(self._resync())]
        feeders += [asyncio.create_task(self._follow(s)) for s in self._sources]
        endings = [asyncio.create_task(stop.wait()), asyncio.create_task(self._fenced.wait())]
        try:
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            self.queue.close()
            if not self._fenced.is_set():
                await asyncio.wait(workers, timeout=self._drain_seconds)
        finally:
            tasks = [*workers, *feeders, *endings]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._fenced.is_set():
            raise FencedOut(f"controller {self.name} leads no longer")

    async def _work(self) -> None:
        while True:
            try:
                ref = await self.queue.get()
            except QueueClosed:
                return
            try:
                await self._reconcile(ref)
            finally:
                self.queue.done(ref)
            await asyncio.sleep(0)

    async def _reconcile(self, ref: Ref) -> None:
        waited, began = self.queue.waited(ref), self._clock.monotonic()
        informer = self.informers.get(ref.kind)
        resource = informer.get(ref) if informer else None
        if resource is not None and is_paused(resource):
            return
        with structlog.contextvars.bound_contextvars(**self._describe(ref, resource)):
            outcome = await self._call(resource, ref)
        if self._metrics:
            took = self._clock.monotonic() - began
            self._metrics.reconcile_seconds.labels(self.name).observe(took)
            self._metrics.reconcile_lag_seconds.labels(self.name).observe(waited + took)
            self._metrics.reconciles.labels(self.name, outcome).inc()
            self._metrics.queue_depth.labels(self.name).set(len(self.queue))
            self._metrics.delayed.labels(self.name).set(self.queue.delayed)

    async def _call(self, resource: AnyResource | None, ref: Ref) -> str:
        """Reconcile once and see to the next time; return the outcome in a word."""
        try:
            result = await self.reconciler.reconcile(resource, ref)
        except FencedOut:
            self._fenced.set()
            return "fenced"
        except TerminalError as error:
            self.queue.forget(ref)
            log.warning("reconcile.terminal", reason=error.reason, message=error.message)
            return "terminal"
        except WaitingFor as error:
            self.queue.forget(ref)
            self.queue.add_after(ref, error.after_seconds)
            log.debug("reconcile.waiting", reason=error.reason, message=error.message)
            return "waiting"
        except (Conflict, NotFound) as error:  # the copy was stale; the newer state is on its way
            delay = self.queue.add_after_failure(ref)
            log.debug("reconcile.stale", error=str(error), retry_seconds=round(delay, 3))
            return "stale"
        except (BackendError, ApiError) as error:
            delay = self.queue.add_after_failure(ref)
            log.warning("reconcile.retry", error=str(error), retry_seconds=round(delay, 3))
            return "retry"
        except Exception:
            delay = self.queue.add_after_failure(ref)
            log.exception("reconcile.failed", retry_seconds=round(delay, 3))
            return "error"
        self.queue.forget(ref)
        if result is not None and result.requeue_after is not None:
            self.queue.add_after(ref, result.requeue_after)
        return "done"

    def _describe(self, ref: Ref, resource: AnyResource | None) -> dict[str, Any]:
        known = {"uid": resource.uid, "generation": resource.metadata.generation} if resource else {}
        place = {"controller": self.name, "kind": ref.kind, "project": ref.project, "name": ref.name}
        return {**place, **known, "reconcile_id": next(self._ids)}

    def _on_change(self, old: AnyResource | None, new: AnyResource | None) -> None:
        changed = new if new is not None else old
        if changed is not None and self._concerns(old, new):
            self.queue.add(changed.ref)

    def _on_change_of(self, mapper: Mapper) -> Callable[[Any, Any], None]:
        def handler(old: AnyResource | None, new: AnyResource | None) -> None:
            for state in (old, new) if self._concerns(old, new) else ():
                for ref in mapper(state) if state is not None else ():
                    self.queue.add(ref)

        return handler

    def _concerns(self, old: AnyResource | None, new: AnyResource | None) -> bool:
        if old is None or new is None:
            return True
        matters = self._matters.get(new.kind)
        return matters is None or matters(old) != matters(new)

    async def _resync(self) -> None:
        rng = random.Random()  # noqa: S311 - spreads load, hides nothing
        while True:
            await self._clock.sleep(self._resync_seconds * rng.uniform(0.9, 1.1))
            self.enqueue_all()

    async def _follow(self, source: Source) -> None:
        """Enqueue what the source yields; open it again when it breaks, and look at all for what was missed."""
        failures = 0
        while True:
            try:
                async for ref in source():
                    failures = 0
                    self.queue.add(ref)
            except Exception:
                log.exception("source.broken", controller=self.name)
            failures += 1
            await self._clock.sleep(self._backoff.delay(failures))
            self.enqueue_all()
