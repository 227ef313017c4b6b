"""What controllers write to kinds that give rights, recorded like what people write: who loses a grant because it
expired, or because somebody deleted the user, is told with what set it off, and who.

Set off by: the object that the controller looked at, from the log's context. On behalf of: who last wrote that object
through the API, as far as the trail knows it already.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import structlog

from vcstack.apiserver.audit.settings import Level
from vcstack.apiserver.audit.trail import Trail
from vcstack.specs.access import Propagation
from vcstack.specs.resource import AnyResource, Ref
from vcstack.store.actor import Actor
from vcstack.store.bound import BoundStore
from vcstack.store.store import Store
from vcstack.store.writes import WRITES, Written

R = TypeVar("R", bound=AnyResource)
CAUSE: Final = ("kind", "project", "name")


class RecordedStore(BoundStore):
    """The store for one controller, with a record of what it creates, changes and deletes."""

    def __init__(self, store: Store, actor: Actor, trail: Trail) -> None:
        super().__init__(store, actor)
        self._trail = trail

    async def create(self, resource: R) -> R:
        """Return the object as created. Raises as ``BoundStore``."""
        if self._trail.policy.for_controllers(resource.kind) is Level.NONE:
            return await super().create(resource)
        writes = _listen()
        made = await super().create(resource)
        await self._note("create", made.ref, writes)
        return made

    async def update(self, resource: R) -> R:
        """Return the object as written. Raises as ``BoundStore``."""
        if self._trail.policy.for_controllers(resource.kind) is Level.NONE:
            return await super().update(resource)
        writes = _listen()
        made = await super().update(resource)
        await self._note("update", made.ref, writes)
        return made

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = Propagation.BACKGROUND
    ) -> None:
        """Ask for the deletion."""
        if self._trail.policy.for_controllers(ref.kind) is Level.NONE:
            await super().delete(ref, uid=uid, propagation=propagation)
            return
        writes = _listen()
        await super().delete(ref, uid=uid, propagation=propagation)
        await self._note("delete", ref, writes)

    async def _note(self, verb: str, ref: Ref, writes: list[Written]) -> None:
        WRITES.set(None)
        if not writes:
            return  # it was so already
        found = {"verb": verb, "kind": ref.kind, **({"project": ref.project} if ref.project else {}), "name": ref.name}
        found |= {"before": str(writes[0].before), "after": str(writes[0].after)}
        if writes[0].domain:
            found["domain"] = writes[0].domain
        await self._trail.note_controller(self.actor.subject, found, _find_cause())


def _listen() -> list[Written]:
    """Return the list that what is written from now on is added to."""
    writes: list[Written] = []
    WRITES.set(writes)
    return writes


def _find_cause() -> Ref | None:
    """Return the object that the controller is looking at."""
    context: Mapping[str, Any] = structlog.contextvars.get_contextvars()
    kind, project, name = (context.get(key) for key in CAUSE)
    return Ref(str(kind), str(project) if project else None, str(name)) if kind and name else None
