"""What is accepted as it is: its schema and references say all there is to check."""

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused
from vcstack.specs.resource import AnyResource, Ref

ACCEPTED = "Accepted"
"""True at once."""


async def accept(context: ControllerContext, resource: AnyResource, reason: str = "Valid") -> None:
    """Write that the object is as it should be."""
    condition = condition_of(resource, ACCEPTED, True, reason, clock=context.clock)
    await write_status(context.client, resource, conditions=[condition])


class AcceptingReconciler:
    """Accepts objects and holds back their deletion while they are used."""

    def __init__(self, context: ControllerContext, finalizer: str) -> None:
        self._context = context
        self._finalizer = finalizer

    async def reconcile(self, resource: AnyResource | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is None:
            return None
        if resource.deleting:
            await ensure_unused(self._context, resource)
            await self._context.client.remove_finalizer(resource, self._finalizer)
            return None
        await accept(self._context, resource)
        return None
