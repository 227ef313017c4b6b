"""API keys: told when they have run out; their secrets go before they do."""

from datetime import datetime

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
        now, expiry, secrets_end = self._context.clock.now(), key.spec.expires_at, _end_of_secrets(key)
        reason, message = "Valid", ""
        if expiry is not None and expiry <= now:
            reason, message = "Expired", "It has run out and is good for nothing; set expiresAt anew or delete it."
        elif secrets_end is not None and secrets_end <= now:
            reason = "SecretExpired"
            message = "Its secret ended with the right of whoever made it; who has that for good makes one that stays."
        expired = bool(message)
        ends = [(end - now).total_seconds() for end in (expiry, secrets_end) if end is not None]
        condition = condition_of(key, ACCEPTED, not expired, reason, message, clock=self._context.clock)
        await write_status(self._context.client, key, conditions=[condition])
        return Result(requeue_after=min(*ends, LOOK_AGAIN_SECONDS)) if ends and not expired else None


def _end_of_secrets(key: APIKey) -> datetime | None:
    """Return when the last of its secrets ends; None: with the key."""
    status = key.status
    if status.secret_expires_at is None:
        return None
    return max(status.secret_expires_at, status.previous_until or status.secret_expires_at)


def build(context: ControllerContext) -> Controller:
    """Return the controller of API keys."""
    return context.controller(APIKeyReconciler(context), APIKey)
