"""What wakes the network controllers besides their own objects, and the sweep of what nobody owns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import structlog

from vcstack.clock import Clock
from vcstack.controllers.backends.network import Fence, NetworkBackend, Owner
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import RESYNC_SECONDS, Source
from vcstack.runtime.errors import BackendError
from vcstack.runtime.informer import Handler
from vcstack.specs.errors import ApiError
from vcstack.specs.resource import AnyResource, Ref

NETWORK: BackendKey[NetworkBackend] = BackendKey("network")
"""The program gives its network backend under this key."""
SWEEP_PAUSE_SECONDS = 5.0
"""Unknown rows are looked into at most this often."""

R = TypeVar("R", bound=AnyResource)
Delete = Callable[[str], Any]
Select = Callable[[R | None, R | None], Iterable[Ref]]

log = structlog.get_logger(__name__)


def build_backend(context: ControllerContext, seat: str) -> NetworkBackend:
    """Return the network backend; in a term of leadership it writes under the term's token.

    The token is the create_revision of the seat's election key, which rises from leader to leader.
    """
    token = getattr(context.fence, "create_revision", None)
    return context.backend(NETWORK).fenced(None if token is None else Fence(token, seat))


def ignore(resource: AnyResource) -> Iterable[Ref]:
    """Map to nothing: the informer is only read, and is waited for before the first reconcile."""
    return ()


class Wake:
    """A source of keys found by comparing the old and new states of other objects.

    With a delay, keys are gathered for so long: many changes make one reconcile.
    """

    def __init__(self, clock: Clock, delay_seconds: float = 0.0) -> None:
        self._clock = clock
        self._delay_seconds = delay_seconds
        self._pending: dict[Ref, None] = {}
        self._awake = asyncio.Event()

    def on(self, select: Select[Any]) -> Handler[Any]:
        """Return an informer's handler that wakes what select returns for (old, new)."""

        def handler(old: Any, new: Any) -> None:
            self.add(*select(old, new))

        return handler

    def add(self, *refs: Ref) -> None:
        """Wake these."""
        if refs:
            self._pending.update(dict.fromkeys(refs))
            self._awake.set()

    async def stream(self) -> AsyncIterator[Ref]:
        """Yield the keys, for ever."""
        while True:
            await self._awake.wait()
            if self._delay_seconds:
                await self._clock.sleep(self._delay_seconds)
            self._awake.clear()
            pending, self._pending = self._pending, {}
            for ref in pending:
                yield ref


class Throttle:
    """Lets something be written at most once in a while per object.

    A status write wakes its own object, so a count that is moving would otherwise be written without pause.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._last: dict[str, float] = {}

    def remaining(self, uid: str) -> float:
        """Return the seconds until it may be written again; 0 when it may be now."""
        return max(0.0, self._last.get(uid, -self._seconds) + self._seconds - self._clock.monotonic())

    def note(self, uid: str) -> None:
        """Take note that it is written now."""
        self._last[uid] = self._clock.monotonic()

    def forget(self, uid: str) -> None:
        """Forget an object that is gone."""
        self._last.pop(uid, None)


class OwnedRows:
    """The rows of one kind in OVN: which objects to look at when they change, and which nobody owns."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend, kind: type[AnyResource], delete: Delete):
        self._client, self._clock = context.client, context.clock
        self._informer = context.informer(kind)
        self._backend, self._kind, self._delete = backend, kind, delete
        self._sweep_now = asyncio.Event()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Return the sources for the controller."""
        return (self.follow, self.sweep_regularly)

    async def follow(self) -> AsyncIterator[Ref]:
        """Yield the objects whose rows changed, all of them when anything may have."""
        async for change in self._backend.changes([self._kind.KIND]):
            if change.owner is None:
                self._sweep_now.set()
                for resource in self._informer.list():
                    yield resource.ref
            elif self._owns(change.owner):
                yield change.owner.ref
            else:
                self._sweep_now.set()

    def _owns(self, owner: Owner) -> bool:
        found = self._informer.get(owner.ref)
        return found is not None and found.uid == owner.uid

    async def sweep_regularly(self) -> AsyncIterator[Ref]:
        """Sweep at the start, when rows of unknown owners appear, and with each resync.

        Yields what was deleted; there is nothing left to reconcile of it.
        """
        while True:
            self._sweep_now.clear()
            try:
                for owner in await self.sweep():
                    yield owner.ref
            except (BackendError, ApiError) as error:
                log.warning("sweep.failed", kind=self._kind.KIND, error=str(error))
                self._sweep_now.set()
            waited = 0.0
            while waited == 0.0 or (waited < RESYNC_SECONDS and not self._sweep_now.is_set()):
                await self._clock.sleep(SWEEP_PAUSE_SECONDS)
                waited += SWEEP_PAUSE_SECONDS

    async def sweep(self) -> list[Owner]:
        """Delete the rows of ours whose owner is gone from the store, and return their owners.

        The rows are read first and the objects after them, consistently: an object is stored before its
        rows are written, so what is missing then is gone.
        """
        owners = await self._backend.list_owned(self._kind.KIND)
        if all(self._owns(owner) for owner in owners):
            return []
        alive = {resource.uid for resource in (await self._client.list(self._kind)).items}
        garbage = [owner for owner in owners if owner.uid not in alive]
        for owner in garbage:
            log.info("sweep.deletes", kind=owner.kind, uid=owner.uid, project=owner.project, name=owner.name)
            await self._delete(owner.uid)
        return garbage
