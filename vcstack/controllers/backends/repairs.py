"""Telling people what was found changed in OVN and put right."""

from collections.abc import Sequence

from vcstack.runtime.events import EventRecorder
from vcstack.specs.resource import AnyResource

REPAIRED = "Repaired"


class Repairs:
    """Tells a repair from a wish: what had to be written again although nothing else is wanted than before.

    What is remembered is lost with the term of leadership: nothing is told of the first look after that.
    """

    def __init__(self, events: EventRecorder) -> None:
        self._events = events
        self._ensured: dict[str, object] = {}

    def note(self, resource: AnyResource, wanted: object, changed: Sequence[str]) -> None:
        """Take note that this is ensured now, and of what had to be written for it."""
        if changed and self._ensured.get(resource.uid) == wanted:
            message = f"Somebody changed it in OVN; it was put right: {', '.join(changed)}."
            self._events.normal(resource, REPAIRED, message)
        self._ensured[resource.uid] = wanted

    def forget(self, uid: str) -> None:
        """Forget an object that is gone."""
        self._ensured.pop(uid, None)
