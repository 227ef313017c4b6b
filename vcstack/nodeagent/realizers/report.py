"""What a reconcile observed of an instance, gathered for the one status write at its end."""

import contextlib
from collections.abc import Iterator
from typing import Any

from vcstack.clock import Clock
from vcstack.runtime.errors import BackendUnavailable, ReconcileError
from vcstack.runtime.status import condition_of
from vcstack.specs.errors import ApiError
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import AnyResource


class Report:
    """Conditions and status fields of one object."""

    def __init__(self, resource: AnyResource, clock: Clock) -> None:
        self._resource = resource
        self._clock = clock
        self._conditions: dict[str, Condition] = {}
        self.fields: dict[str, Any] = {}
        """Status fields by wire name."""

    @property
    def conditions(self) -> list[Condition]:
        """Return what was set."""
        return list(self._conditions.values())

    def set(self, type_: str, status: bool | ConditionStatus, reason: str, message: str = "") -> None:
        """Note a condition, in place of an earlier one of that type."""
        self._conditions[type_] = condition_of(self._resource, type_, status, reason, message, clock=self._clock)

    def drop(self, type_: str) -> None:
        """Take back what was noted; the object keeps what it had."""
        self._conditions.pop(type_, None)

    def fail(self, type_: str, error: ReconcileError | ApiError, *, what: str = "") -> None:
        """Note why a condition does not hold: Unknown when somebody does not answer, else False."""
        reason = error.reason if isinstance(error, ReconcileError) else error.REASON
        unknown = isinstance(error, BackendUnavailable | ApiError)
        status = ConditionStatus.UNKNOWN if unknown else ConditionStatus.FALSE
        self.set(type_, status, reason, f"{what}{error.message}")

    @contextlib.contextmanager
    def blame(self, type_: str) -> Iterator[None]:
        """Note failures inside under the condition, and let them go on."""
        try:
            yield
        except (ReconcileError, ApiError) as error:
            self.fail(type_, error)
            raise
