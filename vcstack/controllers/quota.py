"""Quotas: how much of them is in use, as observed. The store holds their limits, in the transactions that take."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from vcstack.controllers.accepting import ACCEPTED
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.quota import WITHIN_LIMITS, Quota
from vcstack.specs.meta import Condition
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref

LOOK_AGAIN_SECONDS = 15.0
"""How old what is observed may be: it changes with every create, and is told of this moment by ``usage``."""


class QuotaUse(Protocol):
    """Knows what is in use."""

    def of(self, project: str | None, name: str) -> Mapping[str, int]:
        """Return how much is in use of each of the quota's limits."""

    def unmeasured(self) -> Sequence[Ref]:
        """Return the objects on hosts of which is not known what they take."""


QUOTA_USE: BackendKey[QuotaUse] = BackendKey("quotause")


class QuotaReconciler:
    """Accepts quotas and writes down what is in use."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._use = context.backend(QUOTA_USE)

    async def reconcile(self, quota: Quota | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if quota is None or quota.deleting:
            return None
        await self._measure()
        used = dict(self._use.of(quota.metadata.project, quota.metadata.name))
        accepted = condition_of(quota, ACCEPTED, True, "Valid", clock=self._context.clock)
        conditions = [accepted, self._compare(quota, used)]
        # A merge patch would leave the limits there that are no more.
        gone = {name: None for name in quota.status.used or {} if name not in used}
        fields = {"used": {**used, **gone}} if used != quota.status.used else {}
        await write_status(self._context.client, quota, fields=fields, conditions=conditions)
        return Result(requeue_after=LOOK_AGAIN_SECONDS)

    async def _measure(self) -> None:
        """Have what objects take that are there from before it was stored with them counted, now that there are limits.

        Any write of theirs does, even one that changes nothing.
        """
        for ref in self._use.unmeasured():
            with contextlib.suppress(NotFound):
                found = await self._context.client.get(get_kind(ref.kind).model, ref.name, ref.project)
                await self._context.client.patch_status(found, {})

    def _compare(self, quota: Quota, used: Mapping[str, int]) -> Condition:
        limits = quota.spec.limits
        over = [f"{name}: {used[name]} of {limits[name]} in use" for name in sorted(used) if used[name] > limits[name]]
        if not over:
            return condition_of(quota, WITHIN_LIMITS, True, "Within", clock=self._context.clock)
        message = f"More is in use than may be, and nothing can be added: {'; '.join(over)}"
        return condition_of(quota, WITHIN_LIMITS, False, "OverLimit", message, clock=self._context.clock)


def build(context: ControllerContext) -> Controller:
    """Return the controller of quotas."""
    return context.controller(QuotaReconciler(context), Quota)
