"""Flavors: accepted as they are, and kept while an instance is of that size."""

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.flavor import FINALIZER, Flavor
from vcstack.specs.resource import Ref

ACCEPTED = "Accepted"
"""True at once: the schema says all there is to check."""


class FlavorReconciler:
    """Accepts flavors and holds back their deletion while they are used."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, flavor: Flavor | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if flavor is None:
            return None
        if flavor.deleting:
            await ensure_unused(self._context, flavor)
            await self._context.client.remove_finalizer(flavor, FINALIZER)
            return None
        condition = condition_of(flavor, ACCEPTED, True, "Valid", clock=self._context.clock)
        await write_status(self._context.client, flavor, conditions=[condition])
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of flavors."""
    return context.controller(FlavorReconciler(context), Flavor, watches=watch_users(context, Flavor))
