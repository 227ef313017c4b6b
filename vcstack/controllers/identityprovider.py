"""Identity providers: asked now and then whether logins by them would work, and kept while a user comes from there.

Logins do not go by what is found here: each asks the provider itself.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, Protocol

from vcstack.controllers.subjects import end_sessions
from vcstack.runtime.backoff import Backoff
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.errors import BackendError, BackendUnavailable
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.identityprovider import ANSWERING, FINALIZER, IdentityProvider, secret_of
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.meta import format_time
from vcstack.specs.resource import Ref

INTERVAL_SECONDS: Final = 300.0
"""How often one that answers is asked: two small requests, or a bind and two searches."""
RETRIES: Final = Backoff(first_seconds=5.0, limit_seconds=INTERVAL_SECONDS, jitter=0.0)
WORKERS: Final = 8
"""Providers at once: one that does not answer keeps a place for up to half a minute."""


class Asking(Protocol):
    """Asks providers."""

    async def ask(self, provider: IdentityProvider) -> None:
        """Return when logins by it would work. Raises BackendUnavailable, BackendRefused."""


ASKING: BackendKey[Asking] = BackendKey("identity-providers")


class IdentityProviderReconciler:
    """Asks, and says what came of it."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._asking = context.backend(ASKING)
        self._secrets = context.informer(Secret)
        self._asked: dict[str, object] = {}
        """By uid: what was asked with. Whoever leads anew asks at once."""

    async def reconcile(self, provider: IdentityProvider | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if provider is None:
            return None
        if provider.deleting:
            self._asked.pop(provider.uid, None)
            await ensure_unused(self._context, provider)
            await self._context.client.remove_finalizer(provider, FINALIZER)
            return None
        if not provider.spec.enabled:
            self._asked.pop(provider.uid, None)
            await end_sessions(self._context, f"spec.identityProvider={ref.name}")
            message = "Nobody logs in by it, and it is not asked, while spec.enabled is false."
            condition = condition_of(provider, ANSWERING, False, "Disabled", message, clock=self._context.clock)
            await write_status(self._context.client, provider, conditions=[condition])
            return None
        wait = self._time_to_ask(provider)
        if wait:
            return Result(requeue_after=wait)
        self._asked[provider.uid] = self._asked_with(provider)
        return Result(requeue_after=await self._ask(provider))

    def using(self, secret: Secret) -> Iterable[Ref]:
        """Return the providers that are asked with a Secret's value."""
        return [p.ref for p in self._context.informer(IdentityProvider).list() if secret_of(p) == secret.ref]

    async def _ask(self, provider: IdentityProvider) -> float:
        """Ask and write what came of it; return when to ask again."""
        try:
            await self._asking.ask(provider)
        except BackendError as error:
            return await self._report_failure(provider, error)
        condition = condition_of(provider, ANSWERING, True, "Answering", clock=self._context.clock)
        now = format_time(self._context.clock.now())
        await write_status(
            self._context.client, provider, fields={"answeredAt": now, "failures": 0}, conditions=[condition]
        )
        if provider.status.failures:
            self._context.events.normal(provider, "Answering", "Logins by it work again.")
        return INTERVAL_SECONDS

    async def _report_failure(self, provider: IdentityProvider, error: BackendError) -> float:
        failures = (provider.status.failures or 0) + 1
        reason = "NotAnswering" if isinstance(error, BackendUnavailable) else "NotUsable"
        message = f"Nobody can log in by it: {error.message}. It is asked again."
        condition = condition_of(provider, ANSWERING, False, reason, message, clock=self._context.clock)
        fields = {"failedAt": format_time(self._context.clock.now()), "failures": failures}
        before = provider.find_condition(ANSWERING)
        await write_status(self._context.client, provider, fields=fields, conditions=[condition])
        if before is None or (before.status, before.message) != (condition.status, condition.message):
            self._context.events.warning(provider, reason, message)
        return RETRIES.delay(failures)

    def _time_to_ask(self, provider: IdentityProvider) -> float:
        """Return how long to wait, by what the status says: that is the same for whoever leads."""
        status = provider.status
        if self._asked.get(provider.uid) != self._asked_with(provider):
            return 0.0
        last, pause = status.answered_at, INTERVAL_SECONDS
        if status.failures:
            last, pause = status.failed_at, RETRIES.delay(status.failures)
        if last is None:
            return 0.0
        left = (last + timedelta(seconds=pause) - self._context.clock.now()).total_seconds()
        return min(max(0.0, left), INTERVAL_SECONDS)

    def _asked_with(self, provider: IdentityProvider) -> object:
        ref = secret_of(provider)
        secret = self._secrets.get(ref) if ref else None
        return provider.metadata.generation, secret and (secret.uid, secret.metadata.generation)


def build(context: ControllerContext) -> Controller:
    """Return the controller of identity providers."""
    reconciler = IdentityProviderReconciler(context)
    return context.controller(
        reconciler,
        IdentityProvider,
        watches=dict(watch_users(context, IdentityProvider)) | {Secret: reconciler.using},
        matters={Secret: asked_of},
        workers=WORKERS,
    )
