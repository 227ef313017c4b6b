"""The operator put together: what is watched, the queue, the workers, the lease."""

import asyncio
import os
import secrets
import socket
from typing import Any

import structlog

from vcstack.clock import SystemClock
from vcstack.operator.cloud import Cloud, connect
from vcstack.operator.health import Health, OperatorMetrics
from vcstack.operator.kubernetes import Key, Kubernetes, KubernetesError
from vcstack.operator.lease import Deposed, Lease
from vcstack.operator.places import Places
from vcstack.operator.reconciler import LookAgain, Reconciler
from vcstack.operator.secretvalues import SecretValues
from vcstack.operator.settings import OperatorSettings
from vcstack.operator.statuses import State
from vcstack.operator.watching import Watcher
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.queue import QueueClosed, WorkQueue

log = structlog.get_logger()
AGAIN_SECONDS = 0.1
"""Before what lost a race is looked at again."""
READY_SECONDS = 60.0
"""A replica that has not reached Kubernetes for longer is not ready."""


class Operator:
    """One replica."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        clock = self._clock = SystemClock()
        self._queue: WorkQueue[Key] = WorkQueue(clock, Backoff(first_seconds=0.5, limit_seconds=60.0))
        self._kubernetes = Kubernetes()
        self._watcher = Watcher(self._queue.add, self._note_namespace, settings.namespace)
        self._places = Places(self._kubernetes, settings.namespaces)
        self._cloud = Cloud(connect(settings, clock), settings.name, clock, self._queue.add)
        self._secrets = SecretValues(self._kubernetes, settings.namespace, clock, self._queue.add)
        self._reconciler = Reconciler(
            self._kubernetes, self._cloud, self._places, self._secrets,
            name=settings.name, clock=clock, post=self._watcher.post,
        )  # fmt: skip
        self._lease = Lease(
            self._kubernetes, clock, namespace=settings.namespace, name=settings.name,
            identity=settings.identity or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            seconds=settings.lease_seconds,
        )  # fmt: skip
        self._metrics = OperatorMetrics(
            lambda: ((key.kind, state) for key, state in self._reconciler.states.items()),
            {
                "leading": lambda: float(self._lease.is_held),
                "queue_depth": lambda: float(len(self._queue)),
                "queue_delayed": lambda: float(self._queue.delayed),
                "cloud_connected": lambda: float(all(self._cloud.connected.values())),
            },
        )
        self._health = Health(settings.health_address, self._metrics, alive=lambda: True, ready=self._is_ready)

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the lease, and work until told to stop, or until another replica has taken over."""
        await self._health.start()
        leasing = asyncio.create_task(self._lease.run(), name="lease")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        held = asyncio.create_task(self._lease.wait(), name="held")
        tasks: list[asyncio.Task[Any]] = [leasing, stopping]
        try:
            await asyncio.wait([held, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if held.done():
                tasks += [asyncio.create_task(self._queue.run(), name="delays")]
                tasks += [asyncio.create_task(self._work(), name=f"worker {i}") for i in range(self._settings.workers)]
                tasks += [asyncio.create_task(self._watcher.run(stop), name="kopf")]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            self._queue.close()
            await self._end([held, *tasks])

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Let go of everything; raises what ended a task."""
        for task in tasks:
            if task.get_name() != "kopf":  # it ends by itself, and in order
                task.cancel()
        await self._cloud.aclose()
        await self._secrets.aclose()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self._lease.release()
        await self._health.aclose()
        await self._kubernetes.aclose()
        for result in results:
            if isinstance(result, Deposed):
                log.warning("another replica leads now")
            elif isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            try:
                await self._lease.wait()
                await self._attempt(key)
            finally:
                self._queue.done(key)

    async def _attempt(self, key: Key) -> None:
        """Work on a custom resource, and see to it that it is looked at again if that is of use."""
        try:
            outcome = await self._reconciler.reconcile(key)
        except LookAgain:
            word = "Again"
            self._queue.add_after(key, AGAIN_SECONDS)
        except KubernetesError as error:
            word = "KubernetesError"
            if error.is_conflict:
                self._queue.add_after(key, AGAIN_SECONDS)
            else:
                self._queue.add_after_failure(key)
                log.warning("Kubernetes refused", resource=str(key), error=str(error))
        except Exception:
            # A fault of ours with one object must not end the work on all others.
            word = "Fault"
            self._queue.add_after_failure(key)
            log.exception("a fault", resource=str(key))
        else:
            word = outcome.state.value if outcome else "Gone"
            if outcome is None or outcome.state is State.APPLIED:
                self._queue.forget(key)
            else:
                self._queue.add_after_failure(key)
        self._metrics.attempts.labels(key.kind, word).inc()

    def _note_namespace(self, namespace: str, annotations: object) -> None:
        found = annotations if isinstance(annotations, dict) else None
        if self._places.note(namespace, found):
            for key in [k for k in self._reconciler.states if k.namespace == namespace]:
                self._queue.add(key)

    def _is_ready(self) -> bool:
        return self._lease.asked_at > 0 and self._clock.monotonic() - self._lease.asked_at < READY_SECONDS
