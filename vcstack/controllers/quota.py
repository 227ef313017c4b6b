"""Quotas: accepted as they are. The store holds their limits, in the transactions that take what is limited."""

from vcstack.controllers.accepting import accept
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.specs.kinds.quota import Quota
from vcstack.specs.resource import Ref


class QuotaReconciler:
    """Accepts quotas."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, quota: Quota | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if quota is not None and not quota.deleting:
            await accept(self._context, quota)
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of quotas."""
    return context.controller(QuotaReconciler(context), Quota)
