"""API keys: told when they have run out; their secrets go before they do."""

from vcstack.controllers.subjects import CREDENTIALS
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.apikey import ACCEPTED, FINALIZER, APIKey
from vcstack.specs.resource import Ref

LOOK_AGAIN_SECONDS = 86_400.0
"""An expiry further away is looked at again by then."""


class APIKeyReconciler:
    """Writes Accepted and removes the secrets of deleted keys."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, key: APIKey | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if key is None:
            return None
        if key.deleting:
            credentials = self._context.backends.get(CREDENTIALS.name)
            if credentials is not None:
                await credentials.delete_prefix(f"apikeys/{key.uid}")
            await self._context.client.remove_finalizer(key, FINALIZER)
            return None
        expiry = key.spec.expires_at
        left = (expiry - self._context.clock.now()).total_seconds() if expiry is not None else None
        expired = left is not None and left <= 0
        message = "It has run out and is good for nothing; set expiresAt anew or delete it." if expired else ""
        reason = "Expired" if expired else "Valid"
        condition = condition_of(key, ACCEPTED, not expired, reason, message, clock=self._context.clock)
        await write_status(self._context.client, key, conditions=[condition])
        return Result(requeue_after=min(left, LOOK_AGAIN_SECONDS)) if left is not None and not expired else None


def build(context: ControllerContext) -> Controller:
    """Return the controller of API keys."""
    return context.controller(APIKeyReconciler(context), APIKey)
