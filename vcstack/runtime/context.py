"""What a controller is built from. Every ``controllers/<kind>.py`` has ``def build(context) -> Controller``.

It is called anew for each term of leadership with a client that carries the term's fence, so nothing
remembered in one term reaches the next.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.controller import Controller, Matters, Source, Watch
from vcstack.runtime.events import EventRecorder
from vcstack.runtime.informer import Informer
from vcstack.runtime.informers import Informers
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.runtime.reconciler import Reconciler
from vcstack.specs.resource import AnyResource

T = TypeVar("T")
R = TypeVar("R", bound=AnyResource)


@dataclass(frozen=True, slots=True)
class BackendKey(Generic[T]):
    """The typed name under which a program gives a backend or a setting to controllers."""

    name: str


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """All that a controller may depend on."""

    client: ResourceClient
    """Reads and writes, fenced for the present term; what it writes is seen by the informers at once."""
    informers: Informers
    events: EventRecorder
    clock: Clock
    metrics: RuntimeMetrics | None = None
    backends: Mapping[str, Any] = field(default_factory=dict)
    fence: Any = None
    """The term's proof of leadership, for backends that refuse late writes themselves; opaque here."""

    def backend(self, key: BackendKey[T], default: T | None = None) -> T:
        """Return the backend of that key, or the default.

        Raises:
            LookupError: if the program gave none and there is no default.
        """
        found = self.backends.get(key.name, default)
        if found is None:
            raise LookupError(f"the program gave no backend {key.name!r}")
        return cast(T, found)

    def informer(self, kind: type[R]) -> Informer[R]:
        """Return the program's informer of a kind."""
        return self.informers.of(kind)

    def controller(
        self,
        reconciler: Reconciler[Any],
        *kinds: type[AnyResource],
        name: str = "",
        watches: Mapping[type[AnyResource], Callable[[Any], Any]] | None = None,
        sources: tuple[Source, ...] = (),
        matters: Mapping[type[AnyResource], Matters] | None = None,
        **options: Any,
    ) -> Controller:
        """Return a controller of these kinds.

        watches: other kind → mapper from its object to keys. matters: kind → what is read of its objects.
        options: those of Controller.
        """
        watched = [Watch(self.informer(kind), mapper) for kind, mapper in (watches or {}).items()]
        return Controller(
            reconciler,
            *(self.informer(kind) for kind in kinds),
            name=name,
            watches=watched,
            sources=sources,
            matters={kind.KIND: function for kind, function in (matters or {}).items()},
            clock=self.clock,
            metrics=self.metrics,
            **options,
        )


Build = Callable[[ControllerContext], Controller]
