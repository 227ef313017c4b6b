"""Rate limit policies: whether the API workers apply them, as each of them says.

The limits themselves are held by the API servers, which read the policies as they change.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.ratelimitpolicy import APPLIED, RateLimitPolicy, WorkerState
from vcstack.specs.resource import Ref

NAMED = 8
"""How many workers a message names."""


class ApiWorkers(Protocol):
    """Where the processes that serve the API are seen."""

    def live_workers(self) -> AsyncIterator[Mapping[str, Mapping[str, int]]]:
        """Yield by each live worker's name which generation of which policy (by uid) it applies, at each change."""


API_WORKERS: BackendKey[ApiWorkers] = BackendKey("apiworkers")


class RateLimitPolicyReconciler:
    """Writes who applies which generation."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._workers = context.backend(API_WORKERS)
        self._live: Mapping[str, Mapping[str, int]] | None = None

    async def reconcile(self, policy: RateLimitPolicy | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if policy is None or policy.deleting or self._live is None:
            return None
        states = [WorkerState(name=n, generation=a.get(policy.uid, 0)) for n, a in sorted(self._live.items())]
        behind = [s.name for s in states if s.generation != policy.metadata.generation]
        applied = len(states) - len(behind)
        if not states:
            reason, message = "NoWorkers", "No API worker is there."
        elif behind:
            reason = "Pending"
            more = f" and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
            message = f"Not yet applied by {', '.join(behind[:NAMED])}{more}."
        else:
            reason, message = "Applied", f"Applied by all {len(states)} API workers."
        done = bool(states) and not behind
        condition = condition_of(policy, APPLIED, done, reason, message, clock=self._context.clock)
        fields = {"workers": states, "applied": f"{applied}/{len(states)}"}
        await write_status(self._context.client, policy, fields=fields, conditions=[condition])
        return None

    async def follow_workers(self) -> AsyncIterator[Ref]:
        """Yield the policies about which a worker says something else than before."""
        async for live in self._workers.live_workers():
            before, self._live = self._live, live
            for policy in self._context.informer(RateLimitPolicy).list():
                if before is None or _seen(before, policy.uid) != _seen(live, policy.uid):
                    yield policy.ref


def _seen(live: Mapping[str, Mapping[str, int]], uid: str) -> dict[str, int]:
    return {name: applied.get(uid, 0) for name, applied in live.items()}


def build(context: ControllerContext) -> Controller:
    """Return the controller of rate limit policies."""
    reconciler = RateLimitPolicyReconciler(context)
    return context.controller(reconciler, RateLimitPolicy, sources=(reconciler.follow_workers,))
