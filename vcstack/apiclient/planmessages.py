"""Plans of applies, as they are on the wire: requests to ``/api/v1/plan`` and its answers."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from vcstack.specs.errors import ErrorStatus
from vcstack.specs.model import Change, Model

MOST_ITEMS = 1000
"""Objects of one plan."""
ManagerName = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]


class PlannedElsewhere(Model):
    """An object of the same set that is planned in another request."""

    kind: str
    """Its kind."""
    name: str
    """Its name."""


class ApplyPlanRequest(Model):
    """What would an apply of these objects do?"""

    items: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_ITEMS)]
    """The objects as they would be applied, each with its kind."""
    field_manager: ManagerName
    """Who would own the fields written."""
    force: bool = False
    """Whether fields of other managers would be taken over."""
    beside: Annotated[list[PlannedElsewhere], Field(max_length=10_000)] = Field(default_factory=list)
    """What else is in the set, where that is too large for one request: objects may refer to it."""
    replace: bool = False
    """Whether objects that are there would be made just so, whoever owns their fields, as by PUT."""


class PlannedAction(StrEnum):
    """What would become of an object."""

    CREATE = "Create"
    UPDATE = "Update"
    UNCHANGED = "Unchanged"
    REFUSED = "Refused"


class PlannedChange(Model):
    """One field that would change."""

    path: str
    """Items of keyed lists by name: spec.rules[ssh].portMin."""
    from_: Annotated[Any, Field(alias="from")] = None
    """The value before; absent: there is none. Secrets are stand-ins."""
    to: Any = None
    """The value after; absent: there is none."""
    takes: Change
    """What the change takes."""


class PlannedItem(Model):
    """What would become of one object."""

    action: PlannedAction
    """What would be done."""
    kind: str
    """The kind as given."""
    project: str | None = None
    """The project, of what lies in one."""
    name: str
    """The name as given."""
    resource_version: str | None = None
    """The version that the plan was made on; absent: the object does not exist."""
    changes: list[PlannedChange] = Field(default_factory=list)
    """The fields that differ; of what is refused, those that were asked for."""
    refusal: ErrorStatus | None = None
    """Why it would be refused."""
    warnings: list[str] = Field(default_factory=list)
    """What policies warn of, and the kind itself of what is dangerous."""


class ApplyPlanReply(Model):
    """What an apply of these objects would do, in the order in which they were given."""

    kind: str = "Plan"
    """Always Plan."""
    items: list[PlannedItem]
    """One for each object."""
    refusal: ErrorStatus | None = None
    """Why all of them together would be refused, though each by itself might pass: a quota."""
