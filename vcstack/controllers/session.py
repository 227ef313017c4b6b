"""Sessions: deleted when their time is over."""

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.specs.kinds.session import Session
from vcstack.specs.resource import Ref


class SessionReconciler:
    """Deletes sessions that have ended."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, session: Session | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if session is None or session.deleting:
            return None
        left = (session.spec.expires_at - self._context.clock.now()).total_seconds()
        if left > 0:
            return Result(requeue_after=left)
        await self._context.client.delete(ref, uid=session.uid)
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of sessions."""
    return context.controller(SessionReconciler(context), Session)
