"""Which replica works: the one that holds a Lease of Kubernetes (coordination.k8s.io/v1).

As in client-go, a lease is over when it was not seen renewed for its duration, by the watcher's own clock. Who cannot
renew it stops before others may take it. Even a replica that is cut off and does not know yet changes nothing: before
each change it reads the custom resource from Kubernetes.
"""

import asyncio
import contextlib
from datetime import datetime

import structlog

from vcstack.clock import Clock
from vcstack.operator.kubernetes import Kubernetes, KubernetesError, Wire

log = structlog.get_logger()


class Deposed(Exception):
    """Another replica has taken over: end, and begin again as the one that waits."""


class Lease:
    """The lease, and whether we hold it."""

    def __init__(
        self, kubernetes: Kubernetes, clock: Clock, *, namespace: str, name: str, identity: str, seconds: int
    ) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._meta = {"name": name, "namespace": namespace}
        self._identity = identity
        self._seconds = seconds
        self._until = 0.0
        self._held = False
        self._seen: tuple[object, float] = (None, 0.0)
        self._renewed = asyncio.Event()
        self.asked_at = 0.0
        """When Kubernetes last answered, by the monotonic clock."""

    @property
    def is_held(self) -> bool:
        """Return whether we may work now."""
        return self._held and self._clock.monotonic() < self._until

    async def wait(self) -> None:
        """Wait until we may work."""
        while not self.is_held:
            self._renewed.clear()
            await self._renewed.wait()

    async def run(self) -> None:
        """Get the lease and keep it. Raises Deposed when another one has taken it from us."""
        while True:
            began = self._clock.monotonic()
            try:
                mine = await self._take(began)
                self.asked_at = began
            except KubernetesError as error:
                mine = None
                log.warning("the lease cannot be renewed", error=str(error))
            if mine:
                if not self._held:
                    log.info("leading", identity=self._identity)
                # A third of its duration is left for what is being done when it cannot be renewed.
                self._held, self._until = True, began + self._seconds * 2 / 3
                self._renewed.set()
            elif mine is False and self._held:
                raise Deposed
            await self._clock.sleep(self._seconds / 3 if mine else self._seconds / 8)

    async def release(self) -> None:
        """Let go of it, so that another replica takes over at once."""
        if self._held:
            with contextlib.suppress(KubernetesError):
                found = await self._kubernetes.find(f"{self._collection}/{self._meta['name']}")
                if found and found["spec"].get("holderIdentity") == self._identity:
                    found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._kubernetes.request("PUT", f"{self._collection}/{self._meta['name']}", found)
        self._held = False

    async def _take(self, now: float) -> bool:
        """Return whether the lease is ours, taken or renewed by this. Raises KubernetesError."""
        path = f"{self._collection}/{self._meta['name']}"
        found = await self._kubernetes.find(path)
        try:
            if found is None:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": self._meta}
                await self._kubernetes.request("POST", self._collection, {**body, "spec": self._spec({})})
                return True
            if not self._may_take(found, now):
                return False
            await self._kubernetes.request("PUT", path, {**found, "spec": self._spec(found.get("spec") or {})})
        except KubernetesError as error:
            if not error.is_conflict:
                raise
            return False
        return True

    def _may_take(self, found: Wire, now: float) -> bool:
        spec = found.get("spec") or {}
        state = (spec.get("holderIdentity"), spec.get("renewTime"))
        if state != self._seen[0]:
            self._seen = (state, now)
        if spec.get("holderIdentity") in (self._identity, "", None):
            return True
        return now >= self._seen[1] + float(spec.get("leaseDurationSeconds") or self._seconds)

    def _spec(self, before: Wire) -> Wire:
        now = _micro_time(self._clock.now())
        same = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same else 1),
        }


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
