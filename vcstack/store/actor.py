"""Who writes: kept with each object for the history, and what a write may do depends on it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vcstack.specs.errors import Cause
from vcstack.specs.resource import AnyResource
from vcstack.store.etcd.election import Fence
from vcstack.store.etcd.ops import Compare

if TYPE_CHECKING:
    from vcstack.store.draft import Draft

Guard = Callable[[AnyResource, Mapping[str, Any] | None], Sequence[Cause]]
"""Called with an object as it would be and as it is (None: it is new), before it is written: raises to refuse, and
returns the references that are to be treated as missing."""
Review = Callable[[str, AnyResource, Mapping[str, Any] | None], Awaitable[None] | None]
"""Called with verb (create, update, delete), object as it would be and as it is, once it is valid and allowed. None:
it concerns nobody; else what is to be awaited before it is written: raises to refuse."""
Premise = Callable[["Draft"], Sequence[Compare]]
"""Called with each draft of a write, what changes nothing included: raises to refuse, and returns what has to hold
besides when it is written."""
SYSTEM_PREFIX: Final = "system:"
HOST_PREFIX: Final = "system:host:"


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a write."""

    subject: str
    """The authenticated name: admin, a user, system:host:h1, system:controller:ports."""
    manager: str
    """The field manager: vcctl, console, the controller's name."""
    fence: Fence | None = None
    """The proof of leadership that every write of a leading controller is checked against."""

    guard: Guard | None = None
    """What decides about changes of labels and spec, when not everything is allowed that the store accepts."""
    review: Review | None = None
    """What people's writes are held to besides; the cloud's own parts are not."""
    premise: Premise | None = None
    """What the right to write rests on, where that is not the object's own content alone."""

    @property
    def is_system(self) -> bool:
        """Return whether it is a part of the cloud and no user."""
        return self.subject.startswith(SYSTEM_PREFIX)

    @property
    def is_host(self) -> bool:
        """Return whether it is a host's agent."""
        return self.subject.startswith(HOST_PREFIX)
