"""The contract between the runtime and the code for one kind.

A reconcile has a fixed order: get → gone? done → deleting? finalize → observe → diff → act → conditions →
one status write. It is level-based (it never learns what event woke it), idempotent and safe to kill at
any line. The first two steps, the pause and every retry are the runtime's.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from vcstack.specs.resource import AnyResource, Ref

R = TypeVar("R", bound=AnyResource)
R_contra = TypeVar("R_contra", bound=AnyResource, contravariant=True)

PAUSED_ANNOTATION = "vcstack.io/paused"
"""Set to "true" on any object: reconcilers leave it alone until it is removed (or the object is deleted)."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a reconcile that did not fail ended."""

    requeue_after: float | None = None
    """Seconds until it is looked at again in any case. None: the next event or resync will do."""


class Reconciler(Protocol[R_contra]):
    """Code that makes one kind's objects so.

    ``reconcile`` gets the object from the informer, or None once it is gone. It returns when nothing is
    left to do, or raises:

    - ``TerminalError``: only a change of the object helps;
    - ``WaitingFor``: a dependency is missing;
    - anything else: tried again with exponential backoff.

    The same object is never given to two workers at once.
    """

    async def reconcile(self, resource: R_contra | None, ref: Ref) -> Result | None:
        """Make it so, once."""


def is_paused(resource: AnyResource) -> bool:
    """Return whether reconcilers are to leave the object alone. A deletion is never paused."""
    return resource.metadata.annotations.get(PAUSED_ANNOTATION) == "true" and not resource.deleting
